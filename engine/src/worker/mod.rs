//! One process at work: it holds a lease, claims instances that are due, drives each to where it waits, and commits every transition.
//!
//! One transition is followed through [`claim`], [`advance`], [`perform`], [`crate::instance::apply`], [`durable`], [`batcher`] (or a transaction of its
//! own, which it shares with others where a step is done [`together`]) and [`crate::store::commit`]. It reaches a saga by [`drives::Drives`], which [`crate::run`] implements. The work of a process beside driving is
//! in [`crate::upkeep`], which this room does not know.

pub(crate) mod advance;
pub(crate) mod back_off;
pub(crate) mod backend;
pub(crate) mod batcher;
pub(crate) mod chain;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod drives;
pub(crate) mod driving;
pub(crate) mod due;
pub(crate) mod durable;
pub(crate) mod engine;
pub(crate) mod family;
pub(crate) mod hand_over;
#[doc(hidden)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "only tests reach it"))]
pub mod hooks;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod perform;
pub(crate) mod quarantine;
pub(crate) mod state;
pub(crate) mod step_tx;
pub(crate) mod together;
pub(crate) mod unknown;
pub(crate) mod watch;
