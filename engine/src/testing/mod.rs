//! Tools for tests of sagas and of everything built on the engine. Public: applications use them too.

mod database;

pub use database::Database;
