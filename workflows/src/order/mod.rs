//! Orders: how they are placed, cancelled and read.
//!
//! `placing -> pending | failed | cancelled`, `pending -> confirmed -> shipped -> delivered`,
//! `pending | confirmed -> cancelled`. An order is `placing` while its payment is authorized; its
//! stock is reserved then and its cart is locked. Whether it is placed or cancelled is decided
//! under the lock of its own row: the first one wins.
//!
//! Placing, shipping, cancelling, refunding and authorizing another payment are sagas. Here are their halves that only touch the database:
//! [`place`] (begin, complete, release), [`ship`] (begin, complete, withdraw), [`cancel`] (begin), [`refund`] (begin, complete, fail) and
//! [`authorize`] (begin, complete, give up).

pub mod authorize;
pub mod cancel;
mod confirm;
mod deliver;
mod number;
pub mod outside;
pub mod place;
pub mod pricing;
pub mod reconcile;
pub mod refund;
pub mod release;
pub mod ship;
pub mod store;
mod timeline;
mod view;

use std::{fmt, str::FromStr};

pub use confirm::{ConfirmOrderRefusal, confirm_order};
pub use deliver::{DeliverOrderRefusal, deliver_order};
pub use store::lock_version;
pub use timeline::{Happened, get_order_timeline};
pub use view::{
    Address, OrderFilter, OrderView, PaymentSummary, ReadOrderError, get_order, list_orders,
};

use crate::refusal::refusals;

refusals! {
    /// Why an order is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownOrder {
        /// Unknown, or somebody else's.
        #[error("There is no such order.")]
        NotFound => NotFound "order_not_found",
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderStatus {
    /// Stock is reserved, the payment is being authorized.
    Placing,
    /// Placed and paid for; no admin has taken it on yet.
    Pending,
    /// Taken on by an admin.
    Confirmed,
    /// On its way.
    Shipped,
    /// Arrived.
    Delivered,
    /// Cancelled before it was shipped.
    Cancelled,
    /// Could not be placed.
    Failed,
}

impl OrderStatus {
    /// The word in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placing => "placing",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, thiserror::Error)]
#[error("not an order status")]
pub struct UnknownStatus;

impl FromStr for OrderStatus {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        [
            Self::Placing,
            Self::Pending,
            Self::Confirmed,
            Self::Shipped,
            Self::Delivered,
            Self::Cancelled,
            Self::Failed,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or(UnknownStatus)
    }
}

impl TryFrom<String> for OrderStatus {
    type Error = UnknownStatus;

    fn try_from(word: String) -> Result<Self, UnknownStatus> {
        word.parse()
    }
}

#[cfg(test)]
mod tests;
