//! The calls that an application makes in its own transaction: start, signal, cancel, wait for an end; and the gate before a deploy.
//!
//! It decides by [`crate::instance`] and writes by [`crate::store`]. The commit of a [`transaction`] hands what was started in it to the worker of the
//! process, if there is one.

pub(crate) mod end;
pub(crate) mod gate;
pub(crate) mod retry_now;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod transaction;
