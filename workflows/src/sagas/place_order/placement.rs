//! The stored data of a placement: ids, amounts and the gateway's references. Nothing here is personal.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stepwise_engine::CalledOff;
use uuid::Uuid;

use super::Step;
use crate::{
    money::Money,
    payment::{PaymentFailure, gateway::Reference},
    refusal::refusals,
    sagas::authorizing::{Patience, answered},
};

/// The order that is being placed, and how it is paid: the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The order, `placing`.
    pub order: Uuid,
    /// The customer's payment method.
    pub payment_method: Uuid,
    /// The order's total.
    pub amount: Money,
    /// How long the gateway is tried, as it was configured when the order came.
    #[serde(default, skip_serializing_if = "Patience::is_usual")]
    pub patience: Patience,
}

/// The states, named after what the saga waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// The gateway opens an authorization.
    Creating(Placement),
    /// The gateway reserves the money.
    Confirming(Placement, Reference),
    /// The customer approves.
    AwaitingApproval {
        /// The order that is being placed.
        placement: Placement,
        /// The authorization.
        reference: Reference,
        /// Where the customer approves.
        url: String,
        /// Until when the gateway waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The time for the approval is over: the gateway is asked a last time, because its event may be lost.
    Expiring(Placement, Reference),
    /// The order is made `pending`.
    Placing(Placement, Reference),
    /// The end.
    Placed(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The authorization is open.
    Created(Reference),
    /// The money is reserved, under this key of ours.
    Confirmed(String),
    /// The payment is refused, for good.
    Refused(PaymentFailure),
    /// The customer must approve.
    ApprovalRequired {
        /// Where.
        url: String,
        /// Until when the gateway waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The authorization was cancelled at the gateway.
    Voided,
    /// The gateway says (webhook) that the authorization has changed: ask.
    GatewayReported,
    /// Nobody approved in time.
    ApprovalExpired,
    /// The customer cancels.
    CancelRequested,
    /// The order is `pending`.
    OrderPlaced,
}

answered!(Event);

refusals! {
    /// Why the order is not placed after all.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// The payment failed: the order ends `failed`.
        #[error("The payment was not authorized ({}); nothing was charged.", .0.code())]
        PaymentFailed(PaymentFailure) => PaymentRequired "payment_failed",
        /// The customer cancelled: the order ends `cancelled`.
        #[error("The order was cancelled while it was placed.")]
        Cancelled => Conflict "order_cancelled",
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::PaymentFailed(PaymentFailure::GatewayError)
    }
}
