//! Runs the open tx undos of an instance in the transaction of a verb that ends the instance or closes a failed undo, so that the instance leaves
//! nothing reserved in our database.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    instance::{
        unwind::OpenUndo,
        verb::{Instruction, OpenTxUndos, Refusal},
    },
    operate::look,
    saga::{Saga, steps::StepError},
    store,
    worker::{
        chain::guarded,
        engine::Engine,
        hand_over::HandOver,
        perform::Performer,
        step_tx::{StepOf, StepTx, StepsTx},
    },
};

/// The tx undos that ran for a verb.
#[derive(Default)]
pub(super) struct Undone {
    /// The seq of the row that was read: what was decided about it, even that there is nothing to undo, holds for that seq only. `None` if no row was
    /// read.
    pub(super) seq: Option<i32>,
    /// The undos, as JSON.
    pub(super) undos: Vec<String>,
}

impl Engine {
    /// Runs the tx undos that the verb asks for, before the instance's row is locked. Round trips: 0, or 1 to 4 and those of the undos.
    ///
    /// # Errors
    /// The database's; [`Refusal::StillHeld`] when an undo cannot be done.
    pub(super) async fn run_tx_undos_first(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Instruction,
    ) -> Result<Result<Undone, Refusal>, sqlx::Error> {
        if !order.verb.may_run_tx_undos() {
            return Ok(Ok(Undone::default()));
        }
        let Some(row) = store::instance(&mut *tx, shard_in(id), id).await? else {
            return Ok(Ok(Undone::default()));
        };
        let (seq, name, subject) = (row.seq, row.saga.name.clone(), row.subject.clone());
        let because = row.progress.because.clone();
        let nothing_to_undo = Ok(Ok(Undone { seq: Some(seq), undos: Vec::new() }));
        let Some(kind) = self.kind(&name) else { return nothing_to_undo };
        let mut looked = look(tx, vec![row], &order.verb).await?;
        let decided = looked.pop().map(|seen| self.decide(seen, order));
        // A refusal is decided again on the locked row.
        let Some(Ok(decided)) = decided else { return nothing_to_undo };
        let Some(undos) = decided.tx_undos else { return nothing_to_undo };
        // Workers find what the undos start: the caller commits, and nobody hands it over.
        let mut started = HandOver::default();
        let steps_tx = StepsTx { connection: tx, started: &mut started, engine: self };
        match kind.run_tx_undos(steps_tx, &subject, because.as_deref(), &undos).await {
            Ok(()) => Ok(Ok(Undone { seq: Some(seq), undos: undos.undos })),
            Err(StepError::Broken(why)) => Ok(Err(Refusal::StillHeld(why))),
            Err(StepError::Database(error)) => Err(error),
        }
    }
}

/// Runs the undos under the locks that the saga takes for a chain. Round trips: those of `lock` and of the undos, and 1 if an undo takes an effect
/// back.
///
/// # Errors
/// Of the first undo that cannot be done.
pub(crate) async fn run_tx_undos<S: Saga, P: Performer<S>>(
    steps: &P,
    steps_tx: StepsTx<'_>,
    subject: &str,
    because: Option<&str>,
    open: &OpenTxUndos,
) -> Result<(), StepError> {
    let StepsTx { connection, started, engine } = steps_tx;
    let unfit = |error: serde_json::Error| StepError::Broken(error.to_string());
    let reason: S::Reason = serde_json::from_str(&open.reason).map_err(unfit)?;
    guarded(steps.lock(connection, subject)).await?;
    let mut references = None;
    for undo in &open.undos {
        let undo: OpenUndo<S> = serde_json::from_str(undo).map_err(unfit)?;
        let Some(done) = undo.done() else { continue };
        if undo.effect && references.is_none() {
            references =
                Some(store::references(&mut *connection, shard_in(open.id), open.id).await?);
        }
        let reference = references.as_ref().and_then(|known| known.get(&undo.no)).cloned();
        let undoing = undo.undoing(open.id, reference, reason.clone());
        let of = StepOf { instance: open.id, subject, because };
        let (connection, started) = (&mut *connection, &mut *started);
        let mut tx = StepTx { connection, started, engine, of, is_undo: true };
        guarded(steps.undo_in_tx(&mut tx, done, &undoing)).await?;
    }
    Ok(())
}
