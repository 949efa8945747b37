//! Durable sagas on Postgres: long-running processes as state machines whose way back is written beside their way forward.
//!
//! A [`Saga`] is a pure function of (state, event). A table of its steps ([`steps!`]) says which method does each and which one takes it back.
//! An [`Engine`] starts instances and signals them, inside the caller's own transactions; [`work`] drives them, in as
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
//! The promises (`docs/guarantees.md` lists the tests that prove them; `docs/write-your-own-saga.md` is where to begin):
//! - One transaction holds everything that a transition does: event, tx steps' rows, journal, new state, timer, messages.
//! - The outside is touched only by calls: at least once, under one key, never inside a transaction. An unknown outcome is asked for.
//! - An undo is durable before its step runs, and what cannot be undone is `stuck`, a state for people; never silently given up.
//! - A stale worker cannot commit: every commit is fenced by (epoch, seq). Transitions of many instances share one statement and one commit.
//!
//! Lock order of every transaction: the rows of the domain first, in the domain's order; an instance's row last.
//!
//! Every call that starts, changes or orders something is a method of [`Engine`], and so is the reading of quotas, pauses, schedules and bulks. The
//! reading of instances and messages ([`inspect`], [`notice`], [`outbox`]) is functions over the database: a step, a page and a health check have no
//! engine.
//!
//! Also here: [`Child`]ren, [`saga::To::anew`] for what lives for years, [`Engine::cancel`], deadlines ([`Start::within`]), [`Priority`], queues
//! ([`Start::queued`], [`Quota`]), durable [`Schedule`]s (one firing per tick across all processes), [`Engine::pause`] for a whole saga, versions
//! ([`Saga::upcast`], and [`Gate`] before a deploy), messages ([`outbox`], [`inbox`]), reading ([`inspect`]), notices for operators ([`notice`]) and
//! their verbs ([`operate`], for many at once [`bulk`]), and [`testing`].
//!
//! It keeps itself working: instances of a process that died are driven in a child process, until it is known which one ends processes
//! ([`quarantine`]). Everything that could grow has a limit, over which an instance gets `stuck` with a reason or a caller is refused
//! ([`limits`]). The old journal and instances that ended long ago are deleted ([`Retention`]).
//!
//! The test kit and the switches that crash a worker or leave out its fence exist with the cargo feature `testing` only.
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
    words::{EffectStatus, JournalKind},
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
    step_tx::StepTx,
};
