// A ticket that is bought, as a saga whose types can be got wrong: included by the doctests of `engine/src/testing/refused.rs`.

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    ActivityKey, EffectRow, Outcome, StepError, Steps, Undone, saga::Saga,
};

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum State {
    Buying,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Event {
    Bought,
}

/// Of another saga.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum OtherEvent {
    Bought,
}

/// Nobody can write it down.
#[derive(Clone, Debug)]
pub struct Unwritable;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Tx {
    Buy,
    Sell,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Activity {
    Tell,
}

/// A saga with that state and that event, and with the ways back of its steps.
macro_rules! saga {
    ($saga:ident, $state:ty, $event:ty, |$step:ident| $undo:expr) => {
        pub struct $saga;

        impl stepwise_engine::Saga for $saga {
            const NAME: &'static str = stringify!($saga);
            const VERSION: u16 = 1;
            type Input = $state;
            type State = $state;
            type Event = $event;
            type Tx = Tx;
            type Activity = Activity;
            type Reason = String;

            fn start(input: $state) -> stepwise_engine::Next<Self> {
                stepwise_engine::to(input).run(Tx::Buy)
            }

            fn on(state: $state, _: $event) -> Result<stepwise_engine::Next<Self>, stepwise_engine::Unexpected> {
                Ok(stepwise_engine::to(state).done())
            }

            fn undo($step: &stepwise_engine::Step<Self>) -> stepwise_engine::Undo<Self> {
                $undo
            }

            fn terms(_: &Activity) -> stepwise_engine::Terms {
                stepwise_engine::Terms::new()
            }

            fn called_off(_: stepwise_engine::CalledOff<Activity>) -> String {
                String::new()
            }
        }
    };
}

/// How the steps of a saga with these steps are done.
pub struct Desk;

impl<S: Saga<Tx = Tx, Activity = Activity, Event = Event>> Steps<S> for Desk {
    async fn run(&self, _: &mut sqlx::PgConnection, _: &Tx) -> Result<Event, StepError> {
        Ok(Event::Bought)
    }

    async fn undo_run(
        &self,
        _: &mut sqlx::PgConnection,
        _: &Tx,
        _: &S::Reason,
    ) -> Result<(), StepError> {
        Ok(())
    }

    async fn call(&self, _: &ActivityKey, _: &Activity) -> Outcome<Event> {
        Outcome::event(Event::Bought)
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        _: &Activity,
        _: Option<&EffectRow>,
        _: &S::Reason,
    ) -> Undone {
        Undone::Nothing
    }
}
