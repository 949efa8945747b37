//! `Nap`: sleeps for as long as it is told, then ends. Timers and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Never, Next, Saga, Unexpected, steps,
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

steps! {
    pub(crate) enum Step done by Naps -> Event, undone for String {}
}

impl Saga for Nap {
    const NAME: &'static str = "nap";
    /// How long.
    type Input = Duration;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(delay: Duration) -> Next<Self> {
        to(State::Asleep).sleep(delay, Event::Due)
    }

    fn on(_: State, Event::Due: Event) -> Result<Next<Self>, Unexpected> {
        Ok(to(State::Awake).done())
    }
}

impl Samples for Nap {
    fn inputs() -> Vec<Duration> {
        vec![Duration::from_secs(1)]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match *step {}
    }
}

pub(crate) struct NapSteps;

impl Naps for NapSteps {}
