//! The shop: customers, catalogue, inventory, carts, orders and payments.
//!
//! Each aggregate (customer, category, product, inventory, cart, order, payment) is a module with its
//! rules, commands and SQL side by side; the others are named below or serve all of them. A command
//! is a function over `&mut Context` ([`shop::Context`]): the caller's transaction, the shop, the
//! engine, business time and the cause. The caller owns the transaction, so that a command, the saga
//! it starts and the caller's idempotency record are one commit. A refusal is a value of the
//! command's own error enum; `Database` in it is a surprise.
//!
//! `sagas` stands above the aggregates and uses them: the long-running processes, and the commands
//! that start them or send them a signal. No aggregate knows a saga. `gateway_events` stands above them: what the payment
//! gateway says on its own concerns payments and sagas.
//!
//! All row locks are taken in one order, everywhere: `docs/ARCHITECTURE.md`, section "Lock order".
//!
//! Business times come from `saga.now()` in SQL, never from the process's clock, so that tests
//! move time for everyone at once. What has happened is recorded as domain events in the same
//! transaction (`events`), numbered per aggregate without gaps; what follows from an event stands in
//! `reactions`; what partners may know is published through the engine's outbox (`integration`).
//!
//! Personal data is plain only in the customer's own tables. Everywhere else (domain events,
//! orders, outbox) it is sealed under the customer's key, which lives outside the database.
//!
//! Deliberately absent: HTTP, brokers and gateways. They are ports here and adapters elsewhere.

pub mod cart;
pub mod category;
pub mod cloud_event;
pub mod customer;
pub mod erasure;
pub mod events;
pub mod export;
pub mod gateway_events;
pub mod integration;
pub mod inventory;
pub mod migrations;
pub mod money;
pub mod order;
pub mod payment;
pub mod privacy;
pub mod product;
pub mod purge;
pub mod reactions;
pub mod refusal;
pub mod sagas;
pub mod seed;
pub mod shop;
#[cfg(test)]
mod testing;
pub mod text;

pub use migrations::migrate;
pub use shop::{Shop, config::Config};
