//! A saga with a variant for each bench: a parent of many children, an instance that sleeps, one that waits for a signal.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Child, Joined, Key, Next, Outcome, Saga, Start, Undoing, Undone, Unexpected, signals, steps, to,
};
use tokio::sync::mpsc;
use uuid::Uuid;

pub(super) struct Varied;

/// The variant of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Life {
    /// Starts this many children, each with one call, and waits for the last of them.
    Parent(u32),
    /// Makes one call.
    Child,
    /// Sleeps this many milliseconds, then runs one call.
    Sleeper(u64),
    /// Waits for a signal, then runs one call.
    Waiter,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum State {
    Joining,
    Sleeping,
    Waiting,
    Reacting,
    Over,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Event {
    ChildrenEnded(Joined),
    Woken,
    Poked,
    Reacted,
}

signals! {
    pub(super) enum Signal as Event { Poked => refuse }
}

steps! {
    pub(super) enum Step done by VariedSteps -> Event, undone for String {
        React => call(react).repeatable().undo_call(take_back),
    }
}

impl Saga for Varied {
    const NAME: &'static str = "varied";
    type Input = Life;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(life: Life) -> Next<Self> {
        match life {
            Life::Parent(children) => {
                let child =
                    |n: u32| Child::of::<Self>(Start::new(format!("child-{n}"), Life::Child));
                // Only one parent runs at a time, so the key need not contain the parent's id.
                to(State::Joining).children((0..children).map(child).collect())
            }
            Life::Child => to(State::Reacting).run(Step::React),
            Life::Sleeper(ms) => to(State::Sleeping).sleep(Duration::from_millis(ms), Event::Woken),
            Life::Waiter => to(State::Waiting).wait(),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        match (&state, &event) {
            (State::Joining, Event::ChildrenEnded(_)) | (State::Reacting, Event::Reacted) => {
                Ok(to(State::Over).done())
            }
            (State::Sleeping, Event::Woken) | (State::Waiting, Event::Poked) => {
                Ok(to(State::Reacting).run(Step::React))
            }
            _ => Err(Unexpected::new(&state, &event)),
        }
    }

    fn joined(ends: &Joined) -> Option<Event> {
        Some(Event::ChildrenEnded(*ends))
    }
}

/// Reports which instance reacted, and when.
pub(super) struct Reactions(pub(super) mpsc::UnboundedSender<(Uuid, Instant)>);

impl VariedSteps for Reactions {
    async fn react(&self, key: &Key) -> Outcome<Event> {
        // If nobody listens, the report is not needed.
        let _ = self.0.send((key.saga_id(), Instant::now()));
        Outcome::event(Event::Reacted)
    }

    async fn take_back(&self, _: &Undoing<String>) -> Undone {
        Undone::Nothing
    }
}
