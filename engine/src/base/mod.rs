//! Plain values that everything else is made of: ids and shards, JSON as it is stored, the words for status and priority, the limits.
//!
//! This room uses nothing else of the engine, and every other room may use it.

pub(crate) mod amount;
pub(crate) mod build;
pub(crate) mod failure;
pub(crate) mod id;
pub(crate) mod json;
pub mod limits;
pub(crate) mod priority;
pub(crate) mod status;
pub(crate) mod words;
