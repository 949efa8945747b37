//! Orders: how they are placed, cancelled and read.
//!
//! `placing -> pending | failed | cancelled`, `pending -> confirmed -> shipped -> delivered`,
//! `pending | confirmed -> cancelled`. An order is `placing` while its payment is authorized; its
//! stock is reserved then and its cart is locked. Whether it is placed or cancelled is decided
//! under the lock of its own row: the first one wins.
//!
//! Placing, shipping, cancelling, refunding and authorizing another payment are sagas. Their parts that only touch the database are here, by module:
//! - [`place`]: begin, complete. [`release`]: the way back of an order that could not be placed
//! - [`ship`]: begin, complete, withdraw
//! - [`cancel`]: begin; after the end of a placement; as asked during a placement
//! - [`refund`]: begin, complete, fail; a cancellation uses the last two
//! - [`authorize`]: begin, complete, give up
//!
//! [`outside`] books money that the gateway moved without being asked by the shop. [`reconcile`] chooses payments to ask the gateway about, in case an
//! event was lost. [`pricing`] computes the price of an order. [`store`] reads and locks orders for all of these.

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

/// Makes the enum of the statuses of an order. Each stands beside its word in SQL and JSON.
macro_rules! statuses {
    ($($(#[$doc:meta])* $status:ident = $word:literal,)+) => {
        /// The status of an order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OrderStatus { $($(#[$doc])* $status,)+ }

        impl OrderStatus {
            /// The words of all statuses in SQL and JSON.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in SQL and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$status => $word,)+ }
            }
        }

        impl FromStr for OrderStatus {
            type Err = UnknownStatus;

            fn from_str(word: &str) -> Result<Self, UnknownStatus> {
                match word { $($word => Ok(Self::$status),)+ _ => Err(UnknownStatus) }
            }
        }
    };
}

statuses! {
    /// Stock is reserved, the payment is being authorized.
    Placing = "placing",
    /// Placed and paid for; no admin has taken it on yet.
    Pending = "pending",
    /// Taken on by an admin.
    Confirmed = "confirmed",
    /// On its way.
    Shipped = "shipped",
    /// Arrived.
    Delivered = "delivered",
    /// Cancelled before it was shipped.
    Cancelled = "cancelled",
    /// Could not be placed.
    Failed = "failed",
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

impl TryFrom<String> for OrderStatus {
    type Error = UnknownStatus;

    fn try_from(word: String) -> Result<Self, UnknownStatus> {
        word.parse()
    }
}

#[cfg(test)]
mod tests;
