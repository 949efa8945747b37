// A ticket that is bought and told of, as a saga whose types can be got wrong: included by the doctests of `engine/src/testing/refused.rs`.

use serde::{Deserialize, Serialize};
use stepwise_engine::{Key, Outcome, Probe, StepError, Undoing, Undone};

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum State {
    Buying,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum Event {
    Bought,
    Told,
    Returned,
}

/// Of another saga.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub enum OtherEvent {
    Bought,
    Returned,
}

/// Nobody can write it down.
#[derive(Clone, Debug)]
pub struct Unwritable;

stepwise_engine::signals! {
    pub enum Signal as Event { Returned => refuse }
}

/// A saga with that state, that event, that signal and that first step, on the table `Step` of the doctest.
macro_rules! saga {
    ($saga:ident, $state:ty, $event:ty, $signal:ty, $first:expr) => {
        pub struct $saga;

        impl stepwise_engine::Saga for $saga {
            const NAME: &'static str = stringify!($saga);
            type Input = $state;
            type State = $state;
            type Event = $event;
            type Signal = $signal;
            type Step = Step;
            type Reason = String;

            fn start(input: $state) -> stepwise_engine::Next<Self> {
                stepwise_engine::to(input).run($first)
            }

            fn on(state: $state, _: $event) -> Result<stepwise_engine::Next<Self>, stepwise_engine::Unexpected> {
                Ok(stepwise_engine::to(state).done())
            }
        }
    };
}

/// How the steps of the right table are done.
macro_rules! desk {
    () => {
        pub struct Desk;

        impl Desks for Desk {
            async fn buy(&self, _: &mut stepwise_engine::StepTx<'_>) -> Result<Event, StepError> {
                Ok(Event::Bought)
            }

            async fn sell(&self, _: &mut stepwise_engine::StepTx<'_>, _: &Undoing<String>) -> Result<(), StepError> {
                Ok(())
            }

            async fn tell(&self, _: &Key) -> Outcome<Event> {
                Outcome::event(Event::Told)
            }

            async fn find(&self, _: &Key) -> Probe<Event> {
                Probe::NotHappened
            }

            async fn take_word_back(&self, _: &Undoing<String>) -> Undone {
                Undone::Nothing
            }
        }
    };
}
