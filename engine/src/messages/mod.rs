//! Messages out and in: the outbox with its relay, and the inbox.
//!
//! It knows no instance: a tx step of a saga writes a message as any other code does. It uses [`crate::database`], and the error of a step, which
//! a refused message becomes.

pub mod inbox;
pub mod outbox;
