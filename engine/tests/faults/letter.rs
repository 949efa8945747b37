//! `Letter`: two releases of one saga. The second one weighs a letter before it is posted, which the first has never heard of.
//!
//! Franked (taken back by a refund), it rests, and is posted, which cannot be taken back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stepwise_engine::{
    Cause, Key, Next, Outcome, Part, Probe, Saga, Terms, Undoing, Undone, Unexpected, UpcastError,
    signals, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::outside::{Outside, Reply, Request, patient};

/// The first release.
pub(crate) const OLD: u16 = 1;
/// The second one.
pub(crate) const NEW: u16 = 2;

pub(crate) struct Letter<const RELEASE: u16>;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Franking,
    Resting,
    Weighing,
    Posting,
    Posted,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Franked,
    Rested,
    Weighed,
    Posted,
    Cancel,
}

signals! {
    pub(crate) enum Signal as Event { Cancel => refuse }
}

steps! {
    pub(crate) enum Step done by Letters -> Event, undone for String {
        Frank => call(frank, outside("stamp")).probe(find_stamp).undo_call(refund, long()),
        Weigh => call(weigh, long()).repeatable().no_undo(),
        Post => call(post, outside("post")).probe(find_post).pivot(),
    }
}

fn long() -> Terms {
    Terms { timeout: Duration::from_secs(60), retry: patient(), ..Terms::new() }
}

fn outside(kind: &'static str) -> Terms {
    Terms { effect: Terms::effect(kind).effect, ..long() }
}

impl<const RELEASE: u16> Saga for Letter<RELEASE> {
    const NAME: &'static str = "letter";
    const VERSION: u16 = RELEASE;
    type Input = ();
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(State::Franking).run(Step::Frank)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Franking, Event::Franked) => {
                to(State::Resting).or_after(Duration::from_millis(300), Event::Rested)
            }
            (State::Resting, Event::Rested) if RELEASE == OLD => to(State::Posting).run(Step::Post),
            (State::Resting, Event::Rested) => to(State::Weighing).run(Step::Weigh),
            (State::Weighing, Event::Weighed) => to(State::Posting).run(Step::Post),
            (State::Posting, Event::Posted) => to(State::Posted).done(),
            (State::Franking | State::Resting | State::Weighing, Event::Cancel) => {
                unwind("cancelled".to_owned())
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn upcast(from: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        // Everything that the first release stores means the same in the second.
        if from == OLD { Ok(json) } else { Err(UpcastError::Missing { from, part }) }
    }
}

impl<const RELEASE: u16> Samples for Letter<RELEASE> {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Frank => vec![Sample::done(Event::Franked)],
            Step::Weigh => vec![Sample::done(Event::Weighed)],
            Step::Post => vec![Sample::done(Event::Posted)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Cancel]
    }
}

pub(crate) struct LetterSteps(pub(crate) Outside);

impl LetterSteps {
    async fn ask(&self, op: &str, key: &Key, done: Event) -> Outcome<Event> {
        let request = Request::Do { op: op.to_owned(), key: key.to_string(), reference: None };
        match self.0.ask(request).await {
            Ok(Reply::Done(reference)) => Outcome::confirmed(done, reference),
            Ok(_) => Outcome::NotDone(Cause::new("refused")),
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn find(&self, key: &Key, done: Event) -> Probe<Event> {
        match self.0.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference)) => Probe::confirmed(done, reference),
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(_) => Probe::Unknown(Cause::new("refused")),
            Err(cause) => Probe::Unknown(cause),
        }
    }
}

impl Letters for LetterSteps {
    async fn frank(&self, key: &Key) -> Outcome<Event> {
        self.ask("frank", key, Event::Franked).await
    }

    async fn find_stamp(&self, key: &Key) -> Probe<Event> {
        self.find(key, Event::Franked).await
    }

    async fn refund(&self, undoing: &Undoing<String>) -> Undone {
        match self.0.ask(Request::Undo { key: undoing.step_key.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }

    async fn weigh(&self, _: &Key) -> Outcome<Event> {
        Outcome::event(Event::Weighed)
    }

    async fn post(&self, key: &Key) -> Outcome<Event> {
        self.ask("post", key, Event::Posted).await
    }

    async fn find_post(&self, key: &Key) -> Probe<Event> {
        self.find(key, Event::Posted).await
    }
}
