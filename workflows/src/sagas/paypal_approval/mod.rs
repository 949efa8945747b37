//! An approval at PayPal: the customer approves an amount there, and the payment method can then pay one order of it.
//!
//! The command adds the method, not usable yet, in the transaction that starts the saga ([`initiate_paypal`]). Then:
//! 1. `Open` opens the approval at PayPal. It moves no money, and nothing takes it back: PayPal forgets what nobody uses.
//! 2. `Offer` stores its reference, and gives the customer time to approve.
//! 3. `Ask` asks PayPal: after a webhook, after an order was refused because the approval is missing, and before the saga gives up. So a lost
//!    webhook delays an approval and loses none.
//! 4. `Approve` makes the method usable. Otherwise the undo of the command's step makes it `expired`.
//!
//! A placement that ends without money taken starts the saga again for its method, at `Ask`: the method is usable again if PayPal still holds the
//! approval.
//!
//! Deliberately absent: the amount and the addresses of the shop's pages. They are in the method's row, which the calls read.

mod command;
pub(super) mod give_back;
mod operation;
#[cfg(feature = "testing")]
mod samples;
mod steps;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stepwise_engine::{CalledOff, Next, Saga, Terms, Unexpected, signals, steps, to, unwind};
use uuid::Uuid;

pub use command::{InitiatePayPalError, Initiated, initiate_paypal};

use super::calling;
use crate::{payment::gateway::Reference, refusal::refusals};

/// How long PayPal is tried to open an approval. The customer waits at the checkout.
const OPENING: Duration = Duration::from_secs(60);

/// How long PayPal is asked about an approval.
const ASKING: Duration = Duration::from_secs(3_600);

/// The definition.
pub struct PayPalApproval;

/// The payment method, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The customer is to approve.
    Open(Uuid),
    /// An order that was to be paid with it has ended without money taken.
    GiveBack(Uuid, Reference),
}

/// An approval that waits for its customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The payment method.
    pub method: Uuid,
    /// PayPal's reference of the approval.
    pub reference: Reference,
    /// Where the customer approves.
    pub url: String,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// Its states, named after what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// PayPal opens the approval.
    Opening(Uuid),
    /// The reference is stored.
    Offering {
        /// The payment method.
        method: Uuid,
        /// PayPal's reference of the approval.
        reference: Reference,
        /// Where the customer approves.
        url: String,
    },
    /// The customer approves.
    AwaitingApproval(Offer),
    /// PayPal says whether the customer has approved.
    Asking(Offer),
    /// PayPal says whether it still holds the approval.
    Returning(Uuid),
    /// The method is made usable.
    Approving(Uuid),
    /// The end.
    Approved(Uuid),
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The approval is open.
    Opened {
        /// PayPal's reference.
        reference: Reference,
        /// Where the customer approves.
        url: String,
        /// Until when PayPal waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// PayPal does not open it, and never will.
    Refused,
    /// The customer may approve.
    Offered {
        /// Until when.
        expires_at: DateTime<Utc>,
        /// How long.
        left: Duration,
    },
    /// PayPal may know something new: ask.
    Reported,
    /// The customer's time is up.
    TimeIsUp,
    /// The customer has approved.
    Approved,
    /// The customer has not approved yet, and has so much time left.
    StillOpen(Duration),
    /// The customer can no longer approve, or PayPal no longer holds the approval.
    Gone,
    /// The method can pay an order.
    Usable,
}

steps! {
    /// The steps, and what takes each of them back.
    #[derive(PartialEq, Eq)]
    pub enum Step done by PayPalApprovalSteps -> Event, undone for Reason {
        /// Open the approval. It moves no money, and repeating it under its key is harmless.
        Open(method: Uuid) => call(open, within(OPENING)).repeatable().no_undo(),
        /// Store the reference and the end of the customer's time.
        Offer {
            /// The payment method.
            method: Uuid,
            /// PayPal's reference of the approval.
            reference: Reference,
            /// Until when PayPal waits.
            expires_at: Option<DateTime<Utc>>,
        } => tx(offer).no_undo(),
        /// Ask whether the customer has approved.
        Ask(method: Uuid, reference: Reference) => call(ask, within(ASKING)).repeatable().no_undo(),
        /// Make the method usable, once.
        Approve(method: Uuid) => tx(approve).pivot(),
    }
    /// The step that the caller has done in the transaction that starts the saga.
    #[derive(PartialEq, Eq)]
    pub enum CallerStep done by the caller {
        /// The method is there, and cannot be used yet or again.
        Withhold(method: Uuid) => undo_tx(expire),
    }
}

fn within(time: Duration) -> Terms {
    Terms { within: time, ..calling::terms() }
}

signals! {
    /// The signals, and what happens to one that comes before the saga waits for it.
    pub enum Signal as Event {
        /// PayPal has sent a webhook, or an order was to be paid with the method.
        Reported => keep,
    }
}

refusals! {
    /// Why the method cannot be used.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
    pub enum Reason {
        /// PayPal did not open the approval, or could not be made to answer.
        #[error("PayPal does not take the payment at the moment; nothing was charged.")]
        ServiceError => GatewayFailed "paypal_service_error",
        /// The customer did not approve in time, or PayPal no longer holds the approval.
        #[error("The payment was not approved at PayPal in time; nothing was charged.")]
        Expired => PaymentRequired "approval_expired",
    }
}

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self::ServiceError
    }
}

impl Saga for PayPalApproval {
    const NAME: &'static str = "paypal-approval";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Open(method) => to(State::Opening(method))
                .caller_did(CallerStep::Withhold(method))
                .run(Step::Open(method)),
            Input::GiveBack(method, reference) => to(State::Returning(method))
                .caller_did(CallerStep::Withhold(method))
                .run(Step::Ask(method, reference)),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use {Event as E, State as S};
        Ok(match (state, event) {
            (S::Opening(method), E::Opened { reference, url, expires_at }) => {
                let offer = Step::Offer { method, reference: reference.clone(), expires_at };
                to(S::Offering { method, reference, url }).run(offer)
            }
            (S::Opening(_), E::Refused) => unwind(Reason::ServiceError),
            (S::Offering { method, reference, url }, E::Offered { expires_at, left }) => {
                to(S::AwaitingApproval(Offer { method, reference, url, expires_at }))
                    .or_after(left, E::TimeIsUp)
            }
            (S::AwaitingApproval(offer), E::Reported | E::TimeIsUp) => {
                let ask = Step::Ask(offer.method, offer.reference.clone());
                to(S::Asking(offer)).run(ask)
            }
            (S::Asking(offer), E::StillOpen(left)) => {
                to(S::AwaitingApproval(offer)).or_after(left, E::TimeIsUp)
            }
            (S::Asking(Offer { method, .. }) | S::Returning(method), E::Approved) => {
                to(S::Approving(method)).run(Step::Approve(method))
            }
            (S::Asking(_), E::Gone) | (S::Returning(_), E::StillOpen(_) | E::Gone) => {
                unwind(Reason::Expired)
            }
            (S::Approving(method), E::Usable) => to(S::Approved(method)).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}
