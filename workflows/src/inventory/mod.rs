//! Inventory: what is on hand of each product or variant, and how much of it is promised.
//!
//! `available = on_hand - reserved`, and `0 <= reserved <= on_hand` by constraint. What is reserved
//! is always the sum of the reservations. Rows are locked by (product, variant), in every command
//! that touches more than one; every change has an audit row that carries its event's number.
//!
//! A reservation by hand holds stock for an order until the order ends or its time is over ([`crate::sagas::reservation_expiry`]).
//!
//! Two alerts are facts of their own: LowStockAlert when available stock falls below the product's
//! threshold, OutOfStock when it reaches zero, each once per crossing. The change of the stock decides it under the lock of the stock's row.
//! From each a saga follows that tells partners ([`crate::sagas::stock_alert`]).

pub mod commands;
mod movement;
mod reservation;
mod store;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use movement::{Movement, MovementKind};
pub use reservation::{Reserved, expire_reservation, reserve_inventory};
pub(crate) use store::name_of;
pub use store::{
    AuditRow, Held, audit_of, lock_held_by, stock_in_use, stock_of, write, write_and_record,
    write_and_record_each,
};

use crate::refusal::refusals;

refusals! {
    /// Why no stock is shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownProduct {
        /// No such product, or no such variant of it.
        #[error("there is no such product or variant")]
        NotFound => NotFound "product_not_found",
    }
}

/// The stock of a product, or of one of its variants.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Stock {
    /// Its own id.
    pub inventory_id: Uuid,
    /// The product.
    pub product_id: Uuid,
    /// The variant; `None`: the product has none.
    pub variant_id: Option<Uuid>,
    /// How many there are.
    pub on_hand: i32,
    /// How many of them are promised to orders.
    pub reserved: i32,
    /// Available stock below this is low.
    pub low_stock_threshold: i32,
    /// The number of its last domain event.
    pub event_count: i64,
}

impl Stock {
    /// How many can still be promised.
    pub fn available(&self) -> i32 {
        self.on_hand - self.reserved
    }
}

/// Business time of the transaction, as Postgres tells it.
pub(crate) type Time = DateTime<Utc>;

#[cfg(test)]
mod tests;
