//! The contract: a saga is a pure function of (state, event).
//!
//! Nothing here does I/O. A [`Saga`] says what to do next; its table of steps ([`crate::steps!`]) says which method does each step and which
//! one takes it back. Its whole position is one JSON value (state, pending step, open undos), so a deploy can only change data, never lose
//! a place in code.
//! State, events and steps carry ids and amounts, never personal data.
//!
//! This folder is what an author of a saga sees: the trait here, its table of steps ([`table`](crate::StepTable), [`steps`](crate::Outcome)),
//! starting ([`crate::Start`]) and children ([`crate::Child`]). It uses the engine's plain data and nothing else; every other folder may use it.

pub(crate) mod child;
pub(crate) mod macros;
pub(crate) mod start;
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod terms;
pub(crate) mod upcast;

use std::{convert::Infallible, fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::saga::{
    child::Child,
    table::StepTable,
    upcast::{Part, UpcastError},
};

/// What states, events, steps and reasons must be: plain data that can be written down and read again.
pub trait Payload: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Payload for T {}

/// A type without values: the signals of a saga that takes none.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

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

/// The signals of a saga with these events: what a caller may send to an instance. An outcome of a step is no signal and cannot be sent.
pub trait Signals<E>: Payload {
    /// The event that [`Saga::on`] receives for it.
    fn event(self) -> E;

    /// What happens to the signal when the present state does not take it.
    fn early(&self) -> Early;
}

impl<E> Signals<E> for Never {
    fn event(self) -> E {
        match self {}
    }

    fn early(&self) -> Early {
        match *self {}
    }
}

/// A step that an undo takes back.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Done<T: StepTable> {
    /// The engine did it.
    Step(T),
    /// The caller did it, in the transaction that started the instance ([`To::caller_did`]).
    Caller(T::CallerStep),
}

/// Why an instance unwinds without having decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalledOff<T> {
    /// This step, a call, could not be done within its terms.
    GaveUp(T),
    /// Its deadline passed.
    Deadline,
    /// The parent unwinds.
    ByParent,
    /// Somebody cancelled it ([`crate::Engine::cancel`]), for the reason given.
    Cancelled(String),
}

impl<T: Debug> CalledOff<T> {
    /// For the journal.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::GaveUp(step) => format!("{step:?} could not be done"),
            Self::Deadline => "its deadline passed".to_owned(),
            Self::ByParent => "its parent unwinds".to_owned(),
            Self::Cancelled(why) => format!("cancelled: {why}"),
        }
    }
}

impl<T: Debug> From<CalledOff<T>> for String {
    fn from(why: CalledOff<T>) -> Self {
        why.text()
    }
}

impl CalledOff<Infallible> {
    /// The same for a saga with these steps.
    pub(crate) fn of<T>(self) -> CalledOff<T> {
        match self {
            Self::GaveUp(never) => match never {},
            Self::Deadline => CalledOff::Deadline,
            Self::ByParent => CalledOff::ByParent,
            Self::Cancelled(why) => CalledOff::Cancelled(why),
        }
    }
}

/// How the children that a transition started have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Joined {
    /// So many reached their end. Their undos are kept until the parent passes its pivot or completes.
    pub completed: u32,
    /// So many took everything back.
    pub unwound: u32,
    /// So many were given up by a person.
    pub abandoned: u32,
}

/// What the other undos do when one cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// They wait until a person has dealt with it.
    Waits,
    /// They are done; the failed one is set aside, and needs a person in the end.
    GoesOn,
}

/// What becomes of a signal that its state does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// It is kept until a state takes it.
    Keep,
    /// The sender is told that it was refused.
    Refuse,
}

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

/// What a transition decides: the new state and what to wait for in it.
pub struct Next<S: Saga> {
    pub(crate) state: Option<S::State>,
    pub(crate) by_caller: Vec<CallerStep<S>>,
    pub(crate) then: Then<S>,
}

/// What a caller does in the transaction that starts an instance of `S`.
pub(crate) type CallerStep<S> = <<S as Saga>::Step as StepTable>::CallerStep;

pub(crate) enum Then<S: Saga> {
    Step(S::Step),
    Wait { until: Option<(Duration, S::Event)>, asleep: bool },
    Children(Vec<Child>),
    Stay,
    Done,
    Anew(S::Input),
    Unwind(S::Reason),
}

/// Names the state to go to; say what to do there with one of the methods of [`To`].
pub fn to<S: Saga>(state: S::State) -> To<S> {
    To { state, by_caller: Vec::new() }
}

/// Stay with what is pending (a call in flight, a timer) and only remember something.
pub fn stay<S: Saga>(state: S::State) -> Next<S> {
    Next { state: Some(state), by_caller: Vec::new(), then: Then::Stay }
}

/// Take back what was done, last first. The reason decides how the business ends.
pub fn unwind<S: Saga>(reason: impl Into<S::Reason>) -> Next<S> {
    Next { state: None, by_caller: Vec::new(), then: Then::Unwind(reason.into()) }
}

/// A state to go to, before it is said what to do there.
pub struct To<S: Saga> {
    state: S::State,
    by_caller: Vec<CallerStep<S>>,
}

impl<S: Saga> To<S> {
    fn next(self, then: Then<S>) -> Next<S> {
        Next { state: Some(self.state), by_caller: self.by_caller, then }
    }

    /// In [`Saga::start`] only: the caller has done this step already, in the transaction that starts the instance (so that
    /// it could refuse at once with an error of its own). Its undo is recorded as if the engine had run it.
    #[must_use]
    pub fn caller_did(mut self, step: <S::Step as StepTable>::CallerStep) -> Self {
        self.by_caller.push(step);
        self
    }

    /// Do this step: in this very transaction or by a call, as its row in the table says.
    pub fn run(self, step: S::Step) -> Next<S> {
        self.next(Then::Step(step))
    }

    /// Wait for a signal, for as long as it takes.
    pub fn wait(self) -> Next<S> {
        self.next(Then::Wait { until: None, asleep: false })
    }

    /// Wait for a signal; if none changes the state within `delay` of business time, `event` happens.
    pub fn or_after(self, delay: Duration, event: S::Event) -> Next<S> {
        self.next(Then::Wait { until: Some((delay, event)), asleep: false })
    }

    /// Sleep for `delay` of business time, then `event` happens.
    pub fn sleep(self, delay: Duration, event: S::Event) -> Next<S> {
        self.next(Then::Wait { until: Some((delay, event)), asleep: true })
    }

    /// Start children and wait for the last of them to end; [`Saga::joined`] says what happened then. When the instance unwinds, its
    /// children unwind first. Before the instance's pivot a child must not pass one of its own.
    pub fn children(self, children: Vec<Child>) -> Next<S> {
        self.next(Then::Children(children))
    }

    /// The end of this instance and the start of another in its place, in one commit: same subject, start key, tags, deadline,
    /// parent and signals of late, a journal of its own. For what lives for years. Nothing may be left to be taken back.
    pub fn anew(self, input: S::Input) -> Next<S> {
        self.next(Then::Anew(input))
    }

    /// The end.
    pub fn done(self) -> Next<S> {
        self.next(Then::Done)
    }
}
