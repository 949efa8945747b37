//! An instance in memory, and the one place where a decision of its saga changes it.
//!
//! [`Instance::decide`] is pure: it turns a [`Next`] into the new row and the journal row that goes with it. What is durable is
//! decided by whoever commits the [`Commit`] made from it.

use std::{cmp::Ordering, collections::VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    commit::{Commit, Family, Intent, JournalRow, Settle, Wake},
    json::{Json, json},
    limits::Refused,
    notice::{Kind, Tell},
    row::Row,
    saga::{Done, Next, Saga, Then},
    status::Status,
    unwind::OpenUndo,
    upcast::{self, Misfit},
    waits::{Failing, failing_for_ms},
    watch::NewWatch,
};

/// What an instance waits for.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub(crate) enum Pending<S: Saga> {
    /// A signal, or the next open undo while unwinding.
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
    /// What happened with commit `no`, which the saga could not take: it is asked again.
    Event { no: i32, event: S::Event },
}

pub(crate) struct Instance<S: Saga> {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    pub(crate) subject: String,
    pub(crate) start_key: String,
    pub(crate) epoch: i32,
    /// Commits in a row that were not written although nothing had changed.
    pub(crate) missed: u32,
    /// As last committed; every [`Commit`] tests it.
    pub(crate) committed_seq: i32,
    pub(crate) seq: i32,
    pub(crate) status: Status,
    pub(crate) state: S::State,
    pub(crate) pending: Pending<S>,
    pub(crate) timer_due: bool,
    pub(crate) undos: Vec<OpenUndo<S>>,
    pub(crate) reason: Option<S::Reason>,
    pub(crate) past_pivot: bool,
    pub(crate) attempt: i16,
    /// So many times the provider answered that the pending step was not done.
    pub(crate) answers: i16,
    /// How long the pending step had been failing when the row was read, and when that was.
    pub(crate) failing: Option<Failing>,
    /// Operators were told that it takes long.
    pub(crate) slow: bool,
    pub(crate) unsettled: bool,
    pub(crate) kept: i16,
    pub(crate) last_error: Option<String>,
    /// Whose child it is.
    pub(crate) parent: Option<Uuid>,
    /// The parent may still take it back.
    pub(crate) held: bool,
    /// It reached its end, and waits there for its parent.
    pub(crate) ended: bool,
    /// It waited or waits its turn: others may wait for its end.
    pub(crate) in_queue: bool,
    /// Signals that came early, in the order of their arrival.
    pub(crate) early: VecDeque<(String, S::Signal)>,
    /// Ids of early signals that were taken since the last commit.
    pub(crate) taken: Vec<String>,
    /// Collected since the last commit.
    journal: Vec<JournalRow>,
    pub(crate) settle: Option<Settle>,
    /// Steps whose effects tx undos have taken back.
    pub(crate) undone: Vec<i32>,
    pub(crate) intent: Option<Intent>,
    pub(crate) wake: Wake,
    tell: Option<Tell>,
    pub(crate) watch: Option<NewWatch>,
    pub(crate) family: Family,
    /// Why what the saga would decide next cannot be stored: it is not asked, and what happened is kept.
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

/// What happened, for the journal.
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) event: Option<Json>,
    pub(crate) step_no: Option<i32>,
    pub(crate) attempt: Option<i16>,
    pub(crate) started_at: Option<DateTime<Utc>>,
}

impl Entry {
    /// An entry of that kind about an event.
    pub(crate) fn new(kind: &'static str, event: &impl Serialize) -> Self {
        Self::of(kind, json(event))
    }

    /// The same about what is JSON already.
    pub(crate) fn of(kind: &'static str, event: Json) -> Self {
        Self { kind, event: Some(event), step_no: None, attempt: None, started_at: None }
    }
}

/// The saga decided something that its position does not allow: a bug in the saga.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Forbidden {
    #[error("a saga cannot unwind after its pivot")]
    UnwindAfterPivot,
    #[error("{0} starts by unwinding")]
    StartsByUnwinding(&'static str),
    #[error("a child cannot pass a pivot while its parent may still take it back")]
    PivotOfHeldChild,
    #[error("a child cannot be started: {0}")]
    Child(Refused),
    #[error("a saga cannot begin anew while something is left to be taken back")]
    AnewWithOpenUndos,
}

