//! Giving back money that was taken for an order, all of it or a part.
//!
//! The command that starts the saga notes the refund in the books, under the lock of the order's row. From then on no other refund can ask for the
//! same money, so several refunds of one payment run at once. Giving the money back is the pivot: afterwards it is booked and told. If the
//! gateway refuses, the refund is noted as failed, and the payment's balance stays as it was.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use stepwise_engine::{CalledOff, Never, Next, Saga, Unexpected, steps, to, unwind};
use uuid::Uuid;

pub use command::{RefundPaymentError, refund_payment};

use super::giving_back::moving;
use crate::{
    money::Money,
    payment::gateway::{Reason as GatewayReason, Reference},
    refusal::refusals,
};

/// The definition.
pub struct RefundPayment;

/// The refund: which money is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The order that was paid for.
    pub order: Uuid,
    /// The refund's row in the books.
    pub row: Uuid,
    /// The gateway's reference of the authorization.
    pub reference: Reference,
    /// How much is given back.
    pub amount: Money,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The gateway gives the money back.
    Refunding(Refund),
    /// The returned money is recorded and published.
    Recording(Uuid),
    /// The end.
    Refunded(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The money is back: how much, under which reference of the gateway and which key of ours.
    GivenBack(Money, String, String),
    /// The gateway does not give it back under this key of ours.
    Refused(GatewayReason, String),
    /// The refund is in the books, and partners are told.
    Recorded,
}

steps! {
    /// The steps, and what takes each of them back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by RefundPaymentSteps -> Event, undone for Reason {
        /// Give the money back. A refund acts once per key, however late it is repeated.
        Refund(refund: Refund) => call(refund, moving("refund", refund.amount)).repeatable().pivot(),
        /// Record and publish that the money is back.
        Record {
            /// The order.
            order: Uuid,
            /// The refund's row in the books.
            row: Uuid,
            /// How much came back.
            amount: Money,
            /// The gateway's reference of the refund.
            refund_id: String,
            /// Our key.
            key: String,
        } => tx(record).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The refund is in the books as asked for.
        Ask(order: Uuid, row: Uuid) => undo_tx(withdraw),
    }
}

refusals! {
    /// Why the money is not given back. The payment's balance stays as it was.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// The gateway refuses.
        #[error("The payment could not be refunded ({why}).")]
        Refused {
            /// The gateway's reason.
            why: GatewayReason,
            /// The key under which it was asked.
            key: String
        } => GatewayFailed "refund_failed",
        /// The gateway could not be made to answer.
        #[error("The payment could not be refunded: the gateway did not answer for a day.")]
        NoAnswer => GatewayFailed "refund_failed",
        /// An operator has called it off.
        #[error("The refund was called off.")]
        CalledOff => Conflict "operation_failed",
    }
}

impl Reason {
    /// The code in the books.
    fn code(&self) -> &str {
        match self {
            Self::Refused { why, .. } => why.as_str(),
            Self::NoAnswer => "no_answer",
            Self::CalledOff => "called_off",
        }
    }

    /// The key that the gateway has answered.
    fn key(&self) -> Option<&str> {
        match self {
            Self::Refused { key, .. } => Some(key),
            Self::NoAnswer | Self::CalledOff => None,
        }
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(why: CalledOff<Step>) -> Self {
        match why {
            CalledOff::GaveUp(_) => Self::NoAnswer,
            CalledOff::Deadline | CalledOff::ByParent | CalledOff::Cancelled(_) => Self::CalledOff,
        }
    }
}

impl Saga for RefundPayment {
    const NAME: &'static str = "refund-payment";
    type Input = Refund;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = Reason;

    fn start(refund: Refund) -> Next<Self> {
        to(State::Refunding(refund.clone()))
            .caller_did(CallerStep::Ask(refund.order, refund.row))
            .run(Step::Refund(refund))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Refunding(Refund { order, row, .. }), E::GivenBack(amount, refund_id, key)) => {
                let record = Step::Record { order, row, amount, refund_id, key };
                to(S::Recording(order)).run(record)
            }
            (S::Refunding(_), E::Refused(why, key)) => unwind(Reason::Refused { why, key }),
            (S::Recording(order), E::Recorded) => to(S::Refunded(order)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
