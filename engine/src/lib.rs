//! Durable sagas on Postgres: long-running processes as state machines whose way back is written beside their way forward.
//!
//! A [`Saga`] is a pure function of (state, event); [`Steps`] says how its steps are done; an [`Engine`] starts instances and [`signal`] tells
//! them something, both inside the caller's own transactions; [`work`] drives them. One transaction holds everything a transition does: the event,
//! the tx steps' rows, the journal, the new state, timers and published messages. The outside world is touched only by
//! activities: at least once, under a key made of our own ids, never inside a transaction.
//!
//! What decides the speed: transitions of many instances share one statement and one commit (the lanes), each fenced by
//! (epoch, seq); a worker claims instances, not steps, and carries each as far as it goes.
//!
//! Lock order of every transaction: the rows of the domain first, in the domain's order; an instance's row last.
//!
//! Deliberately absent: replay of code (a position is data), exactly-once calls (a provider deduplicates by our key), locks of
//! our own, any knowledge of shops, HTTP or message brokers.

mod advance;
mod apply;
mod backend;
mod birth;
mod chain;
mod claim;
mod commit;
mod deadline;
mod durable;
mod engine;
mod family;
mod gate;
#[doc(hidden)]
pub mod hooks;
mod id;
pub mod inbox;
pub mod inspect;
mod instance;
mod json;
mod lane;
mod lease;
pub mod migrations;
pub mod notice;
pub mod outbox;
pub mod pause;
mod perform;
pub mod queue;
mod registry;
mod round;
mod row;
pub mod saga;
mod signal;
mod start;
mod status;
mod steps;
mod store;
mod terms;
pub mod testing;
mod unknown;
mod upcast;
mod watch;
mod worker;

pub use birth::{Child, Priority, Start};
pub use engine::{Engine, EngineBuilder};
pub use family::CallOff;
pub use gate::{Gate, Mismatch};
pub use id::{SHARDS, new_id, shard_in, shard_of};
pub use migrations::migrate;
pub use pause::PauseError;
pub use queue::{Quota, Rate, Scope, set_quota};
pub use saga::{
    CalledOff, Early, Joined, Never, Next, Payload, Saga, Step, Undo, Unexpected, stay, to, unwind,
};
pub use signal::{Answer, SignalError, signal};
pub use start::{StartError, Started};
pub use status::{Status, WaitingOn};
pub use steps::{ActivityKey, Cause, Effect, EffectRow, Outcome, Probe, StepError, Steps, Undone};
pub use terms::{EffectKind, Retry, Terms, WhenUnknown};
pub use upcast::{Part, UpcastError};
pub use worker::{WorkerConfig, work};
