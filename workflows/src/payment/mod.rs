//! Payments: what was asked of the gateway for an order, and what became of it.
//!
//! A payment is authorized for one order; every move of money (authorize, capture, void, refund) is
//! a transaction of its own: requested, then succeeded, failed or unknown, with our key and the
//! provider's reference. Unknown is a state, settled by asking the provider, never by guessing.

pub mod gateway;
pub mod parked;
pub mod paypal;
pub mod store;
mod view;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use view::{MoveView, PaymentView, UnknownPayment, get_payment};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// The provider is being asked.
    Authorizing,
    /// The money is reserved.
    Authorized,
    /// The money is taken.
    Captured,
    /// Some of it was given back.
    PartiallyRefunded,
    /// All of it was given back.
    Refunded,
    /// The reservation was released; nothing was taken.
    Voided,
    /// The provider said no.
    Declined,
    /// The provider may have acted; it is being asked. Never stored: only the engine's ledger knows it, and [`get_payment`] and
    /// [`crate::order::get_order`] ask there.
    Unknown,
}

impl PaymentState {
    /// The word in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorizing => "authorizing",
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
            Self::Declined => "declined",
            Self::Unknown => "unknown",
        }
    }
}

impl PaymentState {
    /// Whether its money was taken, and perhaps given back since.
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Captured | Self::PartiallyRefunded | Self::Refunded)
    }
}

impl fmt::Display for PaymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no state.
#[derive(Debug, thiserror::Error)]
#[error("not a payment state")]
pub struct UnknownState;

impl FromStr for PaymentState {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        [
            Self::Authorizing,
            Self::Authorized,
            Self::Captured,
            Self::PartiallyRefunded,
            Self::Refunded,
            Self::Voided,
            Self::Declined,
            Self::Unknown,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
        .ok_or(UnknownState)
    }
}

impl TryFrom<String> for PaymentState {
    type Error = UnknownState;

    fn try_from(word: String) -> Result<Self, UnknownState> {
        word.parse()
    }
}

/// Why an order's payment was not authorized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentFailure {
    /// The issuer said no, in the gateway's word.
    Declined(gateway::Reason),
    /// This kind of card is not taken.
    Unsupported,
    /// The customer did not approve in time.
    ApprovalExpired,
    /// The gateway could not be made to answer.
    GatewayError,
}

impl PaymentFailure {
    /// The code in events, orders and problems.
    pub fn code(&self) -> &str {
        match self {
            Self::Declined(reason) => reason.as_str(),
            Self::Unsupported => "unsupported_card_type",
            Self::ApprovalExpired => "approval_expired",
            Self::GatewayError => "gateway_error",
        }
    }

    /// The state in which the payment ends: declined by the provider, or voided by us.
    pub fn ends_as(&self) -> PaymentState {
        match self {
            Self::Declined(_) | Self::Unsupported => PaymentState::Declined,
            Self::ApprovalExpired | Self::GatewayError => PaymentState::Voided,
        }
    }
}
