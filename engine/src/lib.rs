//! Durable sagas on Postgres: long-running processes as state machines whose way back is written beside their way forward.
//!
//! A [`Saga`] is a pure function of (state, event). A table of its steps ([`steps!`]) says which method does each and which one takes it back.
//! An [`Engine`] starts instances and [`signal()`] sends them something, both inside the caller's own transactions; [`work`] drives them, in as
//! many processes as wanted.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # use stepwise_engine::*;
//! # #[derive(Serialize, Deserialize, Clone, Debug)] enum State { Booking, Paying, Done }
//! # #[derive(Serialize, Deserialize, Clone, Debug)] enum Event { Booked, Paid, Declined }
//! # struct Seat;
//! steps! {
//!     enum Step done by SeatSteps -> Event, undone for String {
//!         Book(seat: u32) => tx(book).undo_tx(release),
//!         Charge => call(charge).repeatable().pivot(),
//!     }
//! }
//!
//! # impl Saga for Seat {
//! # const NAME: &'static str = "seat";
//! # type Input = u32; type State = State; type Event = Event; type Signal = Never; type Step = Step; type Reason = String;
//! fn start(seat: u32) -> Next<Self> {
//!     to(State::Booking).run(Step::Book(seat)) // in the caller's transaction
//! }
//!
//! fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
//!     Ok(match (state, event) {
//!         (State::Booking, Event::Booked) => to(State::Paying).run(Step::Charge),
//!         (State::Paying, Event::Paid) => to(State::Done).done(),
//!         (State::Paying, Event::Declined) => unwind("declined".to_owned()), // releases the seat
//!         (state, event) => return Err(Unexpected::new(&state, &event)),
//!     })
//! }
//! # }
//! # let mut seat = testing::walk::<Seat>(7);
//! # seat.answers(Event::Booked).refuses(Event::Declined).takes_all_back();
//! # assert_eq!(seat.status(), Status::Unwound);
//! ```
//!
//! What a caller may believe (the tests that prove it are listed in `docs/guarantees.md`; `docs/write-your-own-saga.md` is where to begin):
//! - One transaction holds everything that a transition does: event, tx steps' rows, journal, new state, timer, messages.
//! - The outside is touched only by calls: at least once, under one key, never inside a transaction. An unknown outcome is asked for.
//! - An undo is durable before its step runs, and what cannot be undone is `stuck`, a state for people; never silently given up.
//! - A stale worker cannot commit: every commit is fenced by (epoch, seq). Transitions of many instances share one statement and one commit.
//!
//! Lock order of every transaction: the rows of the domain first, in the domain's order; an instance's row last.
//!
//! Also here: [`Child`]ren, [`saga::To::anew`] for what lives for years, [`Engine::cancel`], deadlines ([`Start::within`]), [`Priority`], queues
//! ([`Start::queued`], [`Quota`]), durable [`Schedule`]s (one firing per tick across all processes), [`Engine::pause`] for a whole saga, versions
//! ([`Saga::upcast`], and [`Gate`] before a deploy), messages ([`outbox`], [`inbox`]), reading ([`inspect`]), what a person should see ([`notice`])
//! and can do about it ([`operate`], for many at once [`bulk`]), and [`testing`].
//!
//! What keeps it alive by itself: a step that ends its process is driven in a child process until it is known which one does it ([`quarantine`]);
//! everything that could grow has a limit, over which an instance is `stuck` with a reason or a caller is refused ([`limits`]); old journal
//! and instances that ended long ago are deleted ([`Retention`]).
//!
//! Deliberately absent: replay of code (a position is data), exactly-once calls, locks of our own, any knowledge of HTTP or brokers.

mod advance;
mod apply;
mod audit;
mod backend;
mod birth;
mod build;
pub mod bulk;
mod chain;
mod claim;
mod commit;
mod contact;
pub mod database;
mod deadline;
mod due;
mod durable;
mod ends;
mod engine;
mod family;
pub mod figures;
mod filter;
mod gate;
mod held;
#[doc(hidden)]
pub mod hooks;
mod id;
pub mod inbox;
pub mod inspect;
mod instance;
mod json;
mod lane;
mod lease;
pub mod limits;
mod macros;
pub mod migrations;
pub mod notice;
pub mod operate;
pub mod outbox;
mod partitions;
pub mod pause;
mod perform;
pub mod quarantine;
pub mod queue;
mod registry;
mod retain;
mod retry_now;
mod round;
mod row;
pub mod saga;
pub mod schedule;
mod signal;
mod start;
mod status;
mod steps;
mod store;
mod table;
mod terms;
pub mod testing;
mod trouble;
mod unknown;
mod unwind;
mod upcast;
mod waits;
mod watch;
mod worker;

pub use birth::{Child, Priority, Start};
pub use ends::signal_at_end;
pub use engine::{Engine, EngineBuilder};
pub use family::CallOff;
pub use gate::{Gate, Mismatch};
pub use id::{SHARDS, new_id, shard_in, shard_of};
pub use limits::{Limit, Unstorable};
pub use migrations::migrate;
pub use pause::PauseError;
pub use queue::{Quota, Rate, Scope, set_quota};
pub use retain::{Retained, Retention, retain};
pub use saga::{
    CalledOff, Done, Early, Joined, Never, Next, Payload, Rest, Saga, Signals, Unexpected, stay,
    to, unwind,
};
pub use schedule::{CatchUp, Overlap, Schedule, ScheduleError};
pub use signal::{Answer, SignalError, signal, signal_all};
pub use start::{Once, StartError, Started};
pub use status::{Status, WaitingOn};
pub use steps::{Cause, Effect, Key, Outcome, Probe, StepError, Undoing, Undone};
#[doc(hidden)]
pub use table::parts;
pub use table::{DoneBy, Kind, StepTable, WayBack};
pub use terms::{EffectKind, Retry, Terms};
pub use trouble::Trouble;
pub use upcast::{Part, UpcastError};
pub use worker::{WorkerConfig, work};