impl<S: Saga> Instance<S> {
    /// An instance that is not in the database yet.
    pub(crate) fn unborn(shard: i16, id: Uuid, subject: String, state: S::State) -> Self {
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
            timer_due: false,
            undos: Vec::new(),
            reason: None,
            past_pivot: false,
            attempt: 0,
            answers: 0,
            failing: None,
            slow: false,
            unsettled: false,
            kept: 0,
            last_error: None,
            parent: None,
            held: false,
            ended: false,
            in_queue: false,
            early: VecDeque::new(),
            taken: Vec::new(),
            journal: Vec::new(),
            settle: None,
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
        match row.version.cmp(&S::VERSION.cast_signed()) {
            Ordering::Equal => {}
            Ordering::Less => row = upcast::row::<S>(row)?,
            Ordering::Greater => {
                return Err(Misfit::Unknown { name: row.name, version: row.version });
            }
        }
        Ok(Self {
            shard: row.shard,
            id: row.saga_id,
            epoch: row.epoch,
            missed: 0,
            committed_seq: row.seq,
            seq: row.seq,
            status: row.status,
            state: upcast::read("state", &row.state)?,
            pending: upcast::read("pending step", &row.pending)?,
            timer_due: row.timer_due,
            undos: upcast::read("open undos", &row.undos)?,
            reason: row.reason.as_deref().map(|text| upcast::read("reason", text)).transpose()?,
            past_pivot: row.past_pivot,
            attempt: row.attempt,
            answers: row.answers,
            failing: row.failing_ms.map(failing_for_ms),
            slow: row.slow,
            unsettled: row.unsettled,
            kept: row.kept,
            last_error: row.last_error,
            subject: row.subject,
            start_key: row.start_key,
            parent: row.parent,
            held: row.held,
            ended: row.ended,
            in_queue: row.in_queue,
            early: VecDeque::new(),
            taken: Vec::new(),
            journal: Vec::new(),
            settle: None,
            undone: Vec::new(),
            intent: None,
            wake: Wake::Never,
            tell: None,
            watch: None,
            family: Family::default(),
            unstorable: None,
        })
    }

    /// Takes what the saga decided about `entry`. Pure: the row and its journal grow, nothing is written.
    pub(crate) fn decide(&mut self, entry: Entry, next: Next<S>) -> Result<(), Forbidden> {
        if matches!(next.then, Then::Unwind(_)) && self.past_pivot {
            return Err(Forbidden::UnwindAfterPivot);
        }
        self.seq += 1;
        let no = self.seq;
        let undos_before = self.undos.len();
        // What the caller did has numbers of its own, 0 and below, and so keys of its own.
        let by_caller = i32::try_from(next.by_caller.len()).unwrap_or(i32::MAX);
        for (no, step) in (no.saturating_sub(by_caller)..).zip(next.by_caller) {
            self.ran(no, Done::Caller(step))?;
        }
        let decided = match next.then {
            Then::Stay => {
                if self.journal.is_empty() {
                    self.wake = Wake::Keep;
                }
                Json::literal("\"stay\"")
            }
            then => self.wait_for(no, then)?,
        };
        if let Some(state) = next.state {
            self.state = state;
        }
        let undo = (self.undos.len() > undos_before)
            .then(|| Json::list(self.undos[undos_before..].iter().map(OpenUndo::shown)));
        self.record(entry, Some(decided), undo);
        Ok(())
    }

    fn wait_for(&mut self, no: i32, then: Then<S>) -> Result<Json, Forbidden> {
        self.wake = Wake::Never;
        if let Then::Unwind(reason) = then {
            let decided = json(&reason).under("unwind");
            self.begin_unwinding(reason);
            return Ok(decided);
        }
        self.fresh();
        Ok(match then {
            Then::Step(step) => {
                let (decided, verb) = (json(&step), self.await_step(no, step));
                decided.under(verb)
            }
            Then::Wait { until: None, .. } => {
                self.pending = Pending::Nothing;
                Json::literal("\"wait\"")
            }
            Then::Wait { until: Some((delay, event)), asleep } => {
                let ms = delay.as_millis();
                let decided =
                    json(&event).map(|then| format!("{{\"wait_ms\":{ms},\"then\":{then}}}"));
                self.pending = Pending::Timer { no, event };
                self.wake = Wake::Timer { delay, asleep };
                decided
            }
            Then::Children(children) => {
                let decided = Json::literal(format!("{{\"children\":{}}}", children.len()));
                self.start_children(no, children)?;
                decided
            }
            Then::Done => {
                self.done();
                Json::literal("\"done\"")
            }
            Then::Anew(input) => {
                let decided = json(&input).under("anew");
                self.begin_anew(input)?;
                decided
            }
            Then::Stay | Then::Unwind(_) => unreachable!("handled before"),
        })
    }

    /// The pending step is settled (or was never tried): nothing of it is left to ask for.
    pub(crate) fn settled(&mut self) {
        self.pending = Pending::Nothing;
        self.fresh();
    }

    fn fresh(&mut self) {
        self.start_over();
        (self.unsettled, self.last_error) = (false, None);
    }

    /// A journal row that changes nothing else; raises seq unless `decide` did.
    pub(crate) fn record(&mut self, entry: Entry, next: Option<Json>, undo: Option<Json>) {
        self.journal.push(JournalRow {
            seq: self.seq,
            kind: entry.kind,
            event: entry.event,
            step_no: entry.step_no,
            attempt: entry.attempt,
            started_at: entry.started_at,
            next,
            undo,
        });
    }

