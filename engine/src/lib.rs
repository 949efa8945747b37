//! Durable sagas on Postgres: long-running processes as state machines whose way back is written beside their way forward.
//!
//! A reader meets five things:
//! - A [`Saga`] is a pure function of (state, event). An **instance** is one run of it about one subject, such as an order.
//! - A table of its steps ([`steps!`]) says which method does each step and which one takes it back.
//! - An [`Engine`] starts instances and signals them, inside the caller's own transactions.
//! - [`work`] drives the instances, in as many processes as wanted.
//! - [`inspect`] reads instances, and the verbs of [`operate`] are for people who help one that is stuck.
//!
//! The promises, each proven by tests that `docs/guarantees.md` lists:
//! - One transaction holds everything that a transition does: event, tx steps' rows, journal, new state, timer, messages.
//! - The outside is touched only by calls: at least once, under one key, never inside a transaction. An unknown outcome is asked for.
//! - An undo is durable before its step runs. An instance that cannot take a step back gets `stuck`, and a person decides. It never gives up silently.
//! - A stale worker cannot commit: every commit is fenced by (epoch, seq).
//!
//! Lock order of every transaction: the rows of the domain first, in the domain's order; an instance's row last.
//!
//! Every call that starts, changes or orders something is a method of [`Engine`], and so is the reading of quotas, pauses, schedules and bulks. The
//! reading of instances and messages ([`inspect`], [`notice`], [`outbox`]) is functions over the database: a step, a page and a health check have no
//! engine.
//!
//! `docs/write-your-own-saga.md` is where to begin, and [`Saga`] has a whole saga as an example. `docs/ARCHITECTURE.md` says how the engine is built:
//! its words, its rooms, one transition followed, the lock order. The test kit ([`testing`]) exists with the cargo feature `testing` only.
//!
//! Deliberately absent: replay of code (a position is data), exactly-once calls, locks of our own, any knowledge of HTTP or brokers.

#![cfg_attr(
    not(feature = "testing"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "links to the test kit lead somewhere with its feature"
    )
)]

mod base;
pub mod bulk;
pub mod database;
mod front;
pub mod inspect;
mod instance;
mod messages;
pub mod operate;
mod record;
mod run;
pub mod saga;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod upkeep;
mod worker;

pub use base::{
    amount::{Amount, Currency, InvalidAmount},
    id::{SHARDS, new_id, shard_in, shard_of},
    limits::{self, Limit, Unstorable},
    priority::Priority,
    status::{Status, WaitingOn},
    words::UnknownWord,
};
pub use database::trouble::Trouble;
pub use front::{
    gate::{Gate, Mismatch},
    start::{Once, StartError, Started},
    transaction::{Begun, Transaction},
};
pub use inspect::figures;
pub use instance::{
    family::CallOff,
    signal::{Answer, SignalError},
};
pub use messages::{inbox, outbox};
pub use record::{
    kinds::SagaVersion,
    words::{AttemptOutcome, EffectStatus, JournalKind},
};
pub use run::{quarantine, work::work};
#[doc(hidden)]
pub use saga::table::parts;
pub use saga::{
    CalledOff, Done, Early, Joined, Never, Next, Payload, Rest, Saga, Signals, Unexpected,
    child::Child,
    start::Start,
    stay,
    steps::{Cause, Effect, Key, Outcome, Probe, StepError, Undoing, Undone},
    table::{Kind, StepTable, WayBack},
    terms::{EffectKind, Retry, Terms},
    to, unwind,
    upcast::{Part, UpcastError},
};
pub use store::{
    migrations::{self, migrate},
    notice,
};
pub use upkeep::{
    pause::{self, PauseError},
    queue::{self, Quota, Rate, Scope},
    retain::Retained,
    schedule::{self, CatchUp, Overlap, Schedule, ScheduleError},
};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use worker::hooks;
pub use worker::{
    config::{Retention, WorkerConfig},
    engine::{Engine, EngineBuilder},
    hand_over::{HandOver, Starts},
    perform::DoneBy,
    step_tx::{StepOf, StepTx, StepsTx},
};
