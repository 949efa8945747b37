//! Durable sagas on Postgres.

pub mod id;
pub mod inbox;
pub mod migrations;
pub mod outbox;
pub mod testing;

pub use migrations::migrate;
