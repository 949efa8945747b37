//! The arguments and results of the methods that do a saga's steps: keys, outcomes, errors.

use std::{fmt, time::Duration};

use uuid::Uuid;

use crate::base::failure::Failure;

/// The idempotency key of one step, or of its undo. Only the engine makes one.
///
/// It is the same for every attempt. Print it and give it to the provider: `{instance}-{step number}`, with `-undo` behind it for the undo.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Cause, Key, Outcome};
///
/// /// A request to the provider. The provider acts once per key, however often it is asked.
/// async fn charge(http: &Bank, key: &Key) -> Outcome<Event> {
///     match http.post("/charges", &[("Idempotency-Key", key.to_string())]).await {
///         Ok(reference) => Outcome::confirmed(Event::Paid, reference),
///         Err(silence) => Outcome::Unknown(Cause::new(silence)),
///     }
/// }
/// # struct Bank;
/// # impl Bank { async fn post(&self, _: &str, _: &[(&str, String)]) -> Result<String, String> { Err(String::new()) } }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    saga_id: Uuid,
    step_no: i32,
    undo: bool,
    /// The commit by which an operator decided the undo anew: then it is another key.
    anew: Option<i32>,
}

impl Key {
    pub(crate) fn of_step(saga_id: Uuid, step_no: i32) -> Self {
        Self { saga_id, step_no, undo: false, anew: None }
    }

    pub(crate) fn of_undo(saga_id: Uuid, step_no: i32, anew: Option<i32>) -> Self {
        Self { saga_id, step_no, undo: true, anew }
    }

    /// The instance whose step it is.
    #[must_use]
    pub fn saga_id(&self) -> Uuid {
        self.saga_id
    }

    /// The seq of the commit that decided the step.
    #[must_use]
    pub fn step_no(&self) -> i32 {
        self.step_no
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.saga_id, self.step_no, if self.undo { "-undo" } else { "" })?;
        self.anew.map_or(Ok(()), |anew| write!(f, "-{anew}"))
    }
}

/// The data that an undo gets about the step that it takes back.
///
/// ```
/// use stepwise_engine::{Undoing, Undone};
///
/// async fn refund(bank: &Bank, undoing: &Undoing<String>) -> Undone {
///     // The answer to the charge may never have come: then it is found by the key under which it was made.
///     let charge = match &undoing.reference {
///         Some(reference) => Some(reference.clone()),
///         None => bank.find(&undoing.step_key.to_string()).await,
///     };
///     let Some(charge) = charge else { return Undone::Nothing };
///     bank.refund(&charge, &undoing.key.to_string(), &undoing.reason).await
/// }
/// # struct Bank;
/// # impl Bank {
/// #     async fn find(&self, _: &str) -> Option<String> { None }
/// #     async fn refund(&self, _: &str, _: &str, _: &str) -> Undone { Undone::Nothing }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Undoing<R> {
    /// The undo's own key: give it to the provider when you call it.
    pub key: Key,
    /// The key under which the step was done. Find the effect by it where `reference` is `None`.
    pub step_key: Key,
    /// The provider's reference of the effect, as the ledger knows it. `None` if no answer ever came, or the step declares no effect.
    pub reference: Option<String>,
    /// Why the instance unwinds.
    pub reason: R,
}

/// The outcome of an attempt.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Cause, Outcome};
///
/// /// The meaning of a bank's answer.
/// fn outcome(status: Option<u16>) -> Outcome<Event> {
///     match status {
///         Some(200) => Outcome::confirmed(Event::Paid, "ch_17"),
///         Some(402) => Outcome::refuted(Event::Declined), // a refusal is an event of the saga
///         Some(429) => Outcome::NotDone(Cause::new("the bank is busy")), // tried again
///         Some(_) => Outcome::AnsweredNo(Cause::new("the bank cannot do it now")),
///         None => Outcome::Unknown(Cause::new("no answer")), // it may have charged: the bank is asked
///     }
/// }
/// assert!(matches!(outcome(None), Outcome::Unknown(_)));
/// ```
#[derive(Debug)]
pub enum Outcome<E> {
    /// It answered; `effect` tells what the ledger records.
    Answered {
        /// The event for the saga.
        event: E,
        /// The effect that stands outside now.
        effect: Effect,
    },
    /// Surely nothing happened, and the provider has not decided anything: the connection was refused, it is busy or closed, we could
    /// not ask. Tried again until the deadline ([`crate::Terms::within`]), and never counted.
    NotDone(Cause),
    /// The provider itself answered that it did not do it, and may do it when it is asked again. Tried again like [`Outcome::NotDone`],
    /// but so many of these answers may be enough ([`crate::Terms::enough`]). A refusal for good is an event instead.
    AnsweredNo(Cause),
    /// It may have happened; settled before any retry or undo.
    Unknown(Cause),
}

impl<E> Outcome<E> {
    /// An answer that moved nothing.
    pub fn event(event: E) -> Self {
        Self::Answered { event, effect: Effect::None }
    }

    /// The effect stands, under the provider's reference.
    pub fn confirmed(event: E, reference: impl Into<String>) -> Self {
        Self::Answered { event, effect: Effect::Confirmed(reference.into()) }
    }

