//! What a person does to an instance: verbs, each with who and why, in the caller's transaction.
//!
//! A verb is a pure function of the instance ([`crate::Engine::operate`] locks the row, asks it and writes its commit), so that a
//! plan can show what it would do by asking it the same and writing nothing. What was done stands in the journal (kind
//! `operator`: the verb, who, why, before and after). The same instruction given twice does nothing the second time.

mod apply;
mod give_back;
mod subjects;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

pub(crate) use self::{
    apply::operate,
    give_back::{GiveBack, give_back},
    subjects::look,
};
use crate::{
    engine::Engine, family::write_all, id::shard_in, limits, row::Row, signal::wake_workers, store,
};

/// One thing that a person wants done to one instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instruction {
    /// The same for each repetition of a request: it is followed once.
    pub id: String,
    /// Who wants it.
    pub by: String,
    /// Why. It stands in the journal; no personal data.
    pub reason: String,
    /// What.
    pub verb: Verb,
    /// Which failed undo, by the step that it takes back; needed where several failed.
    #[serde(default)]
    pub undo: Option<i32>,
    /// The seq that the instance must still have: nothing is done to one that has moved on since it was looked at.
    #[serde(default)]
    pub seq: Option<i32>,
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Try again now, with all attempts: what it is stuck at, or what would be tried again later.
    Retry,
    /// Put this step, as its table stores it (`{"Confirm": ..}`), in the place of the one that does not work; for a failed undo, in the place of
    /// the step that is taken back. It is decided anew: another key, and for a pending step another number.
    EditAndRetry(Value),
    /// A person has seen to it outside. For a failed undo: it is undone, `evidence` becomes the reference of its undoing. For a pending
    /// activity: `event` is its outcome; once it unwinds, only the ledger is told of that, and what stands is taken back.
    MarkDone {
        /// What proves it: a provider's reference, a ticket.
        evidence: String,
        /// The saga's event, for a pending activity.
        #[serde(default)]
        event: Option<Value>,
        /// What stands outside now, for a pending activity that declares an effect.
        #[serde(default)]
        outside: Option<Outside>,
    },
    /// Leave out a failed undo (its effect is waived), or a forward step for which the saga says what stands for it
    /// ([`crate::Saga::skipped`]). A failed tx undo is not left out but done now.
    Skip,
    /// Give the instance up: it ends `abandoned`. What it holds in our own database is given back by its tx undos, in the verb's transaction;
    /// its live effects outside are waived, and what is left to do there is somebody else's.
    HandOver {
        /// Whose.
        to: String,
    },
    /// Stop it where it is. Signals are kept, a timer goes on and fires when it is resumed.
    Pause,
    /// Let a paused one go on.
    Resume,
    /// Take everything back, before the pivot.
    Cancel,
}

impl Verb {
    /// May a person answer by it for tx undos, which are done in the verb's own transaction then?
    pub(crate) fn may_give_back(&self) -> bool {
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

/// What a person found outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// The effect stands, under the provider's reference.
    Stands(String),
    /// There is none.
    Nothing,
}

/// Why a verb is not followed. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such instance.
    #[error("there is no such saga")]
    NotFound,
    /// Who wants it and why are required.
    #[error("say who you are, and why")]
    NoReason,
    /// The verb is not for an instance like this.
    #[error("it is {0}")]
    WrongStatus(String),
    /// From here on it only goes forward.
    #[error("it is past its pivot: nothing is taken back any more")]
    PastPivot,
    /// There is nothing to try again, edit, mark or skip.
    #[error("nothing of it has failed")]
    NothingFailed,
    /// Several undos failed; say which.
    #[error("several undos failed, say which: {0:?}")]
    WhichUndo(Vec<i32>),
    /// The saga does not say what stands for this step.
    #[error("this step must not be skipped")]
    NotSkippable,
    /// Its last attempt may have had an effect: retry (which asks), or mark it done.
    #[error("its last attempt may have had an effect: retry, which asks, or mark it done, first")]
    Unsettled,
    /// The step or event given does not fit the saga.
    #[error("that does not fit: {0}")]
    DoesNotFit(String),
    /// What it holds in our own database cannot be given back: that would stay held for ever.
    #[error("what it holds cannot be given back: {0}; put that right first")]
    StillHeld(String),
    /// It has children that have not ended: deal with those first.
    #[error("{0} of its children are open: deal with those first")]
    ChildrenOpen(i64),
    /// It was last written by a version that this process does not know, or cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is not as it was when it was looked at.
    #[error("it has moved on: its seq is {seq}")]
    MovedOn {
        /// What it is now.
        seq: i32,
    },
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operated {
    /// It was followed; true with the caller's commit.
    Applied(Outlook),
    /// It was not.
    Refused(Refusal),
    /// It was followed before; nothing was done.
    Repeated,
}

/// How an instance stands after a verb, and what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// Its status.
    pub status: String,
    /// What runs next, if anything does by itself.
    pub next: Option<String>,
    /// It only goes forward.
    pub past_pivot: bool,
    /// What will be taken back, first to last.
    pub undoes: Vec<String>,
}

/// The commit of a verb, not written yet.
pub(crate) struct Decided {
    pub(crate) commit: crate::commit::Commit,
    pub(crate) outlook: Outlook,
    /// The tx undos that a person answers for by the verb: to be done in its transaction.
    pub(crate) back: Option<GiveBack>,
}