    /// A commit of its own for something that is no decision of the saga (a failed attempt, an undo, a release).
    pub(crate) fn note(&mut self, entry: Entry) {
        self.seq += 1;
        self.record(entry, None, None);
    }

    /// The first entry since the last commit is about this.
    pub(crate) fn retell(&mut self, event: &impl Serialize) {
        if let Some(row) = self.journal.first_mut() {
            row.event = Some(json(event));
        }
    }

    /// What the ledger is told in the next commit.
    pub(crate) fn settle(&mut self, step_no: i32, status: &'static str, reference: Option<String>) {
        // Foreign text, like JSON: NUL would fail the batch.
        let reference = reference.map(|text| text.replace('\0', "\u{fffd}"));
        self.settle = Some(Settle { step_no, status, reference });
    }

    /// It needs a person.
    pub(crate) fn stick(&mut self, why: impl std::fmt::Display) {
        let why = crate::steps::Cause::new(why).to_string();
        self.status = Status::Stuck;
        self.hold();
        self.last_error = Some(why.clone());
        self.note(Entry::new("stuck", &why));
        self.tell(Kind::Stuck, why);
        if let Some(tell) = &mut self.tell {
            tell.escalate_after = Some(S::ESCALATE_AFTER);
        }
    }

    /// A person should see it: the next commit writes a [notice](crate::notice).
    pub(crate) fn tell(&mut self, kind: Kind, why: String) {
        self.tell = Some(Tell { kind, saga: S::NAME, why, escalate_after: None });
    }

    /// The same position once more, without what is not committed.
    pub(crate) fn copy(&self) -> Self {
        Self {
            shard: self.shard,
            id: self.id,
            subject: self.subject.clone(),
            start_key: self.start_key.clone(),
            epoch: self.epoch,
            missed: self.missed,
            committed_seq: self.committed_seq,
            seq: self.committed_seq,
            status: self.status,
            state: self.state.clone(),
            pending: self.pending.clone(),
            timer_due: self.timer_due,
            undos: self.undos.clone(),
            reason: self.reason.clone(),
            past_pivot: self.past_pivot,
            attempt: self.attempt,
            answers: self.answers,
            failing: self.failing,
            slow: self.slow,
            unsettled: self.unsettled,
            kept: self.kept,
            last_error: self.last_error.clone(),
            parent: self.parent,
            held: self.held,
            ended: self.ended,
            in_queue: self.in_queue,
            early: self.early.clone(),
            taken: Vec::new(),
            journal: Vec::new(),
            settle: None,
            undone: Vec::new(),
            intent: None,
            wake: Wake::Never,
            tell: None,
            watch: None,
            family: Family::default(),
            unstorable: None,
        }
    }

    /// The commit of everything since the last one. `owner` stays unless the instance parks.
    pub(crate) fn commit(&mut self) -> Commit {
        let refuses_kept = self.kept > 0 && self.takes_no_signals() && !self.family.succeeded;
        if refuses_kept {
            (self.kept, self.early) = (0, VecDeque::new());
        }
        Commit {
            shard: self.shard,
            id: self.id,
            epoch: self.epoch,
            seq: self.committed_seq,
            new_seq: self.seq,
            status: self.status,
            waiting_on: self.waiting_on(),
            state: json(&self.state),
            pending: json(&self.pending),
            undos: json(&self.undos),
            reason: self.reason.as_ref().map(json),
            past_pivot: self.past_pivot,
            attempt: self.attempt,
            answers: self.answers,
            unsettled: self.unsettled,
            kept: self.kept,
            last_error: self.last_error.clone(),
            wake: self.wake.clone(),
            release: self.parks(),
            ended: self.ended || self.status.is_final(),
            version: S::VERSION as i16,
            family: self.family.is_needed().then(|| Box::new(std::mem::take(&mut self.family))),
            journal: std::mem::take(&mut self.journal),
            settle: self.settle.take(),
            undone: std::mem::take(&mut self.undone),
            taken: std::mem::take(&mut self.taken),
            refuses_kept,
            intent: self.intent.take(),
            tell: self.tell.take(),
            watch: self.watch.take(),
        }
    }

    /// It takes no signal any more: the commit refuses those that are kept, unless a successor takes them over.
    fn takes_no_signals(&self) -> bool {
        self.ended || self.status == Status::Unwinding || self.status.is_final()
    }

    /// A commit that adds to the journal only: what it waits on and who drives it stay as they are.
    pub(crate) fn commit_untouched(&mut self) -> Commit {
        self.wake = Wake::Keep;
        let mut commit = self.commit();
        commit.release = false;
        commit
    }

    /// That commit is durable.
    pub(crate) fn committed(&mut self) {
        self.committed_seq = self.seq;
        self.missed = 0;
        self.wake = Wake::Never;
    }
}
