//! An instance in memory: what it is, and everything that changes it. Pure: nothing here waits, reads or writes.
//!
//! A worker, a caller or an operator reads a row ([`Instance::from_row`]) and lets it be changed by a fact ([`apply`]), a signal ([`signal`]) or a
//! verb ([`operate`]). The saga decides what follows ([`decide`]). [`commit`] turns the result into one commit, which the caller writes. The test kit
//! walks and explores sagas with the same code. It uses [`crate::saga`], [`crate::record`] and below.

pub(crate) mod apply;
mod attempt;
pub(crate) mod chain;
pub(crate) mod commit;
pub(crate) mod decide;
pub(crate) mod family;
mod kept;
pub(crate) mod new_instance;
pub(crate) mod operate;
pub(crate) mod signal;
pub(crate) mod task;
pub(crate) mod unwind;
pub(crate) mod upcast;
pub(crate) mod verb;
pub(crate) mod waits;
pub(crate) mod watch;

use std::{cmp::Ordering, collections::VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    base::{
        json::{Json, json},
        status::Status,
    },
    instance::{
        unwind::OpenUndo,
        upcast::Misfit,
        waits::{Failing, failing_for_ms},
    },
    record::{
        commit::{EffectChange, Family, Intent, JournalRow, Wake},
        notice::Tell,
        progress::Progress,
        row::Row,
        watch::NewWatch,
        words::JournalKind,
    },
    saga::Saga,
};

/// The step, timer, event or children that an instance waits for.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub(crate) enum Pending<S: Saga> {
    /// No step, timer or child: the instance waits for a signal or an operator, has ended, or goes on with its next open undo.
    Nothing,
    /// A tx step that is to be run (again).
    Run { no: i32, step: S::Step },
    /// A call that is in flight or to be tried (again).
    Call {
        no: i32,
        #[serde(rename = "activity")]
        step: S::Step,
    },
    /// A timer, armed by the commit `no`.
    Timer { no: i32, event: S::Event },
    /// The children of step `no` to end.
    Children { no: i32 },
    /// An event that happened with commit `no` and that the saga could not take, because of a bug or a limit. After a repair the saga is asked again.
    Event { no: i32, event: S::Event },
}

pub(crate) struct Instance<S: Saga> {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) epoch: i32,
    /// Commits in a row that were not written although nothing had changed. It is at least 1 after a batch of a step that is done together was rolled
    /// back because this row had changed.
    pub(crate) missed: u32,
    /// The seq of the row as it was read or last committed. Every [`Commit`] tests it.
    pub(crate) committed_seq: i32,
    pub(crate) seq: i32,
    pub(crate) status: Status,
    pub(crate) state: S::State,
    pub(crate) pending: Pending<S>,
    pub(crate) undos: Vec<OpenUndo<S>>,
    pub(crate) reason: Option<S::Reason>,
    pub(crate) progress: Progress,
    /// How long the pending step had been failing when the row was read, and when that was.
    pub(crate) failing: Option<Failing>,
    /// The kept signals, in the order of their arrival.
    pub(crate) kept: VecDeque<(String, S::Signal)>,
    /// Ids of kept signals that were taken since the last commit.
    pub(crate) taken: Vec<String>,
    /// Collected since the last commit.
    journal: Vec<JournalRow>,
    pub(crate) effect_change: Option<EffectChange>,
    /// Steps whose effects tx undos have taken back.
    pub(crate) undone: Vec<i32>,
    pub(crate) intent: Option<Intent>,
    pub(crate) wake: Wake,
    tell: Option<Tell>,
    pub(crate) watch: Option<NewWatch>,
    pub(crate) family: Family,
    /// Set if the saga's next decision could not be stored: the reason. The event is kept, and the saga is not asked again until an operator acts.
    pub(crate) unstorable: Option<String>,
}

impl<S: Saga> Clone for Pending<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Run { no, step } => Self::Run { no: *no, step: step.clone() },
            Self::Call { no, step } => Self::Call { no: *no, step: step.clone() },
            Self::Timer { no, event } => Self::Timer { no: *no, event: event.clone() },
            Self::Children { no } => Self::Children { no: *no },
            Self::Event { no, event } => Self::Event { no: *no, event: event.clone() },
        }
    }
}

