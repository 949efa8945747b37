//! Taking a product out of all carts once it is deleted or no longer on sale, or is sold in variants only.
//!
//! The saga follows from the event ([`crate::reactions`]), in its transaction. There may be many carts, so it takes the product out of some at a time
//! ([`crate::cart::withdraw_product`]), and the admin who changed the product waits for none of them. Customers see which items were taken out.
//!
//! It looks twice. A customer's request that read the product just before the change may put it into a cart just after the first look, so the second
//! look comes when every such request has ended. A product that is on sale again by then stays in its carts.
//!
//! The product is off sale when the saga starts, whatever becomes of the carts: that is the pivot, and the saga only goes forward. Deliberately
//! absent: putting the product back. Customers do that themselves if it is on sale again.

mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{Never, Next, Saga, Unexpected, steps, to};
use uuid::Uuid;

/// The definition.
pub struct RemoveProductFromCarts;

/// One of the two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// Soon after the change.
    First,
    /// When every request that may not have seen the change has ended.
    Last,
}

impl Look {
    /// The time before it. The database ends a request's transaction that idles for 15 seconds.
    fn delay(self) -> Duration {
        match self {
            Self::First => Duration::from_secs(1),
            Self::Last => Duration::from_secs(60),
        }
    }
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is time to look.
    Waiting(Uuid, Look),
    /// The product is taken out of some carts.
    Removing(Uuid, Look),
    /// The end.
    Over(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It is time to look.
    Due,
    /// The product was taken out of some carts. Others may have it still.
    Removed,
    /// No cart has the product, or it is on sale again.
    NoneLeft,
}

steps! {
    /// The steps.
    #[derive(PartialEq, Eq)]
    pub enum Step done by RemoveProductFromCartsSteps -> Event, undone for String {
        /// Take the product out of some carts.
        Remove(product: Uuid) => tx(remove).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The product is off sale.
        TakeOffSale(product: Uuid) => pivot(),
    }
}

impl Saga for RemoveProductFromCarts {
    const NAME: &'static str = "remove-product-from-carts";
    type Input = Uuid;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(product: Uuid) -> Next<Self> {
        to(State::Waiting(product, Look::First))
            .caller_did(CallerStep::TakeOffSale(product))
            .sleep(Look::First.delay(), Event::Due)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Waiting(product, look), E::Due) | (S::Removing(product, look), E::Removed) => {
                to(S::Removing(product, look)).run(Step::Remove(product))
            }
            (S::Removing(product, Look::First), E::NoneLeft) => {
                to(S::Waiting(product, Look::Last)).sleep(Look::Last.delay(), E::Due)
            }
            (S::Removing(product, Look::Last), E::NoneLeft) => to(S::Over(product)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
