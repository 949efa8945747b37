//! Placing an order: stock is reserved, the payment authorized, the order placed.
//!
//! The request's own transaction has reserved the stock when the saga starts. Authorizing is two calls, because a fence in
//! our database does not fence a gateway: *create* moves no money and its reference is journalled by the commit between;
//! *confirm* reserves the money under it; cancelling the reference is what a late confirm cannot survive. PayPal and 3-D Secure
//! let the customer approve first. Placing is the pivot: it happens under the lock of the order's row, where a cancellation
//! is decided too, so that exactly one of them wins.
//!
//! Deliberately absent: what a gateway or a table looks like ([`mod@steps`]), and everything personal (states carry ids and amounts).

#[cfg(feature = "testing")]
mod samples;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stepwise_engine::{
    CalledOff, Next, Part, Saga, Terms, Unexpected, UpcastError, signals, steps, to, unwind,
};
use uuid::Uuid;

use crate::{
    money::Money,
    payment::{
        PaymentFailure,
        gateway::{Reason as GatewayReason, Reference},
    },
};

/// How long a customer has to approve a payment.
pub const APPROVAL: Duration = Duration::from_secs(30 * 60);

/// How long the gateway knows a key of ours: under it the same call acts once. Money is given back, or its reservation released, for as
/// long as that; afterwards a repeated call could act a second time, and a person decides.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Operators are told of money that could not be given back for so long.
pub const TELL_AFTER: Duration = Duration::from_secs(3_600);

/// The kind of the effect that reserves money.
const AUTHORIZATION: &str = "authorization";

steps! {
    /// What it does, and what takes each step back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by PlaceOrderSteps -> Event, undone for Reason {
        /// Open an authorization. It moves no money, and repeating it under its key is harmless.
        Create(placement: Placement) => call(create, opening(placement)).repeatable().undo_call(cancel),
        /// Reserve the money.
        Confirm(placement: Placement, reference: Reference)
            => call(confirm, reserving(placement)).probe(find).undo_call(void),
        /// Ask what came of the customer's approval. What the customer did is taken back with the confirm.
        Ask(placement: Placement, reference: Reference) => call(ask, asking(placement)).repeatable().no_undo(),
        /// Make the order `pending`.
        PlaceOrder {
            /// The order.
            order: Uuid,
            /// The gateway's reference of the authorization.
            reference: Reference,
            /// Our key.
            key: String,
        } => tx(place).pivot(),
    }
    /// What the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The cart's stock is reserved and the order written.
        ReserveStock(order: Uuid) => undo_tx(release_stock),
        /// The undo of Create as version 1 recorded it. It can go when the gate finds no instance of version 1 any more.
        Cancel(order: Uuid) => undo_call(cancel_of_version_1),
        /// The undo of Confirm as version 1 recorded it. It can go with that of Create.
        Void(order: Uuid, reference: Reference) => undo_call(void_of_version_1),
    }
}

fn asking(placement: &Placement) -> Terms {
    Terms { within: placement.patience.time(), ..Terms::new() }
}

fn opening(placement: &Placement) -> Terms {
    Terms { within: placement.patience.time(), ..Terms::effect("authorization-reference") }
}

fn reserving(placement: &Placement) -> Terms {
    let terms = Terms::effect(AUTHORIZATION).amount(placement.amount);
    Terms { within: placement.patience.time(), ..terms }
}

/// The definition.
pub struct PlaceOrder;

/// What is being placed: ids and the amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The order, `placing`.
    pub order: Uuid,
    /// With what it is paid.
    pub payment_method: Uuid,
    /// The order's total.
    pub amount: Money,
    /// How long the gateway is tried, as it was configured when the order came.
    #[serde(default, skip_serializing_if = "Patience::is_usual")]
    pub patience: Patience,
}

/// How long each call of the gateway is tried before the placement is given up, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patience(u64);

impl Default for Patience {
    /// Half an hour, which is also what placements have that were stored without one.
    fn default() -> Self {
        Self(30 * 60)
    }
}

impl From<Duration> for Patience {
    fn from(time: Duration) -> Self {
        Self(time.as_secs().max(1))
    }
}

impl Patience {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    fn time(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// What it waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// The gateway opens an authorization.
    Creating(Placement),
    /// The gateway reserves the money.
    Confirming(Placement, Reference),
    /// The customer approves.
    AwaitingApproval {
        /// What is being placed.
        placement: Placement,
        /// The authorization.
        reference: Reference,
        /// Where the customer approves.
        url: String,
        /// Until when the gateway waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The order is made `pending`.
    Placing(Placement, Reference),
    /// The end.
    Placed(Uuid),
}

/// What can happen.
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

/// Why the order is not placed after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The payment failed: the order ends `failed`.
    PaymentFailed(PaymentFailure),
    /// The customer cancelled: the order ends `cancelled`.
    Cancelled,
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::PaymentFailed(PaymentFailure::GatewayError)
    }
}

signals! {
    /// What others tell it.
    pub enum Signal as Event {
        /// The gateway says (webhook) that the authorization has changed. A webhook may overtake the answer that makes us wait for it.
        GatewayReported => keep,
        /// The customer cancels.
        CancelRequested => refuse,
    }
}

impl Saga for PlaceOrder {
    const NAME: &'static str = "place-order";
    const VERSION: u16 = 2;
    type Input = Placement;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(placement: Placement) -> Next<Self> {
        to(State::Creating(placement.clone()))
            .caller_did(CallerStep::ReserveStock(placement.order))
            .run(Step::Create(placement))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Creating(placement), E::Created(reference)) => {
                to(S::Confirming(placement.clone(), reference.clone()))
                    .run(Step::Confirm(placement, reference))
            }
            (S::Confirming(placement, reference), E::Confirmed(key)) => {
                let order = placement.order;
                to(S::Placing(placement, reference.clone())).run(Step::PlaceOrder {
                    order,
                    reference,
                    key,
                })
            }
            (S::Confirming(placement, reference), E::ApprovalRequired { url, expires_at }) => {
                to(S::AwaitingApproval { placement, reference, url, expires_at })
                    .or_after(APPROVAL, E::ApprovalExpired)
            }
            (S::AwaitingApproval { placement, reference, .. }, E::GatewayReported) => {
                to(S::Confirming(placement.clone(), reference.clone()))
                    .run(Step::Ask(placement, reference))
            }
            (S::Placing(placement, _), E::OrderPlaced) => to(S::Placed(placement.order)).done(),
            (S::Creating(_) | S::Confirming(..), E::Refused(why)) => {
                unwind(Reason::PaymentFailed(why))
            }
            (S::Confirming(..), E::Voided) => unwind(Reason::PaymentFailed(
                PaymentFailure::Declined(GatewayReason::new("voided")),
            )),
            (S::AwaitingApproval { .. }, E::ApprovalExpired) => {
                unwind(Reason::PaymentFailed(PaymentFailure::ApprovalExpired))
            }
            (
                S::Creating(_) | S::Confirming(..) | S::AwaitingApproval { .. } | S::Placing(..),
                E::CancelRequested,
            ) => unwind(Reason::Cancelled),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// What version 1 stored is stored in the same way now, but for its undos.
    fn upcast(_: u16, part: Part, json: Value) -> Result<Value, UpcastError> {
        Ok(match (part, json.get("ReleaseStock")) {
            (Part::CallerStep, Some(order)) => json!({ "ReserveStock": order }),
            _ => json,
        })
    }
}
