//! The impure half: how the steps of a saga are done.

use std::{fmt, future::Future};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::saga::Saga;

/// How the steps of `S` are done. Implement it with plain `async fn`s. One value serves all instances of a process at once.
///
/// What may happen more than once: `call`, `probe` and `undo_call`, each time with the same key. What is committed exactly once: the writes
/// of `run` and `undo_run`, which must all go through the connection they are given (they may run more than once, and roll back).
///
/// A panic in `run` or `undo_run` gets the instance `stuck`. One in `call`, `probe` or `undo_call` is an unknown outcome; the third of a step
/// gives the step up, as its deadline would.
pub trait Steps<S: Saga>: Send + Sync + 'static {
    /// Takes all row locks of a chain of tx steps (or of undos) before its first one runs, in the lock order.
    /// `subject` is the instance's. Default: nothing to lock.
    fn lock(
        &self,
        _tx: &mut PgConnection,
        _subject: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        async { Ok(()) }
    }

    /// Runs a tx step in the transition's transaction. A refusal is an event; an error rolls everything back and the chain is
    /// tried again by the default retry policy.
    fn run(
        &self,
        tx: &mut PgConnection,
        step: &S::Tx,
    ) -> impl Future<Output = Result<S::Event, StepError>> + Send;

    /// Takes back by a tx step, in the transaction of its own transition. The undo of a tx step that refused runs too: take back
    /// what is there.
    fn undo_run(
        &self,
        tx: &mut PgConnection,
        step: &S::Tx,
        reason: &S::Reason,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// A person hands the instance over, or leaves out or answers for this open tx undo ([`crate::operate`]): what the instance holds in our own
    /// database must not stay held for ever. Runs in the transaction of the person's verb, with the locks of [`Steps::lock`]; an error
    /// refuses the verb. Default: the undo itself. Override it where a person may have put something right in another way.
    fn undo_for_person(
        &self,
        tx: &mut PgConnection,
        undo: &S::Tx,
        reason: &S::Reason,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        self.undo_run(tx, undo, reason)
    }

    /// One attempt at the outside world, outside any transaction. May read our database, never writes it.
    fn call(
        &self,
        key: &ActivityKey,
        activity: &S::Activity,
    ) -> impl Future<Output = Outcome<S::Event>> + Send;

    /// Asks the outside world what became of an attempt whose outcome is unknown.
    /// Needed where [`crate::Terms::unknown`] says `Ask`.
    fn probe(
        &self,
        _key: &ActivityKey,
        _activity: &S::Activity,
    ) -> impl Future<Output = Probe<S::Event>> + Send {
        async { Probe::Unknown(Cause::new("this activity has no probe")) }
    }

    /// Takes back by an activity. It sees the ledger row of what it takes back, if the step declared an effect.
    fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &S::Activity,
        effect: Option<&EffectRow>,
        reason: &S::Reason,
    ) -> impl Future<Output = Undone> + Send;
}

/// The idempotency key of an activity: instance and step number, the same for every attempt and for its undo's provider call
/// with `undo` set. Print it (`{saga_id}-{step_no}` or `{saga_id}-{step_no}-undo`) and give it to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityKey {
    /// The instance.
    pub saga_id: Uuid,
    /// The seq of the commit that decided the step.
    pub step_no: i32,
    /// Is this the key of the step's undo?
    pub undo: bool,
    /// The commit by which a person decided the undo anew: then it is another key.
    pub anew: Option<i32>,
}

impl fmt::Display for ActivityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.saga_id, self.step_no, if self.undo { "-undo" } else { "" })?;
        self.anew.map_or(Ok(()), |anew| write!(f, "-{anew}"))
    }
}

/// The outcome of an attempt.
#[derive(Debug)]
pub enum Outcome<E> {
    /// It answered; `effect` tells what the ledger records.
    Answered {
        /// The event for the saga.
        event: E,
        /// What stands outside now.
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

/// What an answer means for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The activity declares none.
    None,
    /// It stands, with the provider's reference.
    Confirmed(String),
    /// It does not.
    Refuted,
}

/// The answer to a probe.
#[derive(Debug)]
pub enum Probe<E> {
    /// The outcome is known after all.
    Answered {
        /// The event for the saga.
        event: E,
        /// What stands outside now.
        effect: Effect,
    },
    /// The provider has not acted (yet); the same attempt may be repeated under the same key.
    NotHappened,
    /// It could not be found out now: it is asked again until the step's deadline.
    Unknown(Cause),
}

/// The outcome of an undo.
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

/// The ledger row of an effect.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EffectRow {
    /// The step that made it.
    pub step_no: i32,
    /// For example `authorization`.
    pub kind: String,
    /// The provider's reference, once known.
    pub reference: Option<String>,
    /// intent, confirmed, refuted or undone.
    pub status: String,
}

/// Why something did not work, in words for an operator. Carries no personal data.
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

/// A tx step could not be done; nothing of its transaction remains.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database failed; tried again.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// Something is as it must never be: the instance gets `stuck`.
    #[error("{0}")]
    Broken(String),
}
