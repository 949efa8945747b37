//! The port to the payment gateway: what the shop asks of whoever moves the money.
//!
//! Authorizing is two calls, because a fence in our database does not fence a provider: *create*
//! moves no money and yields a reference, *confirm* reserves the money under it. The commit between
//! them writes the reference down, and [`PaymentGateway::cancel`] of the reference is what a late
//! confirm cannot survive.
//!
//! Every call has three outcomes. A value is what the gateway decided, refusals included.
//! [`GatewayError::NotDone`] means that nothing happened: try again. [`GatewayError::Unknown`] means
//! that it may have happened: ask ([`PaymentGateway::find`]) before anything else. An implementation
//! that is not sure answers `Unknown`; it never guesses and never retries by itself. It answers within
//! [`OPERATION`], however many requests it sends for the call.
//!
//! A `key` is our idempotency key, at most 255 visible ASCII characters, the same for every attempt
//! of one step: the gateway acts once per key. Ids, amounts and tokens are all that crosses this
//! port; no name, address or card number does.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stepwise_engine::{Cause, Outcome};
use uuid::Uuid;

use crate::money::Money;

/// How long an adapter may take for one call of the port, with all requests that it sends for it. After that the outcome is unknown. The time-out of a
/// step is longer than this for each call that the step makes, so that the adapter's answer comes before the engine gives up the attempt.
pub const OPERATION: Duration = Duration::from_secs(10);

/// A payment gateway: it reserves, takes and gives back money.
#[async_trait]
pub trait PaymentGateway: Send + Sync {
    /// Opens an authorization for `charge`. Moves no money; harmless to repeat under the same key.
    async fn create(&self, key: &str, charge: &Charge) -> Result<Creation, GatewayError>;

    /// Reserves the money. Unknown is settled by [`find`](Self::find); if that shows
    /// [`AuthorizationStatus::Created`], the same call with the same key is the way on.
    async fn confirm(&self, key: &str, reference: &Reference)
    -> Result<Confirmation, GatewayError>;

    /// The authorization with this reference, as the gateway knows it; `None`: it does not know it. Changes nothing.
    async fn find(&self, reference: &Reference) -> Result<Option<Authorization>, GatewayError>;

    /// The authorization created under `key` for the order, as the gateway knows it; `None`: it has
    /// none, *at this moment* (a frozen sender may still come). Changes nothing.
    async fn find_by_key(
        &self,
        order_id: Uuid,
        key: &str,
    ) -> Result<Option<Authorization>, GatewayError>;

    /// Voids the authorization, confirmed or not; no confirm under it can succeed afterwards.
    /// Repeating it answers the same.
    async fn cancel(&self, key: &str, reference: &Reference) -> Result<Cancellation, GatewayError>;

    /// The answer to a [`cancel`](Self::cancel) whose own answer was lost; `None`: nothing is void or
    /// taken, so it did not act *so far*. Changes nothing.
    async fn find_void(&self, reference: &Reference) -> Result<Option<Cancellation>, GatewayError>;

    /// Takes `amount` of the reserved money; what is left of the reservation is released.
    async fn capture(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Capture, GatewayError>;

    /// Gives back `amount` of what was captured. The key tells one partial refund from the next: however late the call
    /// is repeated, also when the provider has forgotten the key, a refund that was made under it is answered, not made again.
    async fn refund(
        &self,
        key: &str,
        reference: &Reference,
        amount: Money,
    ) -> Result<Refund, GatewayError>;

    /// The refund made under `key`, if the gateway has one: the probe of [`refund`](Self::refund).
    async fn find_refund(
        &self,
        key: &str,
        reference: &Reference,
    ) -> Result<Option<Refund>, GatewayError>;

    /// Opens an account at the gateway for a customer of the shop, to whom payment methods are attached. Repeating it under the same key opens no
    /// second one.
    async fn open_customer(&self, key: &str, customer_id: Uuid) -> Result<Creation, GatewayError>;

    /// Attaches a payment method to an account of [`open_customer`](Self::open_customer). Repeating it answers the same.
    async fn attach(
        &self,
        key: &str,
        method: &MethodToken,
        customer: &Reference,
    ) -> Result<Attachment, GatewayError>;

    /// Detaches a payment method from the account to which it is attached, if there is one: nobody can pay with it any more. Repeating it answers
    /// the same.
    async fn detach(&self, key: &str, method: &MethodToken) -> Result<(), GatewayError>;

    /// Deletes an account of [`open_customer`](Self::open_customer) for good. Repeating it answers the same, and so does an account that there is not.
    async fn delete_customer(&self, customer: &Reference) -> Result<(), GatewayError>;

    /// All refunds of this authorization, in no particular order; none if the gateway does not know it. Changes nothing.
    async fn refunds(&self, reference: &Reference) -> Result<Vec<MadeRefund>, GatewayError>;
}

/// Why a call has no answer; what the engine needs to know is which of the two it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GatewayError {
    /// Surely nothing happened: connection refused, or the gateway said so. Repeat by policy.
    #[error("the payment gateway did nothing: {0}")]
    NotDone(Trouble),
    /// It may have happened: time-out, connection lost after sending, 5xx. Ask before going on.
    #[error("whether the payment gateway acted is unknown: {0}")]
    Unknown(Trouble),
}

