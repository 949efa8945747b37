//! Runs the tx undos that a verb asks for, in the verb's own transaction, so that the instance keeps nothing in our database.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    instance::{
        unwind::OpenUndo,
        verb::{GiveBack, Instruction, Refusal},
    },
    operate::look,
    saga::{Saga, steps::StepError},
    store,
    worker::{
        chain::{Place, guarded},
        engine::Engine,
        hand_over::HandOver,
        perform::Performer,
        step_tx::{About, StepTx},
    },
};

impl Engine {
    /// Runs the tx undos that the verb asks for, before the instance's row is locked. Returns the seq of the row for which they were decided; `None`
    /// if there are none. Round trips: 0, or 1 to 4 and those of the undos.
    ///
    /// # Errors
    /// The database's; [`Refusal::StillHeld`] when an undo cannot be done.
    pub(super) async fn give_back_first(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
    ) -> Result<Result<Option<i32>, Refusal>, sqlx::Error> {
        if !order.verb.may_give_back() {
            return Ok(Ok(None));
        }
        let Some(row) = store::instance(&mut *tx, shard_in(id), id).await? else {
            return Ok(Ok(None));
        };
        let (seq, name, subject) = (row.seq, row.saga.name.clone(), row.subject.clone());
        let because = row.progress.because.clone();
        let Some(kind) = self.kind(&name) else { return Ok(Ok(None)) };
        let mut looked = look(tx, vec![row], &order.verb).await?;
        let decided = looked.pop().map(|seen| self.decide(seen, order));
        // A refusal is decided again on the locked row.
        let Some(Ok(decided)) = decided else { return Ok(Ok(None)) };
        let Some(back) = decided.back else { return Ok(Ok(None)) };
        // Workers find what the undos start: the caller commits, and nobody hands it over.
        let mut started = HandOver::default();
        let place = Place { tx, started: &mut started, engine: self };
        match kind.give_back(place, &subject, because.as_deref(), &back).await {
            Ok(()) => Ok(Ok(Some(seq))),
            Err(StepError::Broken(why)) => Ok(Err(Refusal::StillHeld(why))),
            Err(StepError::Database(error)) => Err(error),
        }
    }
}

/// Does the undos under the locks that the saga takes for a chain. Round trips: what `lock` and the undos take, and 1 if one of them takes an
/// effect back.
///
/// # Errors
/// The first one's that cannot be done.
pub(crate) async fn give_back<S: Saga, P: Performer<S>>(
    steps: &P,
    place: Place<'_>,
    subject: &str,
    because: Option<&str>,
    back: &GiveBack,
) -> Result<(), StepError> {
    let Place { tx, started, engine } = place;
    let unfit = |error: serde_json::Error| StepError::Broken(error.to_string());
    let reason: S::Reason = serde_json::from_str(&back.reason).map_err(unfit)?;
    guarded(steps.lock(tx, subject)).await?;
    let mut references = None;
    for undo in &back.undos {
        let open: OpenUndo<S> = serde_json::from_str(undo).map_err(unfit)?;
        let Some(done) = open.done() else { continue };
        if open.effect && references.is_none() {
            references = Some(store::references(&mut *tx, shard_in(back.id), back.id).await?);
        }
        let reference = references.as_ref().and_then(|known| known.get(&open.no)).cloned();
        let undoing = open.undoing(back.id, reference, reason.clone());
        let about = About { id: back.id, subject, because, is_undo: true };
        let mut tx = StepTx { connection: &mut *tx, started: &mut *started, engine, about };
        guarded(steps.undo_in_tx(&mut tx, done, &undoing)).await?;
    }
    Ok(())
}
