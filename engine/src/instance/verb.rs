//! The verbs of operators, and their results.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    base::{
        json,
        limits::{self, Refused},
        status::Status,
        words::words,
    },
    record::row::Row,
};

/// One thing that a person wants done to one instance.
///
/// ```
/// # use stepwise_engine::*;
/// use stepwise_engine::operate::{Instruction, Operated, Verb};
///
/// # async fn f(engine: &Engine, stuck: uuid::Uuid) -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Instruction {
///     id: "ticket 4711".to_owned(), // the same request sent twice is applied once
///     by: "ann".to_owned(),
///     reason: "the bank answers again".to_owned(),
///     verb: Verb::Retry,
///     undo: None,
///     seq: None,
/// };
/// let mut tx = engine.begin().await?;
/// match engine.operate(&mut tx, stuck, &retry).await? {
///     Operated::Applied(outlook) => println!("next it does {:?}", outlook.next),
///     Operated::Repeated => println!("it was done before"),
///     Operated::Refused(refusal) => println!("not done: {refusal}"),
/// }
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instruction {
    /// The same for each repetition of a request, so that it is applied once. Another verb, or other arguments, under the same id are refused.
    pub id: String,
    /// The person.
    pub by: String,
    /// The reason. It is stored in the journal; no personal data.
    pub reason: String,
    /// The verb.
    pub verb: Verb,
    /// The failed undo that is meant, by the number of the step that it takes back. Needed if several undos failed.
    #[serde(default)]
    pub undo: Option<i32>,
    /// The seq that the instance must still have. If it has changed since the person looked at it, nothing is done.
    #[serde(default)]
    pub seq: Option<i32>,
}

impl Instruction {
    /// Can it be followed at all, whatever the instance?
    ///
    /// # Errors
    /// The person or the reason is missing, or a part of it cannot be stored.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.by.trim().is_empty() || self.reason.trim().is_empty() {
            return Err(Refusal::NoReason);
        }
        let unfit = |why: Refused| Refusal::DoesNotFit(why.to_string());
        limits::check_person(&self.by, &self.reason).map_err(unfit)?;
        limits::check_name("id of the instruction", &self.id).map_err(unfit)?;
        json::check_given("instruction", self).map_err(|why| unfit(why.into()))
    }
}

/// The verbs. One with a field that this build does not know is not read, since its meaning is not known here either.
///
/// ```
/// use serde_json::json;
/// use stepwise_engine::operate::{Outside, Verb};
///
/// let charged_by_hand = Verb::MarkDone {
///     evidence: "ticket 4711".to_owned(),
///     event: Some(json!("Paid")), // the saga's own event
///     outside: Some(Outside::Stands("ch_17".to_owned())),
/// };
/// assert_eq!(charged_by_hand.name(), "mark_done");
/// assert_eq!(serde_json::to_value(Verb::Retry)?, json!("retry"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// Try again now, with all attempts: what it is stuck at, or what would be tried again later. If a failed undo is named, only that one is tried;
    /// one that no step can do stays an operator's, and the undos of earlier steps wait for it.
    Retry,
    /// Put this step, as its table stores it (`{"Confirm": ..}`), in the place of the one that does not work; for a failed undo, in the place of
    /// the step that is taken back. It is decided anew: another key, and for a pending step another number.
    EditAndRetry(Value),
    /// A person has done it outside. For a failed undo: it is undone, `evidence` becomes the reference of its undoing. For a pending
    /// activity: `event` is its outcome; once it unwinds, only the ledger is told of that, and what stands is taken back.
    MarkDone {
        /// The evidence: a provider's reference, a ticket.
        evidence: String,
        /// The saga's event, for a pending activity.
        #[serde(default)]
        event: Option<Value>,
        /// The effect outside, for a pending activity that declares one.
        #[serde(default)]
        outside: Option<Outside>,
    },
    /// Leave out a failed undo (its effect is waived), or a forward step for which the saga says what stands for it
    /// ([`crate::Saga::skipped`]). A failed tx undo is not left out but done now.
    Skip,
    /// Give the instance up: it ends `abandoned`. Its tx undos release what it holds in our own database, in the verb's transaction. Its live
    /// effects outside are waived: the person who takes over deals with them.
    HandOver {
        /// The person or team that takes over.
        to: String,
    },
    /// Stop it where it is. Signals are kept. A timer that is due meanwhile fires when the instance is resumed.
    Pause,
    /// Let a paused one go on.
    Resume,
    /// Take everything back, before the pivot. A child at its end is taken back by its parent only.
    Cancel,
}

impl Verb {
    /// May the verb run tx undos in its own transaction?
    pub(crate) fn may_run_tx_undos(&self) -> bool {
        matches!(self, Self::MarkDone { .. } | Self::Skip | Self::HandOver { .. })
    }

    /// As in the journal.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::EditAndRetry(_) => "edit_and_retry",
            Self::MarkDone { .. } => "mark_done",
            Self::Skip => "skip",
            Self::HandOver { .. } => "hand_over",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

/// The effect that a person found outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// The effect stands, under the provider's reference.
    Stands(String),
    /// There is none.
    Nothing,
}