    /// It was refused: no effect.
    pub fn refuted(event: E) -> Self {
        Self::Answered { event, effect: Effect::Refuted }
    }
}

/// The meaning of an answer for the ledger.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Effect, Outcome};
///
/// let charged = Outcome::confirmed(Event::Paid, "ch_17");
/// let Outcome::Answered { effect, .. } = charged else { unreachable!() };
/// assert_eq!(effect, Effect::Confirmed("ch_17".to_owned()), "the ledger has the bank's reference");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The step declares none.
    None,
    /// It stands, with the provider's reference.
    Confirmed(String),
    /// It does not.
    Refuted,
}

/// The answer of a probe: what became of an attempt.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Cause, Effect, Probe};
///
/// /// The bank was asked for the charge of a key.
/// fn found(charge: Result<Option<(&str, bool)>, String>) -> Probe<Event> {
///     match charge {
///         Ok(Some((reference, true))) => Probe::confirmed(Event::Paid, reference),
///         Ok(Some((_, false))) => Probe::Answered { event: Event::Declined, effect: Effect::Refuted },
///         Ok(None) => Probe::NotHappened, // the charge is made again, under its key
///         Err(why) => Probe::Unknown(Cause::new(why)), // the bank is asked again
///     }
/// }
/// assert!(matches!(found(Ok(None)), Probe::NotHappened));
/// ```
#[derive(Debug)]
pub enum Probe<E> {
    /// The outcome is known after all.
    Answered {
        /// The event for the saga.
        event: E,
        /// The effect that stands outside now.
        effect: Effect,
    },
    /// The provider has not acted (yet); the same attempt may be repeated under the same key.
    NotHappened,
    /// It could not be found out now: it is asked again until the step's deadline.
    Unknown(Cause),
}

impl<E> Probe<E> {
    /// The effect stands, under the provider's reference.
    pub fn confirmed(event: E, reference: impl Into<String>) -> Self {
        Self::Answered { event, effect: Effect::Confirmed(reference.into()) }
    }
}

/// The outcome of an undo.
///
/// ```
/// use stepwise_engine::{Cause, Undone};
///
/// /// The meaning of a bank's answer to a refund.
/// fn refunded(status: Option<u16>) -> Undone {
///     match status {
///         Some(200) => Undone::Undone(Some("re_4".to_owned())),
///         Some(404) => Undone::Nothing, // there is no such charge
///         Some(409) => Undone::Impossible(Cause::new("the charge is disputed")), // a person decides
///         _ => Undone::NotDone(Cause::new("no answer")), // tried again, under the same key
///     }
/// }
/// assert!(matches!(refunded(Some(404)), Undone::Nothing));
/// ```
#[derive(Debug)]
pub enum Undone {
    /// Taken back; the provider's reference of the taking back, if it gives one.
    Undone(Option<String>),
    /// There was nothing to take back.
    Nothing,
    /// No answer, or none that decides anything. Tried again under the same key until the undo's deadline
    /// ([`crate::Terms::within`]), and never counted.
    NotDone(Cause),
    /// The provider itself answered that it did not do it, and may do it when it is asked again; so many of these answers may be
    /// enough ([`crate::Terms::enough`]).
    AnsweredNo(Cause),
    /// It cannot be taken back (already captured, say): a person is needed.
    Impossible(Cause),
}

/// Why something did not work, in words for an operator. Carries no personal data.
///
/// ```
/// use stepwise_engine::Cause;
///
/// let page = "<h1>Bad gateway</h1>".repeat(1_000);
/// assert_eq!(Cause::new(page).to_string().len(), 500, "the journal keeps the beginning");
/// ```
#[derive(Debug, Clone)]
pub struct Cause(String);

impl Cause {
    /// At most 500 characters are kept; NUL, which Postgres cannot store, is replaced.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(
            text.to_string()
                .chars()
                .take(500)
                .map(|c| if c == '\0' { '\u{fffd}' } else { c })
                .collect(),
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tx step could not be done; nothing of its transaction remains. The step is run again from the beginning, and the retries grow apart as those
/// of a call do ([`crate::Retry::default`]).
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database failed. An error that passes by itself ([`StepError::is_worth_retrying`]) is outlasted for [`crate::Terms::WITHIN`]. Any
    /// other, such as a missing column, is shown to operators at once ([`crate::notice::Kind::Failing`]), and gets the instance `stuck` after
    /// [`StepError::PATIENCE`]: a deploy may be under way.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// Something is as it must never be: the instance gets `stuck` at once.
    #[error("{0}")]
    Broken(String),
}

impl StepError {
    /// How long a step is tried whose error does not pass by itself, in business time since it first failed.
    pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

    /// May the same step succeed when it is run again, although nobody changes the code, the schema or the data? So it may after a deadlock, a
    /// lock that was not free in time, a lost connection, while the server is read-only or has no connection left
    /// ([`crate::database::Failure`] has them all). It may not where a column is missing, a type does not fit or a constraint is violated.
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Database(error) => Failure::of(error).is_worth_retrying(),
            Self::Broken(_) => false,
        }
    }
}
