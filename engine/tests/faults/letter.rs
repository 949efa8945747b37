//! `Letter`: two releases of one saga. The second one weighs a letter before it is posted, which the first has never heard of.
//!
//! Franked (taken back by a refund), it rests, and is posted, which cannot be taken back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, Effect, EffectKind, EffectRow, Never, Next, Outcome, Part,
    Probe, Saga, Step, StepError, Steps, Terms, Undo, Undone, Unexpected, UpcastError, WhenUnknown,
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Do {
    Frank,
    Refund,
    Weigh,
    Post,
}

impl<const RELEASE: u16> Saga for Letter<RELEASE> {
    const NAME: &'static str = "letter";
    const VERSION: u16 = RELEASE;
    type Input = ();
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Do;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(State::Franking).call(Do::Frank)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Franking, Event::Franked) => {
                to(State::Resting).or_after(Duration::from_millis(300), Event::Rested)
            }
            (State::Resting, Event::Rested) if RELEASE == OLD => to(State::Posting).call(Do::Post),
            (State::Resting, Event::Rested) => to(State::Weighing).call(Do::Weigh),
            (State::Weighing, Event::Weighed) => to(State::Posting).call(Do::Post),
            (State::Posting, Event::Posted) => to(State::Posted).done(),
            (State::Franking | State::Resting | State::Weighing, Event::Cancel) => {
                unwind("cancelled".to_owned())
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Do::Frank) => Undo::By(Step::Activity(Do::Refund)),
            Step::Activity(Do::Refund | Do::Weigh) => Undo::Nothing,
            Step::Activity(Do::Post) => Undo::Pivot,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(activity: &Do) -> Terms {
        let kind = match activity {
            Do::Frank => Some("stamp"),
            Do::Post => Some("post"),
            Do::Refund | Do::Weigh => None,
        };
        Terms {
            effect: kind.map(|kind| EffectKind { kind, amount: None }),
            timeout: Duration::from_secs(60),
            retry: patient(),
            unknown: WhenUnknown::Ask { settles_after: Duration::ZERO },
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Do>) -> String {
        "called off".to_owned()
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

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Activity(Do::Frank) => vec![Sample::done(Event::Franked)],
            Step::Activity(Do::Weigh) => vec![Sample::done(Event::Weighed)],
            Step::Activity(Do::Post) => vec![Sample::done(Event::Posted)],
            Step::Activity(Do::Refund) => Vec::new(),
            Step::Tx(never) => match *never {},
        }
    }

    fn signals() -> Vec<Event> {
        vec![Event::Cancel]
    }
}

pub(crate) struct LetterSteps(pub(crate) Outside);

impl LetterSteps {
    /// What the outside does, and what has happened then.
    fn op(activity: &Do) -> (&'static str, Event) {
        match activity {
            Do::Frank => ("frank", Event::Franked),
            Do::Post => ("post", Event::Posted),
            Do::Refund | Do::Weigh => unreachable!("nothing that is asked for outside"),
        }
    }
}

impl<const RELEASE: u16> Steps<Letter<RELEASE>> for LetterSteps {
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
        if matches!(activity, Do::Weigh) {
            return Outcome::event(Event::Weighed);
        }
        let (op, event) = Self::op(activity);
        let request = Request::Do { op: op.to_owned(), key: key.to_string(), reference: None };
        match self.0.ask(request).await {
            Ok(Reply::Done(reference)) => Outcome::confirmed(event, reference),
            Ok(_) => Outcome::NotDone(Cause::new("refused")),
            Err(cause) => Outcome::Unknown(cause),
        }
    }

    async fn probe(&self, key: &ActivityKey, activity: &Do) -> Probe<Event> {
        if matches!(activity, Do::Weigh) {
            return Probe::NotHappened;
        }
        match self.0.ask(Request::Ask { key: key.to_string() }).await {
            Ok(Reply::Done(reference)) => {
                let effect = Effect::Confirmed(reference);
                Probe::Answered { event: Self::op(activity).1, effect }
            }
            Ok(Reply::Nothing) => Probe::NotHappened,
            Ok(_) => Probe::Unknown(Cause::new("refused")),
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
        let stamp = ActivityKey { undo: false, ..*key };
        match self.0.ask(Request::Undo { key: stamp.to_string() }).await {
            Ok(Reply::Done(reference)) => Undone::Undone(Some(reference)),
            Ok(Reply::Nothing) => Undone::Nothing,
            Ok(_) => Undone::NotDone(Cause::new("refused")),
            Err(cause) => Undone::NotDone(cause),
        }
    }
}
