//! The contract: a saga is a pure function of (state, event).
//!
//! Nothing here does I/O. A [`Saga`] says what to do next; its table of steps ([`crate::steps!`]) says which method does each step and which
//! one takes it back. Its whole position is one JSON value (state, pending step, open undos), so a deploy can only change data, never lose
//! a place in code.
//! State, events and steps carry ids and amounts, never personal data.
//!
//! This folder is what an author of a saga sees: the trait here, what a transition decides ([`next`](crate::Next)), the table of steps
//! ([`table`](crate::StepTable), [`steps`](crate::Outcome)), signals ([`signals`](crate::Signals)), starting ([`start`](crate::Start)) and children
//! ([`child`](crate::Child)). It uses the engine's plain data and nothing else; every other folder may use it.

pub(crate) mod called_off;
pub(crate) mod child;
pub(crate) mod macros;
pub(crate) mod next;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod terms;
pub(crate) mod upcast;

use std::{fmt::Debug, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use self::next::{CallerStep, Then};
pub use self::{
    called_off::CalledOff,
    child::Joined,
    next::{Next, To, stay, to, unwind},
    signals::{Early, Never, Signals},
    table::{Done, Rest},
};
use crate::saga::{
    table::StepTable,
    upcast::{Part, UpcastError},
};

/// A definition: a durable state machine about one subject.
pub trait Saga: Sized + Send + Sync + 'static {
    /// Its name in SQL, logs, API and docs; fixed for life.
    const NAME: &'static str;
    /// Raised when the meaning of stored data changes.
    const VERSION: u16 = 1;
    /// What an instance is started with.
    type Input: Payload;
    /// What an instance remembers.
    type State: Payload;
    /// What can happen to it: outcomes, timers, signals.
    type Event: Payload;
    /// What can be sent to it. Make it with [`crate::signals!`]; [`Never`] for a saga that takes no signals.
    type Signal: Signals<Self::Event>;
    /// What it does. Make it with [`crate::steps!`].
    type Step: StepTable<Event = Self::Event, Reason = Self::Reason>;
    /// Why it unwinds; every undo receives it. A `String` needs nothing more.
    type Reason: Payload + From<CalledOff<Self::Step>>;

    /// So much business time after it got stuck, operators are told once more ([`crate::store::notice`]).
    const ESCALATE_AFTER: Duration = Duration::from_secs(3_600);

    /// The first transition.
    fn start(input: Self::Input) -> Next<Self>;

    /// Every other transition. An event that this state does not expect is a bug (the instance gets `stuck`) unless it
    /// came as a signal, which is then kept or refused ([`Signals::early`]).
    ///
    /// # Errors
    /// [`Unexpected`] when the state has no transition for the event.
    fn on(state: Self::State, event: Self::Event) -> Result<Next<Self>, Unexpected>;

    /// What happened when all children of a transition have ended ([`To::children`]). A saga that has children says it.
    fn joined(_ends: &Joined) -> Option<Self::Event> {
        None
    }

    /// Brings stored data of version `from` to the shape of version `from + 1`; the engine goes on from there until it is of this one.
    /// Default: there is no way, and an instance of an earlier version gets `stuck`. `docs/changing-code.md` tells what needs one.
    ///
    /// # Errors
    /// [`UpcastError`], which becomes the reason of a stuck instance.
    fn upcast(from: u16, part: Part, _json: Value) -> Result<Value, UpcastError> {
        Err(UpcastError::Missing { from, part })
    }

    /// Do the other undos wait when the undo of this step cannot be done? Default: they wait for an operator, because what comes before may
    /// depend on it.
    fn on_failed_undo(_done: &Done<Self::Step>) -> Rest {
        Rest::Waits
    }

    /// The event that stands for a step which an operator skips. Default: the step must not be skipped.
    fn skipped(_step: &Self::Step) -> Option<Self::Event> {
        None
    }
}

/// What states, events, steps and reasons must be: plain data that can be written down and read again.
pub trait Payload: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Payload for T {}

/// The state has no transition for the event.
#[derive(Debug, thiserror::Error)]
#[error("{event} is not expected in {state}")]
pub struct Unexpected {
    state: String,
    event: String,
}

impl Unexpected {
    /// Names the pair. `Debug` output of plain data; it carries ids only.
    pub fn new(state: &impl Debug, event: &impl Debug) -> Self {
        Self { state: format!("{state:?}"), event: format!("{event:?}") }
    }
}
