//! The writes of one transition, as plain data. [`crate::instance`] decides it, [`crate::store`] writes it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    base::{
        amount::Amount,
        json::{self, Json, Unstorable},
        limits,
        priority::Priority,
        status::{Status, WaitingOn},
    },
    record::{
        notice::Tell,
        progress::Progress,
        watch::NewWatch,
        words::{EffectStatus, JournalKind},
    },
};

/// [`Start`] without its input.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) priority: Priority,
    pub(crate) tags: Option<String>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) queue_key: Option<String>,
    pub(crate) because: Option<String>,
}

/// An instance that is about to be inserted.
#[derive(Debug, Clone)]
pub(crate) struct NewInstance {
    pub(crate) name: &'static str,
    pub(crate) commit: Commit,
    pub(crate) options: Options,
    pub(crate) parent: Option<Parent>,
    /// The worker that owns it from its first commit on.
    pub(crate) owner: Option<Uuid>,
}

/// The parent of an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    /// The parent's step that starts it.
    pub(crate) step_no: i32,
    /// The child keeps its undos for the parent, which may still take it back: the parent is before its pivot.
    pub(crate) binds: bool,
}

/// When an instance is to be woken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wake {
    /// As it was: owner, timer and wake-up stay untouched.
    Keep,
    /// By nobody: it is being driven, waits for a signal or an operator, or has ended.
    Never,
    /// At once, by any worker with room.
    Now,
    /// For the next attempt.
    Retry(Duration),
    /// To ask whether a late effect came.
    Settle(Duration),
    /// When its timer fires.
    Timer { delay: Duration, asleep: bool },
    /// When the timer fires that is armed already.
    Armed,
    /// By nobody. An armed timer stays armed, and fires when the instance goes on.
    KeepTimer,
}

impl Wake {
    /// After how long it is due, if it is.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Keep | Self::Never | Self::Armed | Self::KeepTimer => None,
            Self::Now => Some(Duration::ZERO),
            Self::Retry(delay) | Self::Settle(delay) | Self::Timer { delay, .. } => Some(*delay),
        }
    }

    /// (mode for the statement, delay in milliseconds).
    pub(crate) fn encode(&self) -> (i16, i64) {
        match self {
            Self::Keep => (0, 0),
            Self::Never => (1, 0),
            Self::Now => (2, 0),
            Self::Retry(delay) => (2, limits::ms(*delay)),
            Self::Settle(delay) | Self::Timer { delay, .. } => (3, limits::ms(*delay)),
            Self::Armed => (4, 0),
            Self::KeepTimer => (5, 0),
        }
    }
}

/// One row for `saga.journal`.
#[derive(Debug, Clone)]
pub(crate) struct JournalRow {
    pub(crate) seq: i32,
    pub(crate) kind: JournalKind,
    pub(crate) event: Option<Json>,
    pub(crate) step_no: Option<i32>,
    pub(crate) attempt: Option<i16>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) next: Option<Json>,
    pub(crate) undo: Option<Json>,
}

/// A new ledger row.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) step_no: i32,
    pub(crate) kind: &'static str,
    pub(crate) amount: Option<Amount>,
}

/// The new status of a ledger row.
#[derive(Debug, Clone)]
pub(crate) struct EffectChange {
    pub(crate) step_no: i32,
    pub(crate) status: EffectStatus,
    /// The provider's: of the effect, or of its taking back.
    pub(crate) reference: Option<String>,
}

/// The new row of one instance, with everything that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    pub(crate) epoch: i32,
    /// The seq that the row must still have.
    pub(crate) seq: i32,
    pub(crate) new_seq: i32,
    pub(crate) status: Status,
    pub(crate) waiting_on: Option<WaitingOn>,
    pub(crate) state: Json,
    pub(crate) pending: Json,
    pub(crate) undos: Json,
    pub(crate) reason: Option<Json>,
    pub(crate) progress: Progress,
    pub(crate) wake: Wake,
    /// The owner releases it.
    pub(crate) release: bool,
    /// The version of its saga whose data this is.
    pub(crate) version: i16,
    /// More than one entry only for a chain of tx steps, which commits alone; none if there is nothing to tell.
    pub(crate) journal: Vec<JournalRow>,
    pub(crate) effect_change: Option<EffectChange>,
    /// Steps whose effects were taken back by tx undos; written by [`crate::store::family::write_own`].
    pub(crate) undone: Vec<i32>,
    /// Kept signals that it took, by id; written by [`crate::store::family::write_own`].
    pub(crate) taken: Vec<String>,
    /// It refuses the signals that are kept for it: it unwinds or has ended, and takes none any more.
    pub(crate) refuses_kept: bool,
    pub(crate) intent: Option<Intent>,
    /// A person should see it.
    pub(crate) tell: Option<Tell>,
    /// An effect that was given up, but may still come.
    pub(crate) watch: Option<NewWatch>,
    /// Such a commit is written by [`crate::store::family::write_own`], in a transaction of its own or the caller's.
    pub(crate) family: Option<Box<Family>>,
}

impl Commit {
    /// Does it insert other instances: children, or a successor?
    pub(crate) fn starts_instances(&self) -> bool {
        self.family.as_ref().is_some_and(|family| !family.new_instances.is_empty())
    }

    /// Can all of it be written, and what it does to others?
    ///
    /// # Errors
    /// The part that cannot be stored, and the reason.
    pub(crate) fn check_storable(&self) -> Result<(), Unstorable> {
        let row = [Some(&self.state), Some(&self.pending), Some(&self.undos), self.reason.as_ref()];
        let journal = self.journal.iter();
        let journal = journal.flat_map(|row| [&row.event, &row.next, &row.undo]).flatten();
        for json in row.into_iter().flatten().chain(journal) {
            json.text()?;
        }
        let new_instances = self.family.iter().flat_map(|family| &family.new_instances);
        new_instances.map(|new| &new.commit).try_for_each(Self::check_storable)?;
        let effect = self.intent.as_ref().map_or("", |intent| intent.kind);
        json::check_text("kind of its effect", effect)?;
        self.watch.iter().try_for_each(NewWatch::check_storable)
    }

    /// Does it show that driving the instance does not end the process?
    pub(crate) fn clears(&self) -> bool {
        self.journal.iter().any(|row| row.kind.shows_progress())
    }
}

/// The changes of a commit to other instances than its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Family {
    /// Its children, or its successor.
    pub(crate) new_instances: Vec<NewInstance>,
    /// The one new instance is its successor.
    pub(crate) succeeded: bool,
    /// It waits for its children.
    pub(crate) joins: bool,
    /// It will not take its children back any more.
    pub(crate) lets_go: bool,
}

impl Family {
    pub(crate) fn is_needed(&self) -> bool {
        !self.new_instances.is_empty() || self.joins || self.lets_go
    }
}
