//! Offering a signal to an instance. Pure.

use uuid::Uuid;

use crate::{
    base::{
        failure::Failure,
        limits::{Limit, Refused, Unstorable},
        status::Status,
    },
    instance::{Entry, Instance, apply::on},
    record::words::JournalKind,
    saga::{Early, Saga, Signals, Then},
};

/// The result of a signal. The caller learns it at once; it is true when the caller commits.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Answer, testing::walk};
///
/// let mut seat = walk::<Seat>(7);
/// assert_eq!(seat.signal(Signal::Confirms), Answer::Kept, "no state waits for it yet");
/// assert_eq!(seat.signal(Signal::Declines), Answer::Refused, "this one is not kept");
/// seat.answers(Event::Held).answers(Event::Paid);
/// assert!(matches!(seat.state(), State::Admitting), "the kept signal was taken");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The instance took it.
    Applied,
    /// The signal is kept for a later state.
    Kept,
    /// The instance does not take it in this state, is unwinding or has ended. The journal records it.
    Refused,
    /// A signal with this id was answered before. Nothing was done.
    Duplicate,
}

/// Why a signal could not be given.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// There is no such instance, or it is of another saga.
    #[error("no instance {0} of that saga")]
    NotFound(Uuid),
    /// The stored data of the instance does not fit its types.
    #[error("instance {id}: {why}")]
    Unreadable {
        /// The instance.
        id: Uuid,
        /// The misfit.
        why: String,
    },
    /// The saga's decision is not allowed.
    #[error("{0}")]
    Broken(String),
    /// The signal cannot be stored, or its id holds NUL.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// The signal is too large, too many are kept already, or the instance has had too many signals. Roll back.
    #[error(transparent)]
    OverLimit(#[from] Limit),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

impl SignalError {
    /// May the same signal be taken when the caller runs its transaction again, although nobody changes the code, the schema or the data?
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Database(error) => Failure::of(error).is_worth_retrying(),
            Self::NotFound(_)
            | Self::Unreadable { .. }
            | Self::Broken(_)
            | Self::Unstorable(_)
            | Self::OverLimit(_) => false,
        }
    }
}

impl From<Refused> for SignalError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => limit.into(),
            Refused::Unstorable(unstorable) => unstorable.into(),
        }
    }
}

/// Asks the saga. A signal that is not applied changes nothing but the journal.
pub(crate) fn offer<S: Saga>(
    instance: &mut Instance<S>,
    owned: bool,
    signal: &S::Signal,
) -> Result<Answer, SignalError> {
    let event = signal.clone().event();
    let mut entry = Entry::new(JournalKind::Signal, &event);
    match instance.status {
        Status::Running if !instance.progress.ended => {}
        Status::Paused | Status::Stuck => {
            instance.note(Entry { kind: JournalKind::SignalKept, ..entry });
            return Ok(Answer::Kept);
        }
        Status::Running
        | Status::Unwinding
        | Status::Completed
        | Status::Unwound
        | Status::Abandoned => {
            instance.note(Entry { kind: JournalKind::SignalRefused, ..entry });
            return Ok(Answer::Refused);
        }
    }
    if let Ok(next) = on::<S>(instance.state.clone(), event) {
        let busy = !instance.waits();
        if !busy || matches!(next.then, Then::Stay | Then::Unwind(_)) {
            if matches!(next.then, Then::Unwind(_)) {
                instance.drop_untried_call(owned);
            }
            instance
                .decide(entry, next)
                .map_err(|forbidden| SignalError::Broken(forbidden.to_string()))?;
            return Ok(Answer::Applied);
        }
    }
    let answer = match signal.early() {
        Early::Keep => Answer::Kept,
        Early::Refuse => Answer::Refused,
    };
    entry.kind =
        if answer == Answer::Kept { JournalKind::SignalKept } else { JournalKind::SignalRefused };
    instance.note(entry);
    Ok(answer)
}