/// Why a verb is refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such instance.
    #[error("there is no such saga")]
    NotFound,
    /// The person and the reason are required.
    #[error("say who you are, and why")]
    NoReason,
    /// The verb is not allowed for an instance in this status.
    #[error("it is {0}")]
    WrongStatus(WrongStatus),
    /// The instance is past its pivot, and only goes forward.
    #[error("it is past its pivot: nothing is taken back any more")]
    PastPivot,
    /// There is nothing to try again, edit, mark or skip.
    #[error("nothing of it has failed")]
    NothingFailed,
    /// Several undos failed; say which.
    #[error("several undos failed, say which: {0:?}")]
    WhichUndo(Vec<i32>),
    /// The saga defines no event that stands for this step.
    #[error("this step must not be skipped")]
    NotSkippable,
    /// Its last attempt may have had an effect: retry (which asks), or mark it done.
    #[error("its last attempt may have had an effect: retry, which asks, or mark it done, first")]
    Unsettled,
    /// The step or event given does not fit the saga.
    #[error("that does not fit: {0}")]
    DoesNotFit(String),
    /// A tx undo fails, so that the instance's reservations in our database would never be released.
    #[error("what it holds cannot be given back: {0}; put that right first")]
    StillHeld(String),
    /// It has children that have not ended: deal with those first.
    #[error("{0} of its children are open: deal with those first")]
    ChildrenOpen(i64),
    /// It was last written by a version that this process does not know, or cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// An instruction with this id was applied to it before, with another verb or other arguments.
    #[error("another instruction with this id was applied before: give this one an id of its own")]
    IdTaken,
    /// It has changed since the person looked at it.
    #[error("it has moved on: its seq is {seq}")]
    MovedOn {
        /// Its seq now.
        seq: i32,
    },
}

words! {
    /// The status in which a verb is not allowed, finer than [`Status`].
    pub enum WrongStatus {
        /// It goes forward.
        Running = "running",
        /// It is being taken back.
        Unwinding = "unwinding",
        /// An operator has paused it.
        Paused = "paused",
        /// It needs a person.
        Stuck = "stuck",
        /// It has reached its end.
        Completed = "completed",
        /// Everything was taken back.
        Unwound = "unwound",
        /// A person has given it up.
        Abandoned = "abandoned",
        /// A worker is driving it.
        BeingDriven = "being driven",
        /// It has done its work, and its parent may still take it back.
        AtItsEnd = "at its end, waiting for its parent",
        ..
        /// A status of a newer build. It is only read.
        Other
    }
}

impl From<Status> for WrongStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Unwinding => Self::Unwinding,
            Status::Paused => Self::Paused,
            Status::Stuck => Self::Stuck,
            Status::Completed => Self::Completed,
            Status::Unwound => Self::Unwound,
            Status::Abandoned => Self::Abandoned,
        }
    }
}

/// The instance after a verb, and what comes next.
///
/// ```
/// use stepwise_engine::operate::{Operated, Outlook};
///
/// fn warning(operated: &Operated) -> Option<String> {
///     let Operated::Applied(Outlook { undoes, past_pivot: false, .. }) = operated else { return None };
///     (!undoes.is_empty()).then(|| format!("this takes back: {}", undoes.join(", ")))
/// }
/// assert_eq!(warning(&Operated::Repeated), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Its status.
    pub status: Status,
    /// The next step that runs by itself, if there is one.
    pub next: Option<String>,
    /// It only goes forward.
    pub past_pivot: bool,
    /// The undos, first to last.
    pub undoes: Vec<String>,
}

/// The commit of a verb, not written yet.
pub(crate) struct Decided {
    pub(crate) commit: crate::record::commit::Commit,
    pub(crate) outlook: Outlook,
    /// The open tx undos that the verb runs in its transaction.
    pub(crate) tx_undos: Option<OpenTxUndos>,
}

impl Decided {
    /// The tx undos that the verb runs, as JSON, last first.
    pub(crate) fn tx_undos(&self) -> &[String] {
        self.tx_undos.as_ref().map_or(&[], |open| &open.undos)
    }
}

/// A locked row with the data that a verb needs beside it.
pub(crate) struct Subject {
    pub(crate) row: Row,
    /// Kept signals: (id, event as JSON, version).
    pub(crate) kept: Vec<(String, String, i16)>,
    /// Its effects that stand or may stand.
    pub(crate) live: Vec<Value>,
    pub(crate) open_children: i64,
}

/// The open tx undos of an instance, as JSON, last first. A verb that ends the instance or closes a failed undo runs them in its own transaction.
#[derive(Debug, Clone)]
pub(crate) struct OpenTxUndos {
    pub(crate) id: Uuid,
    pub(crate) undos: Vec<String>,
    /// Why the instance unwinds or ends.
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_status_is_shown_and_stored_as_the_word_of_the_status() {
        for word in ["running", "unwinding", "paused", "stuck", "completed", "unwound", "abandoned"]
        {
            let status: Status = word.parse().expect("it is a status");
            assert_eq!(WrongStatus::from(status).as_str(), word);
        }
        let refusal = Refusal::WrongStatus(WrongStatus::BeingDriven);
        assert_eq!(refusal.to_string(), "it is being driven");
        let stored = serde_json::json!({ "wrong_status": "being driven" });
        assert_eq!(serde_json::to_value(&refusal).ok(), Some(stored));
        let newer = serde_json::json!({ "wrong_status": "being moved" });
        let read = serde_json::from_value::<Refusal>(newer).expect("a newer word is kept");
        assert_eq!(read.to_string(), "it is being moved");
    }
}
