//! One file per resource: its shapes, its handlers, and the `match` from refusals to problems.

pub mod carts;
pub mod catalogue;
pub mod customers;
pub mod events;
pub mod inventory;
pub mod operations;
pub mod operators;
pub mod orders;
pub mod shapes;
pub mod system;
pub mod wallet;
pub mod webhooks;

use poem_openapi::Tags;

/// How the operations are grouped in the document.
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
    /// Long-running work a command started.
    Operations,
    /// What operators see.
    Operators,
    /// What other systems call.
    Webhooks,
    /// The server itself.
    System,
}