/// A locked row with what a verb has to know beside it.
pub(crate) struct Subject {
    pub(crate) row: Row,
    /// Kept signals: (id, event as JSON, version).
    pub(crate) early: Vec<(String, String, i16)>,
    /// Its effects that stand or may stand.
    pub(crate) live: Vec<Value>,
    pub(crate) open_children: i64,
}

/// A locked row that an instruction is for.
pub(crate) struct Wanted {
    pub(crate) row: Row,
    /// [`Instruction::seq`].
    pub(crate) seq: Option<i32>,
    /// What must come of it, if it was planned.
    pub(crate) planned: Option<Outlook>,
}

impl Engine {
    /// Does what a person wants, once per [`Instruction::id`].
    ///
    /// Lock the rows of the domain first, as for [`crate::signal`]; what a verb that ends the instance or answers for an undo gives back is
    /// locked here. Round trips: 4 to 8, 4 to 8 more for a verb that may give something back, and those of its tx undos. Row operations: 3
    /// (instance, journal, the instruction's id), more where effects are waived or a notice is written.
    ///
    /// # Errors
    /// The database's. What cannot be done is [`Operated::Refused`].
    pub async fn operate(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
    ) -> Result<Operated, sqlx::Error> {
        self.operate_one(tx, id, order, None).await
    }

    /// The same, by the outlook that was planned if there is one. What the verb gives back is done before the instance's row is locked, which
    /// is last in the lock order; should the row have moved on by then, all of it is rolled back and done again.
    pub(crate) async fn operate_one(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
        planned: Option<&Outlook>,
    ) -> Result<Operated, sqlx::Error> {
        loop {
            let mut save = tx.begin().await?;
            let given_back = match self.give_back_first(&mut save, id, order).await? {
                Ok(given_back) => given_back,
                Err(refusal) => {
                    save.rollback().await?;
                    return Ok(Operated::Refused(refusal));
                }
            };
            let Some(row) = store::lock_instance(&mut save, shard_in(id), id).await? else {
                save.rollback().await?;
                return Ok(Operated::Refused(Refusal::NotFound));
            };
            if given_back.is_some_and(|seq| seq != row.seq) {
                save.rollback().await?;
                continue;
            }
            let wanted = vec![Wanted { row, seq: order.seq, planned: planned.cloned() }];
            let mut operated = self.operate_all(&mut save, order, wanted).await?;
            let (_, operated) = operated.pop().expect("one was wanted");
            match operated {
                Operated::Applied(_) => save.commit().await?,
                Operated::Refused(_) | Operated::Repeated => save.rollback().await?,
            }
            return Ok(operated);
        }
    }

    /// The same for many locked rows, whose tx undos are done by now. Round trips: 3 to 7, and those that single instances need for their families and kept signals.
    ///
    /// # Errors
    /// The database's: nothing of it is to be committed then.
    pub(crate) async fn operate_all(
        &self,
        tx: &mut PgConnection,
        order: &Instruction,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<(Uuid, Operated)>, sqlx::Error> {
        let signal_id = format!("operator:{}", order.id);
        let keys = wanted.iter().map(|one| subjects::key(&one.row)).collect();
        let followed = subjects::followed(tx, &keys, &signal_id).await?;
        let (rows, planned): (Vec<_>, Vec<_>) =
            wanted.into_iter().map(|one| (one.row, (one.seq, one.planned))).unzip();
        let (mut operated, mut orders) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut commits = Vec::new();
        for (subject, (seq, planned)) in look(tx, rows, &order.verb).await?.into_iter().zip(planned)
        {
            let (id, is) = (subject.row.saga_id, subject.row.seq);
            if followed.contains(&id) {
                operated.push((id, Operated::Repeated));
                continue;
            }
            let order = Instruction { seq, ..order.clone() };
            operated.push(match self.decide(subject, &order) {
                Ok(decided) if planned.is_some_and(|planned| planned != decided.outlook) => {
                    (id, Operated::Refused(Refusal::MovedOn { seq: is }))
                }
                Ok(decided) => {
                    orders.push(json!(order).to_string());
                    commits.push(decided.commit);
                    (id, Operated::Applied(decided.outlook))
                }
                Err(refusal) => (id, Operated::Refused(refusal)),
            });
        }
        if commits.is_empty() {
            return Ok(operated);
        }
        let keys = commits.iter().map(|commit| (commit.shard, commit.id)).collect();
        subjects::follow(tx, &keys, &signal_id, &orders).await?;
        write_all(tx, &commits).await?;
        if matches!(order.verb, Verb::HandOver { .. }) {
            subjects::waive_effects(tx, &keys).await?;
        }
        wake_workers(tx, &commits).await?;
        Ok(operated)
    }

    /// What the verb makes of the instance. Pure.
    pub(crate) fn decide(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal> {
        if order.by.trim().is_empty() || order.reason.trim().is_empty() {
            return Err(Refusal::NoReason);
        }
        limits::check_reason(&order.reason).map_err(|why| Refusal::DoesNotFit(why.to_string()))?;
        limits::check_name("name of who wants it", &order.by)
            .map_err(|why| Refusal::DoesNotFit(why.to_string()))?;
        let row = &subject.row;
        if order.seq.is_some_and(|seq| seq != row.seq) {
            return Err(Refusal::MovedOn { seq: row.seq });
        }
        let Some(kind) = self.kind(&row.name) else {
            return Err(Refusal::Unreadable(format!("{} is not known here", row.name)));
        };
        // Foreign code: one that panics must not hold up the others of a bulk.
        catch_unwind(AssertUnwindSafe(|| kind.operate(subject, order)))
            .unwrap_or_else(|_| Err(Refusal::Unreadable("the saga panicked".to_owned())))
    }
}
