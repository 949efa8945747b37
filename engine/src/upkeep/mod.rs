//! What workers do beside driving instances: schedules, deadlines, awaited ends, queues, pauses, bulks; the journal's partitions and retention.
//!
//! Each file has both sides of its matter: what a caller asks for, and what a worker does about it once a second ([`round`]) or once an hour. It
//! uses [`crate::worker`] and below, and [`crate::bulk`].

pub(crate) mod deadline;
pub(crate) mod ends;
pub(crate) mod partitions;
pub mod pause;
pub mod queue;
pub(crate) mod retain;
pub(crate) mod round;
pub mod schedule;
