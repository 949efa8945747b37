//! Stepwise, the program: an OpenAPI front door, operator reads and the command line.
//!
//! This is the only place where the shop meets its adapters. `routes` shows every operation on one
//! page; `resources` has one file per resource, with ten-line handlers; `door` holds what they all
//! share (callers, idempotency, problems); `cli` is the command line, one file per subcommand.
//!
//! A request passes `door::edge` (id, span, panics, unknown methods and parameters), then the
//! argument types of its handler (caller, key, path, strict JSON), then `Door::command`, which owns
//! the transaction. What a command refuses is mapped by one `match` per resource, without a
//! wildcard: a new refusal does not compile until it has a status.
//!
//! Deliberately absent: business rules, SQL of the shop, sagas. They live in `workflows`; here is
//! only what HTTP and a terminal need.

#![warn(clippy::print_stdout, reason = "`say!` ends a command quietly when nobody reads any more")]

pub mod bench;
pub mod cli;
pub mod door;
pub mod monitor;
pub mod readiness;
pub mod resources;
pub mod routes;
pub mod server;
