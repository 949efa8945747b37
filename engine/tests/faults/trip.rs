//! `Trip`: five bookings in a row, each an effect with a probe and an undo. It may be declined late, stopped at any time, and counts notes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, Effect, EffectKind, EffectRow, Never, Next, Outcome, Probe,
    Saga, Step, StepError, Steps, Terms, Undo, Undone, Unexpected, WhenUnknown, stay,
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
    /// What makes the saga's own code panic.
    Boom,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Do {
    Book(u8),
    TakeBack,
}

impl Saga for Trip {
    const NAME: &'static str = "trip";
    const VERSION: u16 = 1;
    type Input = ();
    type State = At;
    type Event = Event;
    type Tx = Never;
    type Activity = Do;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(At { leg: 1, noted: 0 }).call(Do::Book(1))
    }

    fn on(At { leg, noted }: At, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match event {
            Event::Booked if leg == LEGS => to(At { leg: 0, noted }).done(),
            Event::Booked => to(At { leg: leg + 1, noted }).call(Do::Book(leg + 1)),
            Event::Declined => unwind("declined".to_owned()),
            Event::Cancel => unwind("cancelled".to_owned()),
            Event::Note => stay(At { leg, noted: noted + 1 }),
            Event::Boom => panic!("told to"),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Do::Book(_)) => Undo::By(Step::Activity(Do::TakeBack)),
            Step::Activity(Do::TakeBack) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(activity: &Do) -> Terms {
        let late = matches!(activity, Do::Book(LATE_LEG));
        Terms {
            effect: matches!(activity, Do::Book(_))
                .then_some(EffectKind { kind: "booking", amount: None }),
            timeout: Duration::from_secs(60),
            retry: patient(),
            // Ten times as long as it takes: the machine may be busy.
            unknown: WhenUnknown::Ask {
                settles_after: if late { LATE * 10 } else { Duration::ZERO },
            },
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Do>) -> String {
        "called off".to_owned()
    }
}

impl Samples for Trip {
    fn inputs() -> Vec<()> {
        vec![()]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Activity(Do::Book(_)) => {
                vec![Sample::done(Event::Booked), Sample::refused(Event::Declined)]
            }
            Step::Activity(Do::TakeBack) => Vec::new(),
            Step::Tx(never) => match *never {},
        }
    }

    fn signals() -> Vec<Event> {
        vec![Event::Cancel, Event::Note]
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

impl Steps<Trip> for TripSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &String,
    ) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &Do) -> Outcome<Event> {
        let Do::Book(leg) = *activity else { unreachable!("undos come by undo_call") };
        let request =
            Request::Do { op: format!("book-{leg}"), key: key.to_string(), reference: None };
        match self.outside.ask(request).await {
            Ok(Reply::Ill(Illness::Panics)) => panic!("told to"),
            Ok(Reply::Ill(Illness::Booms)) => Outcome::event(Event::Boom),
            Ok(Reply::Ill(Illness::Aborts)) => std::process::abort(),
            Ok(Reply::Done(reference) | Reply::Challenged(reference)) => {
                Outcome::confirmed(Event::Booked, reference)
            }
            Ok(Reply::Declined) => Outcome::refuted(Event::Declined),
            Ok(Reply::NotDone | Reply::Nothing) => Outcome::NotDone(Cause::new("refused")),
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn probe(&self, key: &ActivityKey, _: &Do) -> Probe<Event> {
        if self.sabotage == Some(Sabotage::Probe) {
            return Probe::NotHappened;
        }
        match self.outside.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference) | Reply::Challenged(reference)) => {
                Probe::Answered { event: Event::Booked, effect: Effect::Confirmed(reference) }
            }
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(Reply::Declined) => {
                Probe::Answered { event: Event::Declined, effect: Effect::Refuted }
            }
            Ok(Reply::NotDone | Reply::Ill(_)) => Probe::Unknown(Cause::new("refused")),
            Err(cause) => Probe::Unknown(cause),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Do,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        let booking = ActivityKey { undo: false, ..*key };
        match self.outside.ask(Request::Undo { key: booking.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }
}
