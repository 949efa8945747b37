//! Durable sagas on Postgres.

pub mod migrations;
pub mod testing;

pub use migrations::migrate;
