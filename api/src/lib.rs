//! The Stepwise program: an HTTP front door with an OpenAPI document, reads for operators, and the command line.
//!
//! Only this crate connects the shop with its adapters. `routes` lists the resources on one page.
//! `resources` has one file per resource: its handlers, each beside its path (`docs/openapi.json` has all
//! paths). A handler parses, acts and maps the result. `door` has the conventions that they share
//! (callers, idempotency, problems). `cli` is the command line, one file per subcommand.
//!
//! A request passes `door::edge` (id, span, panics, unknown methods and parameters), then the
//! argument types of its handler (caller, key, path, strict JSON), then `Door::command`, which owns
//! the transaction. A command's refusals become problems by their own declaration
//! (`stepwise_workflows::refusal`), so a new refusal does not compile until it has a kind and a code.
//!
//! Deliberately absent: business rules, the shop's SQL and sagas. They are in `workflows`.

#![warn(
    clippy::print_stdout,
    reason = "`say!` ends a command without a message when its reader has gone"
)]

pub mod cli;
mod document;
pub mod door;
pub mod monitor;
pub mod readiness;
pub mod resources;
pub mod routes;
pub mod server;