/// A call without an answer, as an outcome of a step.
impl<E> From<GatewayError> for Outcome<E> {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::NotDone(trouble) => Self::NotDone(Cause::new(trouble)),
            GatewayError::Unknown(trouble) => Self::Unknown(Cause::new(trouble)),
        }
    }
}

/// The kind of failure, in words for logs and operators: no token, no personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody listens there, or the name does not resolve.
    #[error("it cannot be reached")]
    Unreachable,
    /// No answer within the time-out.
    #[error("it did not answer in time")]
    TimedOut,
    /// The connection ended before the answer did.
    #[error("the connection was lost")]
    ConnectionLost,
    /// It answered 5xx.
    #[error("it answered {0}")]
    ServerError(u16),
    /// It asks for fewer requests (429), or says that it is closed and did not act (503 with
    /// `Retry-After`).
    #[error("it is busy or closed ({0})")]
    Unavailable(u16),
    /// A request with this key is still being worked on.
    #[error("an earlier request with the same key is still running")]
    InFlight,
    /// Our credentials or configuration are wrong: nothing succeeds until a person mends them.
    #[error("it refuses our credentials or configuration ({0})")]
    Misconfigured(u16),
    /// It has not answered lately, and is not asked until it answers again.
    #[error("it does not answer, and is not asked until it does")]
    Down,
    /// The answer was not what its API promises.
    #[error("its answer cannot be understood")]
    Garbled,
}

/// The gateway's id of an authorization (Stripe: `pi_…`), at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reference(pub String);

impl From<String> for Reference {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The gateway's token of a payment method (Stripe: `pm_…`). Whoever holds it can charge the card,
/// so it does not show in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MethodToken(pub String);

impl fmt::Debug for MethodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MethodToken(***)")
    }
}

/// The payment to authorize.
#[derive(Debug, Clone)]
pub struct Charge {
    /// The order it pays for; the gateway keeps it beside the authorization.
    pub order_id: Uuid,
    /// The order's total.
    pub amount: Money,
    /// With what it is paid.
    pub method: MethodToken,
    /// The account at the gateway to which the method is attached; `None`: it is attached to none.
    pub customer: Option<Reference>,
}

/// Answer to [`PaymentGateway::attach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// Attached, now or by an earlier call.
    Attached,
    /// Will not be attached, now or ever.
    Refused(Reason),
}

/// Answer to [`PaymentGateway::create`] and [`PaymentGateway::open_customer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// Opened; nothing is reserved yet.
    Created(Reference),
    /// Will not be opened, now or ever (no such method, amount out of range).
    Refused(Reason),
}

/// Answer to [`PaymentGateway::confirm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The money is reserved.
    Confirmed(Reference),
    /// The issuer said no.
    Declined(Reason),
    /// This kind of card is not taken.
    Unsupported,
    /// The customer must approve first; what came of it arrives as a [`GatewayEvent`].
    ApprovalRequired(Approval),
    /// The authorization was cancelled before: this confirm came too late and did nothing.
    Cancelled,
}

/// The approval that the customer must give before the money is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Where to send the customer.
    pub url: String,
    /// Until when the gateway waits; `None`: it does not say.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The status of a customer's approval of a payment at PayPal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalStatus {
    /// The customer has not approved it yet.
    Open,
    /// The customer has approved it: an order can be paid with it, once.
    Approved,
    /// It belongs to an order that was paid, or was to be paid, with it.
    Completed,
    /// It can no longer be approved or used.
    Voided,
}

/// Answer to [`PaymentGateway::cancel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// Void, now or since an earlier call.
    Cancelled {
        /// The gateway's reference of the void.
        reference: Reference,
        /// The money that was reserved and is released by it; zero if nothing had been confirmed.
        released: Money,
    },
    /// The money was taken already: only a refund brings it back.
    AlreadyCaptured,
    /// The gateway never heard of it.
    NotFound,
}

/// Answer to [`PaymentGateway::capture`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// Taken, now or by an earlier call.
    Captured {
        /// How much was taken.
        amount: Money,
    },
    /// Not taken and never will be: the authorization lapsed, was cancelled or is too small.
    Refused(Reason),
}

