//! Shipping an order: its money is taken, and then it goes.
//!
//! The command that starts the saga marks the order as being shipped, under the lock of the order's row. From then on the order cannot be cancelled.
//! Taking the money is the pivot: afterwards the saga only goes forward, and one transaction deducts the stock and ships the order. If the gateway
//! refuses, the mark is taken back, and the order stays `confirmed`.
//!
//! Deliberately absent: tracking number and carrier. They are on the order's row, since states hold ids and amounts only.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use stepwise_engine::{CalledOff, Never, Next, Saga, Terms, Unexpected, steps, to, unwind};
use uuid::Uuid;

pub use command::{ShipOrderError, ship_order};

use super::{calling::time_for, giving_back::KEY_LIFETIME};
use crate::{
    money::Money,
    payment::gateway::{Reason as GatewayReason, Reference},
    refusal::refusals,
};

/// The definition.
pub struct ShipOrder;

/// The order that is shipped, and the money that is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The order.
    pub order: Uuid,
    /// The gateway's reference of the authorization.
    pub reference: Reference,
    /// The amount to take.
    pub amount: Money,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The gateway takes the money.
    Capturing(Shipment),
    /// The order is shipped.
    Shipping(Uuid),
    /// The end.
    Shipped(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The money is taken, under this key of ours.
    Captured(String),
    /// The gateway does not take it, and never will.
    Refused(GatewayReason),
    /// The order is on its way.
    Shipped,
}

steps! {
    /// The steps, and what takes each of them back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by ShipOrderSteps -> Event, undone for Reason {
        /// Take the reserved money. Repeating it under its key takes it once.
        Capture(shipment: Shipment) => call(capture, taking(shipment)).probe(find).pivot(),
        /// Deduct the stock, and note that the order is on its way.
        Ship(order: Uuid, key: String) => tx(ship).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The order is marked as being shipped.
        Mark(order: Uuid) => undo_tx(withdraw),
    }
}

fn taking(shipment: &Shipment) -> Terms {
    let terms = Terms::effect("capture").amount(shipment.amount);
    Terms { within: KEY_LIFETIME, timeout: time_for(1), ..terms }
}

refusals! {
    /// Why the order is not shipped. It stays `confirmed`.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// The gateway does not take the money.
        #[error("The payment could not be taken ({0}); the order stays confirmed and can be cancelled.")]
        CaptureFailed(GatewayReason) => PaymentRequired "capture_failed",
        /// The gateway could not be made to answer, or an operator has called it off.
        #[error("The shipment was called off; the order stays confirmed.")]
        CalledOff => Conflict "operation_failed",
    }
}

impl Reason {
    /// The code in the books.
    fn code(&self) -> &str {
        match self {
            Self::CaptureFailed(why) => why.as_str(),
            Self::CalledOff => "called_off",
        }
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::CalledOff
    }
}

impl Saga for ShipOrder {
    const NAME: &'static str = "ship-order";
    type Input = Shipment;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = Reason;

    fn start(shipment: Shipment) -> Next<Self> {
        to(State::Capturing(shipment.clone()))
            .caller_did(CallerStep::Mark(shipment.order))
            .run(Step::Capture(shipment))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Capturing(shipment), E::Captured(key)) => {
                to(S::Shipping(shipment.order)).run(Step::Ship(shipment.order, key))
            }
            (S::Capturing(_), E::Refused(why)) => unwind(Reason::CaptureFailed(why)),
            (S::Shipping(order), E::Shipped) => to(S::Shipped(order)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
