//! A saga whose types do not read what they write: exploring names each of them.

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Next, Saga, Unexpected, signals, stay, steps,
    testing::{Sample, Samples, explore},
    to, unwind,
};

struct Forgetful;

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Input {
    /// It is never written.
    #[serde(skip)]
    copies: u8,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Printing {
        #[serde(skip)]
        pages: u8,
    },
    Waiting(Paper),
    Printed,
}

/// It is written as a word and read from a number.
#[derive(Deserialize, Clone, Debug, PartialEq)]
struct Paper(u8);

impl Serialize for Paper {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("A4")
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Printed {
        #[serde(skip)]
        pages: u8,
    },
    Jam,
    Refill(Signal),
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Sheets {
    #[serde(skip)]
    many: u8,
}

signals! {
    enum Signal as Event::Refill { Refill(sheets: Sheets) => refuse }
}

/// It counts each time that it is read.
#[derive(Serialize, Clone, Debug)]
struct Reason {
    read: u8,
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stored {
            read: u8,
        }
        Stored::deserialize(deserializer).map(|Stored { read }| Self { read: read + 1 })
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self { read: 0 }
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Pages {
    #[serde(skip)]
    last: u8,
}

steps! {
    enum Step done by Printers -> Event, undone for Reason {
        Print(pages: Pages) => call(print).repeatable().no_undo(),
    }
}

impl Saga for Forgetful {
    const NAME: &'static str = "forgetful";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        to(State::Printing { pages: input.copies }).run(Step::Print(Pages { last: 9 }))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Printing { .. }, Event::Printed { .. }) => to(State::Waiting(Paper(4))).wait(),
            (State::Printing { .. }, Event::Jam) => unwind(Reason { read: 0 }),
            (State::Waiting(_), Event::Refill(_)) => to(State::Printed).done(),
            (state, Event::Refill(_)) => stay(state),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Forgetful {
    fn inputs() -> Vec<Input> {
        vec![Input { copies: 3 }]
    }

    fn outcomes(_: &Step) -> Vec<Sample<Event>> {
        vec![Sample::done(Event::Printed { pages: 7 }), Sample::refused(Event::Jam)]
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Refill(Sheets { many: 5 })]
    }
}

#[test]
fn exploring_names_each_type_that_does_not_read_what_it_writes() {
    let faults = explore::<Forgetful>().faults;
    for (what, why) in [
        ("the input Input", "copies: 3 } is stored as {} and read as Input { copies: 0 }"),
        ("the state in Printing", "pages: 3 } is stored as"),
        ("the state in Waiting", "it is stored as {\"Waiting\":\"A4\"}, which cannot be read"),
        ("the pending step in Printing", "last: 9 }) is stored as"),
        ("the event Printed", "pages: 7 } is stored as"),
        ("the signal Refill", "many: 5 }) is stored as"),
        ("the event Refill", "many: 5 })) is stored as"),
        ("the reason in", "it is stored as {\"read\":0} and read as {\"read\":1}"),
    ] {
        let named = |fault: &&String| fault.starts_with(what) && fault.contains(why);
        assert!(faults.iter().any(|fault| named(&fault)), "{what}: {why} in {faults:#?}");
    }
}
