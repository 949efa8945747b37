//! The saga of the engine's benches: five calls that do nothing, each durable before the next.

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Key, Never, Next, Outcome, Saga, Terms, Undoing, Undone, Unexpected, steps, to,
};

const STEPS: u8 = 5;

/// The saga. If `EFFECTS`, every call declares an effect.
pub(super) struct Five<const EFFECTS: bool>;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    step: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Event {
    Done(u8),
}

steps! {
    pub(super) enum Step done by FiveSteps -> Event, undone for String {
        Do(nth: u8) => call(act).repeatable().undo_call(take_back),
        DoWithEffect(nth: u8) => call(act_with_effect, Terms::effect("nothing")).repeatable().undo_call(take_effect_back),
    }
}

impl<const EFFECTS: bool> Five<EFFECTS> {
    fn step(nth: u8) -> Step {
        if EFFECTS { Step::DoWithEffect(nth) } else { Step::Do(nth) }
    }
}

impl<const EFFECTS: bool> Saga for Five<EFFECTS> {
    const NAME: &'static str = if EFFECTS { "five-effects" } else { "five-steps" };
    type Input = ();
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(State { step: 1 }).run(Self::step(1))
    }

    fn on(state: State, Event::Done(step): Event) -> Result<Next<Self>, Unexpected> {
        match (state.step, step) {
            (at, done) if at != done => Err(Unexpected::new(&state, &Event::Done(done))),
            (STEPS, _) => Ok(to(state).done()),
            (at, _) => Ok(to(State { step: at + 1 }).run(Self::step(at + 1))),
        }
    }
}

/// A call that does nothing and returns at once.
pub(super) struct Nothing;

impl FiveSteps for Nothing {
    async fn act(&self, _: &Key, nth: &u8) -> Outcome<Event> {
        Outcome::event(Event::Done(*nth))
    }

    async fn take_back(&self, _: &u8, _: &Undoing<String>) -> Undone {
        Undone::Nothing
    }

    async fn act_with_effect(&self, key: &Key, nth: &u8) -> Outcome<Event> {
        Outcome::confirmed(Event::Done(*nth), format!("ref-{}", key.step_no()))
    }

    async fn take_effect_back(&self, _: &u8, _: &Undoing<String>) -> Undone {
        Undone::Nothing
    }
}
