//! Tools for tests of sagas and of everything built on the engine. Public: applications use them too.
//!
//! From the quickest to the most thorough: [`walk`] tells a story in memory; [`explore`] visits every position in memory, names what is
//! unsound and draws the diagram; [`survives_every_crash`] runs one instance on a real Postgres again and again, with its worker
//! stopped dead at another point each time. [`Database`] gives each test a database of its own, [`Clock`] moves its business time.

mod clock;
mod crash;
mod database;
mod diagram;
mod explore;
mod explored;
mod golden;
mod meddle;
mod rules;
mod samples;
mod seed;
mod trial;
mod unwind;
mod walk;

pub use clock::Clock;
pub use crash::{Survived, survives_every_crash};
pub use database::Database;
pub use explore::explore;
pub(crate) use explored::must_be_explored;
pub use golden::golden;
pub use samples::{Map, Sample, Samples};
pub use seed::Seed;
pub use trial::Trial;
pub use unwind::{Unwound, unwinds_from_every_step};
pub use walk::{Asks, Walk, walk};
