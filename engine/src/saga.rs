//! The contract: a saga is a pure function of (state, event).
//!
//! Nothing here does I/O. A [`Saga`] says what to do next; [`crate::Steps`] says how. Its whole position is one JSON
//! value (state, pending step, open undos), so a deploy can only change data, never lose a place in code.
//! State, events and steps carry ids and amounts, never personal data.

use std::{convert::Infallible, fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    birth::Child,
    terms::Terms,
    upcast::{Part, UpcastError},
};

/// What states, events, steps and reasons must be: plain data that can be written down and read again.
pub trait Payload: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Payload for T {}

/// A type without values, for a saga without tx steps or without activities: `match *step {}` is all there is to do.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

/// A definition: a durable state machine about one subject.
pub trait Saga: Sized + Send + Sync + 'static {
    /// Its name in SQL, logs, API and docs; fixed for life.
    const NAME: &'static str;
    /// Raised when the meaning of stored data changes.
    const VERSION: u16;
    /// What an instance is started with.
    type Input: Payload;
    /// What an instance remembers.
    type State: Payload;
    /// What can happen to it: outcomes, timers, signals.
    type Event: Payload;
    /// Steps that run inside the transition's own transaction.
    type Tx: Payload;
    /// Steps that touch the outside world.
    type Activity: Payload;
    /// Why it unwinds; every undo receives it.
    type Reason: Payload;

    /// So much business time after it got stuck, operators are told once more ([`crate::notice`]).
    const ESCALATE_AFTER: Duration = Duration::from_secs(3_600);

    /// The first transition.
    fn start(input: Self::Input) -> Next<Self>;

    /// Every other transition. An event that this state does not expect is a bug (the instance gets `stuck`) unless it
    /// came as a signal, which is then kept or refused ([`Saga::early`]).
    ///
    /// # Errors
    /// [`Unexpected`] when the state has no transition for the event.
    fn on(state: Self::State, event: Self::Event) -> Result<Next<Self>, Unexpected>;

    /// The way back of each step. Write it without a wildcard: a new step then does not compile until it has one.
    fn undo(step: &Step<Self>) -> Undo<Self>;

    /// Effect, time-outs and retries of an activity.
    fn terms(activity: &Self::Activity) -> Terms;

    /// The reason for which an instance unwinds when that is not its own decision.
    fn called_off(why: CalledOff<Self::Activity>) -> Self::Reason;

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

    /// Do the other undos wait when this one cannot be done? Default: they wait for a person, as what comes before may depend on it.
    fn on_failed_undo(_undo: &Step<Self>) -> Rest {
        Rest::Waits
    }

    /// What stands for a forward step that a person skips. Default: it must not be skipped.
    fn skipped(_step: &Step<Self>) -> Option<Self::Event> {
        None
    }

    /// May this signal come before the state that takes it? Default: it is refused.
    fn early(_signal: &Self::Event) -> Early {
        Early::Refuse
    }
}

/// What a saga asks for.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Step<S: Saga> {
    /// Runs inside the transition's own transaction.
    Tx(S::Tx),
    /// Touches the outside world, outside any transaction.
    Activity(S::Activity),
}

/// The way back of a step.
pub enum Undo<S: Saga> {
    /// This step takes it back.
    By(Step<S>),
    /// Nothing is to be taken back. (An activity that declares an effect needs a way back, or comes after the pivot.)
    Nothing,
    /// From here on the saga only goes forward.
    Pivot,
}

/// Why an instance unwinds without having decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalledOff<A> {
    /// This activity could not be done within its terms.
    GaveUp(A),
    /// Its deadline passed.
    Deadline,
    /// The parent unwinds.
    ByParent,
    /// Somebody cancelled it ([`crate::Engine::cancel`]), for the reason given.
    Cancelled(String),
}

impl<A: Debug> CalledOff<A> {
    /// For the journal.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::GaveUp(activity) => format!("{activity:?} could not be done"),
            Self::Deadline => "its deadline passed".to_owned(),
            Self::ByParent => "its parent unwinds".to_owned(),
            Self::Cancelled(why) => format!("cancelled: {why}"),
        }
    }
}

impl CalledOff<Infallible> {
    /// The same for a saga with these activities.
    pub(crate) fn of<A>(self) -> CalledOff<A> {
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
    pub(crate) begun: Vec<S::Tx>,
    pub(crate) then: Then<S>,
}

pub(crate) enum Then<S: Saga> {
    Run(S::Tx),
    Call(S::Activity),
    Wait { until: Option<(Duration, S::Event)>, asleep: bool },
    Children(Vec<Child>),
    Stay,
    Done,
    Anew(S::Input),
    Unwind(S::Reason),
}

/// Names the state to go to; say what to do there with one of the methods of [`To`].
pub fn to<S: Saga>(state: S::State) -> To<S> {
    To { state, begun: Vec::new() }
}

/// Stay with what is pending (an activity in flight, a timer) and only remember something.
pub fn stay<S: Saga>(state: S::State) -> Next<S> {
    Next { state: Some(state), begun: Vec::new(), then: Then::Stay }
}

/// Take back what was done, last first. The reason decides how the business ends.
pub fn unwind<S: Saga>(reason: S::Reason) -> Next<S> {
    Next { state: None, begun: Vec::new(), then: Then::Unwind(reason) }
}

/// A state to go to, before it is said what to do there.
pub struct To<S: Saga> {
    state: S::State,
    begun: Vec<S::Tx>,
}

impl<S: Saga> To<S> {
    fn next(self, then: Then<S>) -> Next<S> {
        Next { state: Some(self.state), begun: self.begun, then }
    }

    /// In [`Saga::start`] only: the caller has done this step already, in the transaction that starts the instance (so that
    /// it could refuse at once with an error of its own). Its undo is recorded as if the engine had run it.
    #[must_use]
    pub fn begun(mut self, step: S::Tx) -> Self {
        self.begun.push(step);
        self
    }

    /// Run a step inside this very transaction.
    pub fn run(self, step: S::Tx) -> Next<S> {
        self.next(Then::Run(step))
    }

    /// Call the outside world.
    pub fn call(self, activity: S::Activity) -> Next<S> {
        self.next(Then::Call(activity))
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

impl<S: Saga> Clone for Step<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Tx(step) => Self::Tx(step.clone()),
            Self::Activity(activity) => Self::Activity(activity.clone()),
        }
    }
}

impl<S: Saga> Debug for Step<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tx(step) => write!(f, "Tx({step:?})"),
            Self::Activity(activity) => write!(f, "Activity({activity:?})"),
        }
    }
}