/// Answer to [`PaymentGateway::refund`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refund {
    /// Given back.
    Refunded {
        /// The gateway's id of the refund.
        reference: Reference,
        /// How much.
        amount: Money,
    },
    /// Accepted by the gateway, which gives it back later. If that fails, a [`GatewayEvent`] says so.
    Pending {
        /// The gateway's id of the refund.
        reference: Reference,
        /// How much.
        amount: Money,
    },
    /// Not given back under this key.
    Refused(Reason),
}

/// A refund as the gateway knows it, whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeRefund {
    /// The gateway's id of the refund.
    pub reference: Reference,
    /// How much.
    pub amount: Money,
    /// Its status.
    pub status: RefundStatus,
    /// Our key; `None`: not asked for by us.
    pub key: Option<String>,
}

impl MadeRefund {
    /// Whether the money did not reach the customer.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.status, RefundStatus::Failed(_))
    }
}

/// The status of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundStatus {
    /// Accepted, and not done yet.
    Pending,
    /// Given back.
    Succeeded,
    /// Not given back after all: the money is the shop's again.
    Failed(Reason),
}

/// The gateway's word for a refusal (`insufficient_funds`): lower case, digits and `_`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(String);

impl Reason {
    /// Takes the gateway's text and keeps what a code may consist of; nothing left is `refused`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let code: String = text
            .chars()
            .filter_map(|c| match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9' | '_') => Some(c),
                '-' | ' ' => Some('_'),
                _ => None,
            })
            .take(64)
            .collect();
        Self(if code.is_empty() { "refused".to_owned() } else { code })
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An authorization as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// Its id.
    pub reference: Reference,
    /// The order it was created for; `None`: not one of ours.
    pub order_id: Option<Uuid>,
    /// The amount that was asked for.
    pub amount: Money,
    /// Its status.
    pub status: AuthorizationStatus,
}

/// Where an authorization stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorizationStatus {
    /// Opened, not confirmed.
    Created,
    /// The gateway is working on the confirm: ask again.
    Processing,
    /// Waits for the customer.
    ApprovalRequired(Approval),
    /// The money is reserved.
    Authorized,
    /// The issuer said no.
    Declined(Reason),
    /// This kind of card is not taken.
    Unsupported,
    /// The money was taken.
    Captured {
        /// How much was taken.
        captured: Money,
        /// How much of it was given back, by all refunds together.
        refunded: Money,
    },
    /// Void.
    Cancelled,
}

/// An event that the gateway sent on its own (webhook), after its signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayEvent {
    /// The gateway's id of the event, at most 255 characters: copies carry the same. For an event without an id, one made from its content.
    pub id: String,
    /// The gateway's name for what happened (`payment_intent.canceled`), at most 64 characters.
    pub name: String,
    /// When it happened, by the gateway's clock; `None`: the event does not say.
    pub at: Option<DateTime<Utc>>,
    /// The content.
    pub news: News,
}

/// The content of a [`GatewayEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An authorization has changed: the kind of change, and the authorization as it was at that moment.
    Authorization(GatewayEventKind, Authorization),
    /// A refund was made, or has changed.
    Refund {
        /// The authorization whose money is given back.
        authorization: Reference,
        /// The refund as it was at that moment.
        refund: MadeRefund,
    },
    /// The customer's bank disputes a payment, or has decided a dispute.
    Dispute {
        /// The authorization whose money is disputed.
        authorization: Reference,
        /// The gateway's id of the dispute.
        reference: Reference,
        /// The disputed amount.
        amount: Money,
        /// The decision so far.
        status: DisputeStatus,
    },
    /// A customer has approved a payment at PayPal, or it can no longer be approved.
    Approval {
        /// Names the approval.
        reference: Reference,
        /// Its status at that moment.
        status: ApprovalStatus,
    },
    /// Of a kind that tells this shop nothing.
    NoConcern,
    /// Of a kind that concerns payments, or of no kind at all, in a shape that this version cannot read.
    Unreadable,
}

/// The status of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStatus {
    /// Not decided.
    Open,
    /// The money stays with the shop.
    Won,
    /// The money went back to the customer.
    Lost,
}

/// The kind of change of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayEventKind {
    /// The money is reserved (after an approval, or as an echo of a confirm).
    Authorized,
    /// The issuer said no, or the customer did.
    Declined,
    /// The customer must approve.
    ApprovalRequired,
    /// The money was taken.
    Captured,
    /// Void.
    Cancelled,
    /// Some or all was given back.
    Refunded,
    /// One of the kinds this shop does not act on.
    Other,
}

#[cfg(test)]
mod tests;
