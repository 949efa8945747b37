//! The saga that is measured: five activities that do nothing, each durable before the next.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, EffectKind, EffectRow, Next, Outcome, Saga, Step, StepError, Steps,
    Terms, Undo, Undone, Unexpected, to,
};

const STEPS: u8 = 5;

/// Without (`false`) or with (`true`) an effect declared by every activity.
pub(super) struct Five<const EFFECTS: bool>;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    step: u8,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Event {
    Done(u8),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Never {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Activity {
    Do(u8),
    TakeBack(u8),
}

impl<const EFFECTS: bool> Saga for Five<EFFECTS> {
    const NAME: &'static str = if EFFECTS { "five-effects" } else { "five-steps" };
    const VERSION: u16 = 1;
    type Input = ();
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Activity;
    type Reason = ();

    fn start((): ()) -> Next<Self> {
        to(State { step: 1 }).call(Activity::Do(1))
    }

    fn on(state: State, Event::Done(step): Event) -> Result<Next<Self>, Unexpected> {
        match (state.step, step) {
            (at, done) if at != done => Err(Unexpected::new(&state, &Event::Done(done))),
            (STEPS, _) => Ok(to(state).done()),
            (at, _) => Ok(to(State { step: at + 1 }).call(Activity::Do(at + 1))),
        }
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Activity::Do(step)) => {
                Undo::By(Step::Activity(Activity::TakeBack(*step)))
            }
            Step::Activity(Activity::TakeBack(_)) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(_: &Activity) -> Terms {
        let effect = EFFECTS.then_some(EffectKind { kind: "nothing", amount: None });
        Terms { effect, ..Terms::new() }
    }

    fn called_off(_: CalledOff<Activity>) {}
}

/// Does nothing, at once.
pub(super) struct Nothing;

impl<const EFFECTS: bool> Steps<Five<EFFECTS>> for Nothing {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(&self, _: &mut PgConnection, step: &Never, (): &()) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let (Activity::Do(step) | Activity::TakeBack(step)) = activity;
        if EFFECTS {
            Outcome::confirmed(Event::Done(*step), format!("ref-{}", key.step_no))
        } else {
            Outcome::event(Event::Done(*step))
        }
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