impl<S: Saga> Clone for Instance<S> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard,
            id: self.id,
            subject: self.subject.clone(),
            start_key: self.start_key.clone(),
            epoch: self.epoch,
            missed: self.missed,
            committed_seq: self.committed_seq,
            seq: self.seq,
            status: self.status,
            state: self.state.clone(),
            pending: self.pending.clone(),
            undos: self.undos.clone(),
            reason: self.reason.clone(),
            progress: self.progress.clone(),
            failing: self.failing,
            kept: self.kept.clone(),
            taken: self.taken.clone(),
            journal: self.journal.clone(),
            effect_change: self.effect_change.clone(),
            undone: self.undone.clone(),
            intent: self.intent.clone(),
            wake: self.wake.clone(),
            tell: self.tell.clone(),
            watch: self.watch.clone(),
            family: self.family.clone(),
            unstorable: self.unstorable.clone(),
        }
    }
}

/// An entry of the journal.
pub(crate) struct Entry {
    pub(crate) kind: JournalKind,
    pub(crate) event: Option<Json>,
    pub(crate) step_no: Option<i32>,
    pub(crate) attempt: Option<i16>,
    pub(crate) started_at: Option<DateTime<Utc>>,
}

impl Entry {
    /// An entry of that kind about an event.
    pub(crate) fn new(kind: JournalKind, event: &impl Serialize) -> Self {
        Self::of(kind, json(event))
    }

    /// The same about what is JSON already.
    pub(crate) fn of(kind: JournalKind, event: Json) -> Self {
        Self { kind, event: Some(event), step_no: None, attempt: None, started_at: None }
    }
}

impl<S: Saga> Instance<S> {
    /// An instance that is not in the database yet, and has not decided anything.
    pub(crate) fn new(shard: i16, id: Uuid, subject: String, state: S::State) -> Self {
        Self {
            shard,
            id,
            subject,
            start_key: String::new(),
            epoch: 1,
            missed: 0,
            committed_seq: 0,
            seq: 0,
            status: Status::Running,
            state,
            pending: Pending::Nothing,
            undos: Vec::new(),
            reason: None,
            progress: Progress::default(),
            failing: None,
            kept: VecDeque::new(),
            taken: Vec::new(),
            journal: Vec::new(),
            effect_change: None,
            undone: Vec::new(),
            intent: None,
            wake: Wake::Never,
            tell: None,
            watch: None,
            family: Family::default(),
            unstorable: None,
        }
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When it is of a newer version, cannot be brought up to this one, or does not fit the types.
    pub(crate) fn from_row(row: Row) -> Result<Self, Misfit> {
        let build = row.build;
        Self::read(row).map_err(|misfit| misfit.of_build(build))
    }

    fn read(mut row: Row) -> Result<Self, Misfit> {
        match row.saga.version.cmp(&S::VERSION.cast_signed()) {
            Ordering::Equal => {}
            Ordering::Less => row = upcast::row::<S>(row)?,
            Ordering::Greater => return Err(Misfit::Unknown(row.saga)),
        }
        let state = upcast::read("state", &row.state)?;
        Ok(Self {
            start_key: row.start_key,
            epoch: row.epoch,
            committed_seq: row.seq,
            seq: row.seq,
            status: row.status,
            pending: upcast::read("pending step", &row.pending)?,
            undos: upcast::read("open undos", &row.undos)?,
            reason: row.reason.as_deref().map(|text| upcast::read("reason", text)).transpose()?,
            progress: row.progress,
            failing: row.failing_ms.map(failing_for_ms),
            ..Self::new(row.shard, row.saga_id, row.subject, state)
        })
    }

    /// The same position once more, without what is not committed.
    #[cfg(feature = "testing")]
    pub(crate) fn copy(&self) -> Self {
        Self {
            start_key: self.start_key.clone(),
            epoch: self.epoch,
            missed: self.missed,
            committed_seq: self.committed_seq,
            seq: self.committed_seq,
            status: self.status,
            pending: self.pending.clone(),
            undos: self.undos.clone(),
            reason: self.reason.clone(),
            progress: self.progress.clone(),
            failing: self.failing,
            kept: self.kept.clone(),
            ..Self::new(self.shard, self.id, self.subject.clone(), self.state.clone())
        }
    }
}
