//! `Trip`: five bookings in a row, each an effect with a probe and an undo. It may be declined late, stopped at any time, and counts notes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Cause, Effect, Key, Next, Outcome, Probe, Saga, Terms, Undoing, Undone, Unexpected, signals,
    stay, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::{
    outside::{Illness, Outside, Reply, Request, patient},
    told::Sabotage,
};

/// How many bookings.
pub(crate) const LEGS: u8 = 5;
/// The provider of this one acts late at times.
pub(crate) const LATE_LEG: u8 = 3;
/// So late at most.
pub(crate) const LATE: Duration = Duration::from_millis(100);

pub(crate) struct Trip;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) struct At {
    leg: u8,
    noted: u32,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Booked,
    Declined,
    Cancel,
    Note,
    /// An input that makes the saga's own code panic.
    Boom,
}

signals! {
    pub(crate) enum Signal as Event { Cancel => refuse, Note => refuse }
}

steps! {
    pub(crate) enum Step done by Trips -> Event, undone for String {
        Book(leg: u8) => call(book, booking(*leg)).probe(find).undo_call(take_back, long()),
    }
}

fn long() -> Terms {
    Terms { timeout: Duration::from_secs(60), retry: patient(), ..Terms::new() }
}

fn booking(leg: u8) -> Terms {
    Terms {
        effect: Terms::effect("booking").effect,
        // Ten times as long as it takes: the machine may be busy.
        settles_after: if leg == LATE_LEG { LATE * 10 } else { Duration::ZERO },
        ..long()
    }
}

impl Saga for Trip {
    const NAME: &'static str = "trip";
    type Input = ();
    type State = At;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(At { leg: 1, noted: 0 }).run(Step::Book(1))
    }

    fn on(At { leg, noted }: At, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match event {
            Event::Booked if leg == LEGS => to(At { leg: 0, noted }).done(),
            Event::Booked => to(At { leg: leg + 1, noted }).run(Step::Book(leg + 1)),
            Event::Declined => unwind("declined".to_owned()),
            Event::Cancel => unwind("cancelled".to_owned()),
            Event::Note => stay(At { leg, noted: noted + 1 }),
            Event::Boom => panic!("told to"),
        })
    }
}

impl Samples for Trip {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Book(_) => {
                vec![Sample::done(Event::Booked), Sample::refused(Event::Declined)]
            }
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Cancel, Signal::Note]
    }

    /// All counts are alike.
    fn position(At { leg, .. }: &At) -> String {
        format!("leg {leg}")
    }
}

pub(crate) struct TripSteps {
    pub(crate) outside: Outside,
    pub(crate) sabotage: Option<Sabotage>,
}

/// Sends SIGSTOP to this process.
fn freeze() {
    let id = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-STOP", &id]).status();
    assert!(sent.is_ok_and(|status| status.success()), "a process may stop itself");
}

impl Trips for TripSteps {
    async fn book(&self, key: &Key, leg: &u8) -> Outcome<Event> {
        let request =
            Request::Do { op: format!("book-{leg}"), key: key.to_string(), reference: None };
        match self.outside.ask(request).await {
            Ok(Reply::Ill(Illness::Panics)) => panic!("told to"),
            Ok(Reply::Ill(Illness::Booms)) => Outcome::event(Event::Boom),
            Ok(Reply::Ill(Illness::Aborts)) => std::process::abort(),
            Ok(Reply::Ill(Illness::Freezes)) => {
                freeze();
                Outcome::NotDone(Cause::new("it stood still"))
            }
            Ok(Reply::Done(reference) | Reply::Challenged(reference)) => {
                Outcome::confirmed(Event::Booked, reference)
            }
            Ok(Reply::Declined) => Outcome::refuted(Event::Declined),
            Ok(Reply::NotDone | Reply::Nothing) => Outcome::NotDone(Cause::new("refused")),
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn find(&self, key: &Key, _: &u8) -> Probe<Event> {
        if self.sabotage == Some(Sabotage::Probe) {
            return Probe::NotHappened;
        }
        match self.outside.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference) | Reply::Challenged(reference)) => {
                Probe::confirmed(Event::Booked, reference)
            }
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(Reply::Declined) => {
                Probe::Answered { event: Event::Declined, effect: Effect::Refuted }
            }
            Ok(Reply::NotDone | Reply::Ill(_)) => Probe::Unknown(Cause::new("refused")),
            Err(cause) => Probe::Unknown(cause),
        }
    }

    async fn take_back(&self, _: &u8, undoing: &Undoing<String>) -> Undone {
        match self.outside.ask(Request::Undo { key: undoing.step_key.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }
}
