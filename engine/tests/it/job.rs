//! `Job`: one thing to wait for, as its input says. For everything that is about when and how many.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, EffectKind, EffectRow, Next, Outcome, Saga, Step, StepError, Steps,
    Terms, Undo, Undone, Unexpected,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::{
    plain::Never,
    provider::{Answer, Provider, cause, quick},
};

pub(crate) struct Job;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Input {
    /// It ends at once.
    Nothing,
    /// Something that can be taken back.
    Work,
    /// Something that cannot, then a signal.
    Charge,
    /// A signal.
    Wait,
    /// A day.
    Sleep,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Working,
    Charging,
    Waiting,
    Sleeping,
    Over,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Done,
    Declined,
    Go,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Work,
    TakeBack,
    Charge,
}

/// Why it was called off.
pub(crate) type Reason = String;

use Event as E;
use State as S;

impl Saga for Job {
    const NAME: &'static str = "job";
    const VERSION: u16 = 1;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Activity;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Nothing => to(S::Over).done(),
            Input::Work => to(S::Working).call(Activity::Work),
            Input::Charge => to(S::Charging).call(Activity::Charge),
            Input::Wait => to(S::Waiting).wait(),
            Input::Sleep => to(S::Sleeping).sleep(Duration::from_secs(86_400), E::Done),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Working | S::Sleeping, E::Done) | (S::Waiting, E::Go) => to(S::Over).done(),
            (S::Charging, E::Done) => to(S::Waiting).wait(),
            (S::Working | S::Charging, E::Declined) => unwind("declined".to_owned()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Activity::Work) => Undo::By(Step::Activity(Activity::TakeBack)),
            Step::Activity(Activity::Charge) => Undo::Pivot,
            Step::Activity(Activity::TakeBack) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(_: &Activity) -> Terms {
        Terms {
            effect: Some(EffectKind { kind: "job", amount: None }),
            retry: quick(),
            ..Terms::new()
        }
    }

    fn called_off(why: CalledOff<Activity>) -> Reason {
        match why {
            CalledOff::GaveUp(_) => "gave up",
            CalledOff::Deadline => "deadline",
            CalledOff::ByParent => "by its parent",
            CalledOff::Cancelled(_) => "cancelled",
        }
        .to_owned()
    }
}

pub(crate) struct JobSteps(pub(crate) Arc<Provider>);

impl Steps<Job> for JobSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &Reason,
    ) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let op = format!("{activity:?}").to_lowercase();
        match self.0.ask(&op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(E::Done, reference),
            Answer::Declined => Outcome::refuted(E::Declined),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        effect: Option<&EffectRow>,
        reason: &Reason,
    ) -> Undone {
        let reference = effect.and_then(|effect| effect.reference.as_deref());
        match self.0.ask("takeback", &key.to_string(), reference, reason).await {
            Answer::Done(_) if reference.is_none() => Undone::Nothing,
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}

impl Samples for Job {
    fn inputs() -> Vec<Input> {
        vec![Input::Nothing, Input::Work, Input::Charge, Input::Wait, Input::Sleep]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Activity(_) => vec![Sample::done(E::Done), Sample::refused(E::Declined)],
            Step::Tx(never) => match *never {},
        }
    }

    fn signals() -> Vec<Event> {
        vec![E::Go]
    }
}
