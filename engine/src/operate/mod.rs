//! Verbs: what an operator does to an instance, with the person and the reason, in the caller's transaction.
//!
//! A verb is a pure function of the instance. [`crate::Engine::operate`] locks the row, asks the verb and writes its commit. A plan asks the same
//! verb and writes nothing, so it can show the effect. The journal records each verb (kind `operator`: the verb, the person, the reason, before and
//! after). The same instruction given twice does nothing the second time.
//!
//! The verbs themselves are in `instance::operate`; here they are applied to rows. The API and [`crate::bulk`] use it.

mod subjects;
mod tx_undos;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    instance::verb::{Decided, Subject},
    record::row::Row,
    store::{self, family::write_all, wake::wake_workers},
    worker::engine::Engine,
};

use self::tx_undos::Undone;
pub(crate) use self::{subjects::look, tx_undos::run_tx_undos};
pub use crate::instance::verb::{Instruction, Outlook, Outside, Refusal, Verb, WrongStatus};

/// The result of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operated {
    /// It was applied. This is durable with the caller's commit.
    Applied(Outlook),
    /// It was refused.
    Refused(Refusal),
    /// It was applied before. Nothing was done.
    Repeated,
}

/// A locked row that an instruction is for.
pub(crate) struct Wanted {
    pub(crate) row: Row,
    /// [`Instruction::seq`].
    pub(crate) seq: Option<i32>,
    /// The planned result, if there is a plan: another result is not applied.
    pub(crate) planned: Option<Outlook>,
    /// The tx undos that were run for it, as JSON. If the verb asks for others now, it is not applied.
    pub(crate) undone: Vec<String>,
}

impl Engine {
    /// Applies a person's instruction, once per [`Instruction::id`].
    ///
    /// Lock the rows of the domain first, as for [`Engine::signal`]; what the tx undos of a verb need is
    /// locked here. Round trips: 4 to 8, 4 to 8 more for a verb that may run tx undos, and those of its tx undos. Row operations: 3
    /// (instance, journal, the instruction's id), more where effects are waived or a notice is written.
    ///
    /// # Errors
    /// The database's. An instruction that cannot be followed is [`Operated::Refused`], no error.
    pub async fn operate(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
    ) -> Result<Operated, sqlx::Error> {
        match order.check() {
            Ok(()) => self.operate_one(tx, id, order, None).await,
            Err(refusal) => Ok(Operated::Refused(refusal)),
        }
    }

    /// The same, by the planned outlook if there is one. The tx undos of the verb run before the instance's row is locked, since that lock is the
    /// last in the lock order. If the row has moved on by then, also if there was nothing to undo before, all of it is rolled back and done again.
    pub(crate) async fn operate_one(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
        planned: Option<&Outlook>,
    ) -> Result<Operated, sqlx::Error> {
        loop {
            let mut save = tx.begin().await?;
            let Undone { seq, undos } = match self.run_tx_undos_first(&mut save, id, order).await? {
                Ok(undone) => undone,
                Err(refusal) => {
                    save.rollback().await?;
                    return Ok(Operated::Refused(refusal));
                }
            };
            let Some(row) = store::lock_instance(&mut save, shard_in(id), id).await? else {
                save.rollback().await?;
                return Ok(Operated::Refused(Refusal::NotFound));
            };
            if seq.is_some_and(|seq| seq != row.seq) {
                save.rollback().await?;
                continue;
            }
            let planned = planned.cloned();
            let wanted = vec![Wanted { row, seq: order.seq, planned, undone: undos }];
            let mut operated = self.operate_all(&mut save, order, wanted).await?;
            let (_, operated) = operated.pop().expect("one was wanted");
            match operated {
                Operated::Applied(_) => save.commit().await?,
                Operated::Refused(_) | Operated::Repeated => save.rollback().await?,
            }
            return Ok(operated);
        }
    }

    /// The same for many locked rows, whose tx undos are done by now. Round trips: 3 to 7, and those that single instances need for their families
    /// and kept signals.
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
        let followed = subjects::followed(tx, &keys, &signal_id, order).await?;
        let (rows, planned): (Vec<_>, Vec<_>) =
            wanted.into_iter().map(|one| (one.row, (one.seq, one.planned, one.undone))).unzip();
        let (mut operated, mut orders) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut commits = Vec::new();
        let subjects = look(tx, rows, &order.verb).await?;
        for (subject, (seq, planned, undone)) in subjects.into_iter().zip(planned) {
            let (id, is) = (subject.row.saga_id, subject.row.seq);
            if let Some(is_the_same) = followed.get(&id) {
                let refused = Operated::Refused(Refusal::IdTaken);
                operated.push((id, if *is_the_same { Operated::Repeated } else { refused }));
                continue;
            }
            let order = Instruction { seq, ..order.clone() };
            operated.push(match self.decide(subject, &order) {
                Ok(decided)
                    if planned.is_some_and(|planned| planned != decided.outlook)
                        || decided.tx_undos() != undone =>
                {
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

    /// Asks the verb. Pure.
    pub(crate) fn decide(&self, subject: Subject, order: &Instruction) -> Result<Decided, Refusal> {
        let row = &subject.row;
        if order.seq.is_some_and(|seq| seq != row.seq) {
            return Err(Refusal::MovedOn { seq: row.seq });
        }
        let Some(kind) = self.kind(&row.saga.name) else {
            return Err(Refusal::Unreadable(format!("{} is not known here", row.saga.name)));
        };
        // The saga's code may panic. That must not affect the other instances of a bulk.
        catch_unwind(AssertUnwindSafe(|| kind.operate(subject, order)))
            .unwrap_or_else(|_| Err(Refusal::Unreadable("the saga panicked".to_owned())))
    }
}
