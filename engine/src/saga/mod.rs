//! The contract: a saga is a pure function of (state, event).
//!
//! Nothing here does I/O. A [`Saga`] says what to do next, one step at a time. Its table of steps ([`crate::steps!`]) says which method does each step
//! and which one takes it back. The whole position of an instance is data (state, pending step, open undos), so a deploy can change data but never
//! lose a place in code. State, events and steps carry ids and amounts, never personal data.
//!
//! This folder is what an author of a saga sees: the trait here, what a transition decides ([`next`](crate::Next)), the table of steps
//! ([`table`](crate::StepTable), [`steps`](crate::Outcome)), signals ([`signals`](crate::Signals)), starting ([`start`](crate::Start)) and children
//! ([`child`](crate::Child)). It uses the engine's plain data and nothing else.

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
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stepwise_engine::*;
///
/// struct Refund;
///
/// steps! {
///     enum Step done by RefundSteps -> Event, undone for String {
///         PayBack(order: u32) => call(pay_back, Terms::effect("refund")).repeatable().pivot(),
///     }
/// }
///
/// #[derive(Serialize, Deserialize, Clone, Debug)]
/// enum State { PayingBack, PaidBack }
///
/// #[derive(Serialize, Deserialize, Clone, Debug)]
/// enum Event { PaidBack }
///
/// impl Saga for Refund {
///     const NAME: &'static str = "refund";
///     type Input = u32;
///     type State = State;
///     type Event = Event;
///     type Signal = Never;
///     type Step = Step;
///     type Reason = String;
///
///     fn start(order: u32) -> Next<Self> {
///         to(State::PayingBack).run(Step::PayBack(order))
///     }
///
///     fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
///         match (state, event) {
///             (State::PayingBack, Event::PaidBack) => Ok(to(State::PaidBack).done()),
///             (state, event) => Err(Unexpected::new(&state, &event)),
///         }
///     }
/// }
///
/// let mut refund = testing::walk::<Refund>(7);
/// refund.stays_unknown().answers(Event::PaidBack); // the call is repeated under its key
/// assert_eq!(refund.status(), Status::Completed);
/// ```
pub trait Saga: Sized + Send + Sync + 'static {
    /// Its name in SQL, logs, API and docs; fixed for life.
    const NAME: &'static str;
    /// The version of its stored data. Raise it when the meaning of stored data changes, and write [`Saga::upcast`].
    const VERSION: u16 = 1;
    /// The input of a start.
    type Input: Payload;
    /// The memory of an instance. Name its variants after what the instance waits for.
    type State: Payload;
    /// Everything that can happen to it: outcomes, timers, signals.
    type Event: Payload;
    /// The events that a caller may send. Make them with [`crate::signals!`]; [`Never`] is for a saga that takes no signals.
    type Signal: Signals<Self::Event>;
    /// The steps that it can ask for. Make them with [`crate::steps!`].
    type Step: StepTable<Event = Self::Event, Reason = Self::Reason>;
    /// The reason why it unwinds; every undo receives it. A `String` will do.
    type Reason: Payload + From<CalledOff<Self::Step>>;

    /// Operators get a second notice when an instance has been stuck for so long, in business time ([`crate::notice`]).
    const ESCALATE_AFTER: Duration = Duration::from_secs(3_600);

    /// Decides the first transition.
    fn start(input: Self::Input) -> Next<Self>;

    /// Decides every other transition. An event that this state does not expect is a bug, and the instance gets `stuck`. If the event came as a
    /// signal, the signal is kept or refused instead ([`Signals::early`]).
    ///
    /// # Errors
    /// [`Unexpected`] when the state has no transition for the event.
    fn on(state: Self::State, event: Self::Event) -> Result<Next<Self>, Unexpected>;

    /// Turns the end of the last child ([`To::children`]) into an event. A saga with children must write it: the instance gets `stuck` without an event.
    fn joined(_ends: &Joined) -> Option<Self::Event> {
        None
    }

    /// Converts stored data of version `from` to the shape of version `from + 1`. The engine repeats this until the data has the present version.
    /// Default: nothing can be converted, and an instance of an earlier version gets `stuck`. `docs/changing-code.md` tells which changes need it.
    ///
    /// # Errors
    /// [`UpcastError`], which becomes the reason of a stuck instance.
    fn upcast(from: u16, part: Part, _json: Value) -> Result<Value, UpcastError> {
        Err(UpcastError::Missing { from, part })
    }

    /// Says whether the other open undos wait when the undo of this step cannot be done. Default: they wait for an operator, because earlier
    /// steps may depend on this one.
    fn on_failed_undo(_done: &Done<Self::Step>) -> Rest {
        Rest::Waits
    }

    /// The event that takes the place of a step's outcome when an operator skips the step. Default: the step cannot be skipped.
    fn skipped(_step: &Self::Step) -> Option<Self::Event> {
        None
    }
}

/// Plain data that can be stored and read again, as inputs, states, events, steps and reasons must be.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stepwise_engine::Payload;
///
/// /// Ids and amounts, no names: what is stored is seen by operators.
/// #[derive(Serialize, Deserialize, Clone, Debug)]
/// struct Booking { seat: u32, guest: u32 }
///
/// fn stored(payload: &impl Payload) -> String {
///     serde_json::to_string(payload).expect("plain data")
/// }
/// assert_eq!(stored(&Booking { seat: 3, guest: 7 }), r#"{"seat":3,"guest":7}"#);
/// ```
pub trait Payload: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Payload for T {}

/// The state has no transition for the event.
///
/// ```
/// use stepwise_engine::Unexpected;
///
/// #[derive(Debug)] enum State { Paying }
/// #[derive(Debug)] enum Event { Admitted }
///
/// // The last arm of `Saga::on`; an operator reads it as the reason why the instance is stuck.
/// let bug = Unexpected::new(&State::Paying, &Event::Admitted);
/// assert_eq!(bug.to_string(), "Admitted is not expected in Paying");
/// ```
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
