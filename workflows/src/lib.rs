//! The shop.

pub mod migrations;

pub use migrations::migrate;
