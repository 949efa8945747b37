//! The work of workers beside driving instances: schedules, deadlines, awaited ends, queues, pauses, bulks; the journal's partitions and retention.
//!
//! Each file has both sides of its subject: the functions for callers, and the work that a worker does for it once a second ([`pass`]) or once an
//! hour. This room uses [`crate::worker`] and below, and [`crate::bulk`].

pub(crate) mod deadline;
pub(crate) mod ends;
pub(crate) mod partitions;
pub(crate) mod pass;
pub mod pause;
pub mod queue;
pub(crate) mod retain;
pub mod schedule;
