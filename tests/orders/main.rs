//! Orders (and mails) through engine, gateway and Postgres: every way a payment can go, every moment of a cancellation.

mod announcing;
mod approvals;
mod authorizing;
mod cancelling;
mod carts;
mod costs;
mod crashes;
mod decisions;
mod erasures;
mod listed;
mod mails;
mod overtaken;
mod payments;
mod placing;
mod reconciling;
mod recorded;
mod refunding;
mod sequences;
mod stock;
mod trials;
mod unwinding;
mod wallets;
