//! Authorizing another payment for an order whose authorization lapsed.
//!
//! The command writes the payment in its own transaction, which also starts the saga ([`authorize_payment`]). Then the money is
//! reserved as it is for a placement (`sagas::authorizing`): `Create`, `Confirm`, and `Ask` where the customer must approve. `Book` puts the payment
//! in force under the lock of the order's row, where a cancellation is decided too. An order that was cancelled meanwhile needs no money: `Book`
//! changes nothing then, and the saga releases what it has reserved. A cancellation also tells the saga at once, so that no money waits for an
//! approval that nobody needs.
//!
//! Deliberately absent: a pivot. `Book` is the last step, and it may find that the order needs no payment any more.

mod command;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stepwise_engine::{CalledOff, Next, Saga, Unexpected, signals, steps, to, unwind};
use uuid::Uuid;

pub use command::{AuthorizePaymentError, authorize_payment};

use super::authorizing::{APPROVAL, Patience, answered, closing};
use crate::{
    money::Money,
    payment::{
        PaymentFailure,
        gateway::{Reason as GatewayReason, Reference},
    },
    refusal::refusals,
};

/// The definition.
pub struct AuthorizePayment;

/// The payment that is authorized: the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The order that it pays for.
    pub order: Uuid,
    /// The payment, `authorizing`.
    pub payment: Uuid,
    /// The customer's payment method.
    pub payment_method: Uuid,
    /// The order's total.
    pub amount: Money,
    /// How long the gateway is tried, as it was configured when the command came.
    pub patience: Patience,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// The gateway opens an authorization.
    Creating(Request),
    /// The gateway reserves the money.
    Confirming(Request, Reference),
    /// The customer approves.
    AwaitingApproval {
        /// The payment.
        request: Request,
        /// The authorization.
        reference: Reference,
        /// Where the customer approves.
        url: String,
        /// Until when the gateway waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The time for the approval is over: the gateway is asked a last time, because its event may be lost.
    Expiring(Request, Reference),
    /// The payment is put in force.
    Booking(Request, Reference),
    /// The end: the order is paid.
    Authorized(Uuid),
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
    /// The order was cancelled.
    OrderCancelled,
    /// The payment is in force.
    Booked,
}

answered!(Event);

steps! {
    /// The steps, and what takes each of them back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by AuthorizePaymentSteps -> Event, undone for Reason {
        /// Open an authorization. It moves no money, and repeating it under its key is harmless. The undo closes the authorization.
        Create(request: Request) => call(create, request.patience.opening()).repeatable().undo_call(cancel, closing()),
        /// Reserve the money. The undo releases it, by closing the authorization.
        Confirm(request: Request, reference: Reference)
            => call(confirm, request.patience.reserving(request.amount)).probe(find).undo_call(void, closing()),
        /// Ask whether the customer has approved. The undo of Confirm also takes back what the customer did.
        Ask(request: Request, reference: Reference)
            => call(ask, request.patience.asking()).repeatable().no_undo(),
        /// Put the payment in force, unless the order was cancelled.
        Book {
            /// The payment.
            request: Request,
            /// The gateway's reference of the authorization.
            reference: Reference,
            /// The key under which `Confirm` reserved the money.
            key: String,
        } => tx(book).no_undo(),
    }
    /// The step that the command has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The payment is written.
        Open(request: Request) => undo_tx(give_up),
    }
}

signals! {
    /// The signals, and what happens to one that comes before the saga waits for it.
    pub enum Signal as Event {
        /// The gateway says (webhook) that the authorization has changed. It may come before the answer that makes the saga wait for it.
        GatewayReported => keep,
        /// The order was cancelled. Every state before the end takes it, also while a call is in flight.
        OrderCancelled => refuse,
    }
}

refusals! {
    /// Why the payment is not authorized. The order stays as it is.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// The issuer said no.
        #[error("The card was declined ({0}); nothing was charged.")]
        CardDeclined(GatewayReason) => PaymentRequired "card_declined",
        /// The gateway does not take cards of this kind.
        #[error("This kind of card is not accepted.")]
        UnsupportedCardType => Unprocessable "unsupported_card_type",
        /// The customer did not approve in time.
        #[error("The payment was not approved in time; nothing was charged.")]
        ApprovalExpired => PaymentRequired "approval_expired",
        /// The gateway could not be made to answer, or an operator has called it off.
        #[error("The payment gateway did not answer in time; nothing was charged.")]
        GatewayError => GatewayFailed "gateway_error",
        /// The order was cancelled meanwhile.
        #[error("The order was cancelled while its payment was authorized.")]
        OrderCancelled => Conflict "order_cancelled",
    }
}

impl From<PaymentFailure> for Reason {
    fn from(failure: PaymentFailure) -> Self {
        match failure {
            PaymentFailure::Declined(why) => Self::CardDeclined(why),
            PaymentFailure::Unsupported => Self::UnsupportedCardType,
            PaymentFailure::ApprovalExpired => Self::ApprovalExpired,
            PaymentFailure::GatewayError => Self::GatewayError,
        }
    }
}

impl Reason {
    /// The failure of the payment; `None`: it did not fail, the order was cancelled.
    fn failure(&self) -> Option<PaymentFailure> {
        match self {
            Self::CardDeclined(why) => Some(PaymentFailure::Declined(why.clone())),
            Self::UnsupportedCardType => Some(PaymentFailure::Unsupported),
            Self::ApprovalExpired => Some(PaymentFailure::ApprovalExpired),
            Self::GatewayError => Some(PaymentFailure::GatewayError),
            Self::OrderCancelled => None,
        }
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::GatewayError
    }
}

impl Saga for AuthorizePayment {
    const NAME: &'static str = "authorize-payment";
    type Input = Request;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(request: Request) -> Next<Self> {
        to(State::Creating(request.clone()))
            .caller_did(CallerStep::Open(request.clone()))
            .run(Step::Create(request))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Creating(request), E::Created(reference)) => {
                to(S::Confirming(request.clone(), reference.clone()))
                    .run(Step::Confirm(request, reference))
            }
            (
                S::Confirming(request, reference) | S::Expiring(request, reference),
                E::Confirmed(key),
            ) => to(S::Booking(request.clone(), reference.clone())).run(Step::Book {
                request,
                reference,
                key,
            }),
            (S::Confirming(request, reference), E::ApprovalRequired { url, expires_at }) => {
                to(S::AwaitingApproval { request, reference, url, expires_at })
                    .or_after(APPROVAL, E::ApprovalExpired)
            }
            (S::AwaitingApproval { request, reference, .. }, E::GatewayReported) => {
                to(S::Confirming(request.clone(), reference.clone()))
                    .run(Step::Ask(request, reference))
            }
            (S::AwaitingApproval { request, reference, .. }, E::ApprovalExpired) => {
                to(S::Expiring(request.clone(), reference.clone()))
                    .run(Step::Ask(request, reference))
            }
            (S::Booking(request, _), E::Booked) => to(S::Authorized(request.order)).done(),
            (S::Creating(_) | S::Confirming(..) | S::Expiring(..), E::Refused(failure)) => {
                unwind(failure)
            }
            (S::Confirming(..) | S::Expiring(..), E::Voided) => {
                unwind(Reason::CardDeclined(GatewayReason::new("voided")))
            }
            (S::Expiring(..), E::ApprovalRequired { .. }) => unwind(Reason::ApprovalExpired),
            (
                S::Creating(_)
                | S::Confirming(..)
                | S::AwaitingApproval { .. }
                | S::Expiring(..)
                | S::Booking(..),
                E::OrderCancelled,
            ) => unwind(Reason::OrderCancelled),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
