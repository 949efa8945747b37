//! Orders (and mails) through engine, gateway and Postgres: every way a payment can go, every moment of a cancellation.

mod announcing;
mod approvals;
mod cancelling;
mod crashes;
mod decisions;
mod listed;
mod mails;
mod placing;
mod recorded;
mod refunding;
mod sequences;
mod trials;
mod unwinding;
