//! A saga with one life per question: a parent of many, one that sleeps, one that waits for a signal.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Child, EffectRow, Joined, Next, Outcome, Saga, Start, Step, StepError,
    Steps, Terms, Undo, Undone, Unexpected, to,
};
use tokio::sync::mpsc;
use uuid::Uuid;

pub(super) struct Varied;

/// Which life it leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Life {
    /// It starts so many children, each with one activity, and waits for the last of them.
    Parent(u32),
    /// One activity.
    Child,
    /// It sleeps so many milliseconds, then one activity.
    Sleeper(u64),
    /// It waits for a signal, then one activity.
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Never {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Activity {
    React,
    TakeBack,
}

impl Saga for Varied {
    const NAME: &'static str = "varied";
    const VERSION: u16 = 1;
    type Input = Life;
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Activity;
    type Reason = ();

    fn start(life: Life) -> Next<Self> {
        match life {
            Life::Parent(children) => {
                let child =
                    |n: u32| Child::of::<Self>(Start::new(format!("child-{n}"), Life::Child));
                // Its own id would tell children of several parents apart; one parent at a time needs no key.
                to(State::Joining).children((0..children).map(child).collect())
            }
            Life::Child => to(State::Reacting).call(Activity::React),
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
                Ok(to(State::Reacting).call(Activity::React))
            }
            _ => Err(Unexpected::new(&state, &event)),
        }
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Activity::React) => Undo::By(Step::Activity(Activity::TakeBack)),
            Step::Activity(Activity::TakeBack) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(_: &Activity) -> Terms {
        Terms::new()
    }

    fn called_off(_: CalledOff<Activity>) {}

    fn joined(ends: &Joined) -> Option<Event> {
        Some(Event::ChildrenEnded(*ends))
    }
}

/// Tells who reacted when.
pub(super) struct Reactions(pub(super) mpsc::UnboundedSender<(Uuid, Instant)>);

impl Steps<Varied> for Reactions {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(&self, _: &mut PgConnection, step: &Never, (): &()) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, _: &Activity) -> Outcome<Event> {
        // Nobody may be listening: then nobody wants to know.
        let _ = self.0.send((key.saga_id, Instant::now()));
        Outcome::event(Event::Reacted)
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        _: &Activity,
        _: Option<&EffectRow>,
        (): &(),
    ) -> Undone {
        Undone::Nothing
    }
}
