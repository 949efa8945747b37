//! `Job`: one thing to wait for, as its input says. For everything that is about when and how many.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Key, Next, Outcome, Saga, Terms, Undoing, Undone, Unexpected, signals, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

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

signals! {
    pub(crate) enum Signal as Event { Go => refuse }
}

steps! {
    pub(crate) enum Step done by Jobs -> Event, undone for Reason {
        Work => call(work, job()).repeatable().undo_call(take_back, job()),
        Charge => call(charge, job()).repeatable().pivot(),
    }
}

fn job() -> Terms {
    Terms { retry: quick(), ..Terms::effect("job") }
}

/// Why it was called off.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(transparent)]
pub(crate) struct Reason(String);

impl From<CalledOff<Step>> for Reason {
    fn from(why: CalledOff<Step>) -> Self {
        let why = match why {
            CalledOff::GaveUp(_) => "gave up",
            CalledOff::Deadline => "deadline",
            CalledOff::ByParent => "by its parent",
            CalledOff::Cancelled(_) => "cancelled",
        };
        Self(why.to_owned())
    }
}

use Event as E;
use State as S;

impl Saga for Job {
    const NAME: &'static str = "job";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Nothing => to(S::Over).done(),
            Input::Work => to(S::Working).run(Step::Work),
            Input::Charge => to(S::Charging).run(Step::Charge),
            Input::Wait => to(S::Waiting).wait(),
            Input::Sleep => to(S::Sleeping).sleep(Duration::from_secs(86_400), E::Done),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Working | S::Sleeping, E::Done) | (S::Waiting, E::Go) => to(S::Over).done(),
            (S::Charging, E::Done) => to(S::Waiting).wait(),
            (S::Working | S::Charging, E::Declined) => unwind(Reason("declined".to_owned())),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

pub(crate) struct JobSteps(pub(crate) Arc<Provider>);

impl JobSteps {
    async fn ask(&self, op: &str, key: &Key) -> Outcome<Event> {
        match self.0.ask(op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(E::Done, reference),
            Answer::Declined => Outcome::refuted(E::Declined),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }
}

impl Jobs for JobSteps {
    async fn work(&self, key: &Key) -> Outcome<Event> {
        self.ask("work", key).await
    }

    async fn take_back(&self, undoing: &Undoing<Reason>) -> Undone {
        let (key, reference) = (undoing.key.to_string(), undoing.reference.as_deref());
        match self.0.ask("takeback", &key, reference, &undoing.reason.0).await {
            Answer::Done(_) if reference.is_none() => Undone::Nothing,
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }

    async fn charge(&self, key: &Key) -> Outcome<Event> {
        self.ask("charge", key).await
    }
}

impl Samples for Job {
    fn inputs() -> Vec<Input> {
        vec![Input::Nothing, Input::Work, Input::Charge, Input::Wait, Input::Sleep]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Work | Step::Charge => {
                vec![Sample::done(E::Done), Sample::refused(E::Declined)]
            }
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Go]
    }
}
