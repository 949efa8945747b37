//! The API's resources, one file each: request and response types, and handlers.

pub mod accounts;
pub mod answer;
pub mod carts;
pub mod catalogue;
pub mod customers;
pub mod erasure;
pub mod events;
pub mod inventory;
pub mod operations;
pub mod operators;
mod order_shape;
pub mod orders;
pub mod parked;
pub mod payments;
pub mod paypal;
mod placements;
pub mod problems;
pub mod refunds;
pub mod shapes;
pub mod system;
pub mod tag;
pub mod wallet;
pub mod webhooks;
pub mod words;

use poem_openapi::Tags;

/// The groups of operations in the OpenAPI document.
#[derive(Tags)]
pub enum Group {
    /// People with accounts, their addresses and payment methods.
    Customers,
    /// Products and categories.
    Catalogue,
    /// Stock.
    Inventory,
    /// Carts.
    Carts,
    /// Orders.
    Orders,
    /// Payments of orders: authorized, shown, given back.
    Payments,
    /// Long-running work that a command has started.
    Operations,
    /// Reads for operators.
    Operators,
    /// Endpoints that other systems call.
    Webhooks,
    /// The server itself.
    System,
}
