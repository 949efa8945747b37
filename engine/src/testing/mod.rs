//! Tools for tests of sagas and of everything built on the engine. Applications use them too: ask for the cargo feature `testing` under
//! `[dev-dependencies]`. No program that serves anybody is built with it.
//!
//! Faults that a saga can have, and the tools that find them, from the quickest to the most thorough:
//!
//! 1. The compiler: a step without its way back, an undo that nobody wrote, another saga's signal, data that cannot be written down.
//! 2. [`walk`]: a story in memory, by the engine's own pure half. Microseconds; for what the business wants.
//! 3. [`explore`]: every position that the saga's [`Samples`] lead to, in memory. It names what would get an instance stuck, leave it
//!    waiting for nothing, lose a signal, or leave an effect standing when the saga unwinds, and says what to do; it draws the
//!    diagram. [`golden`] remembers what each version stores.
//! 4. [`unwinds_from_every_step`], on a real Postgres: a [`Trial`] of the saga with its outside world is made to unwind before, in and
//!    after every step, and every step and undo is done twice. It finds an undo that needs what may not be there, a call that does not
//!    carry our key, a tx step that acts outside its transaction.
//! 5. [`survives_every_crash`]: the same trial with the worker stopped dead at another point each time.
//!
//! After 4 and 5 three books must agree: the engine's ledger of effects, the domain's tables, and what the outside remembers.
//!
//! [`start`] and [`signal`] do what a caller does, each in a transaction of its own. [`Database`] gives each test a database of its own; a process that has made one registers no saga that was not explored
//! ([`crate::EngineBuilder::explored`] does both). [`Clock`] moves business time, [`Seed`] makes a random run one that can be repeated, [`Race`] lets either of two be first. [`Statements`] counts round trips.
//!
//! Deliberately absent: a mock of Postgres or of the engine. A trial meddles by wrapping the saga's own steps;
//! the engine has no switch for it.

mod asks;
mod caller;
mod clock;
mod crash;
mod database;
mod diagram;
mod explore;
mod explored;
mod golden;
mod map;
mod meddle;
mod race;
#[cfg(doctest)]
mod refused;
mod rules;
mod samples;
mod seed;
mod statements;
mod stored;
mod stored_samples;
mod trial;
mod unwind;
mod walk;

pub use asks::Asks;

pub use caller::{signal, start, step};

pub use clock::Clock;

pub use crash::{Survived, survives_every_crash};

pub use database::Database;

pub use explore::explore;

pub use golden::golden;

pub use map::Map;

pub use race::Race;

pub use samples::{Sample, Samples};

pub use seed::Seed;

pub use statements::Statements;

pub use trial::Trial;

pub use unwind::{Unwound, unwinds_from_every_step};

pub use walk::{Walk, walk};
