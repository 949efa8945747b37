//! `Nap`: sleeps for as long as it is told, then ends. Timers and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, EffectRow, Never, Next, Outcome, Saga, Step, StepError, Steps, Terms,
    Undo, Undone, Unexpected,
    testing::{Sample, Samples},
    to,
};

pub(crate) struct Nap;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Asleep,
    Awake,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Due,
}

impl Saga for Nap {
    const NAME: &'static str = "nap";
    const VERSION: u16 = 1;
    /// How long.
    type Input = Duration;
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Never;
    type Reason = String;

    fn start(delay: Duration) -> Next<Self> {
        to(State::Asleep).sleep(delay, Event::Due)
    }

    fn on(_: State, Event::Due: Event) -> Result<Next<Self>, Unexpected> {
        Ok(to(State::Awake).done())
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(never) | Step::Activity(never) => match *never {},
        }
    }

    fn terms(never: &Never) -> Terms {
        match *never {}
    }

    fn called_off(_: CalledOff<Never>) -> String {
        "called off".to_owned()
    }
}

impl Samples for Nap {
    fn inputs() -> Vec<Duration> {
        vec![Duration::from_secs(1)]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Tx(never) | Step::Activity(never) => match *never {},
        }
    }
}

pub(crate) struct NapSteps;

impl Steps<Nap> for NapSteps {
    async fn run(&self, _: &mut PgConnection, never: &Never) -> Result<Event, StepError> {
        match *never {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        never: &Never,
        _: &String,
    ) -> Result<(), StepError> {
        match *never {}
    }

    async fn call(&self, _: &ActivityKey, never: &Never) -> Outcome<Event> {
        match *never {}
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        never: &Never,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        match *never {}
    }
}
