//! Chains of tx steps and of tx undos: they share one transaction with the transition that follows from them.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use sqlx::PgConnection;

use crate::{
    base::{limits::CHAIN_STEPS, status::Status},
    instance::{Instance, Pending, unwind::How},
    saga::{Saga, steps::StepError},
    store,
    worker::{
        engine::Engine,
        hand_over::HandOver,
        perform::Performer,
        step_tx::{About, StepTx},
    },
};

/// The transaction in which a chain runs, and the instances that are started in it.
pub(crate) struct ChainTx<'a> {
    pub(crate) connection: &'a mut PgConnection,
    pub(crate) started: &'a mut HandOver,
    pub(crate) engine: &'a Engine,
}

impl ChainTx<'_> {
    /// The transaction as a step of the instance sees it.
    fn of<'b, S: Saga>(&'b mut self, instance: &'b Instance<S>, is_undo: bool) -> StepTx<'b> {
        let about = About {
            id: instance.id,
            subject: &instance.subject,
            because: instance.progress.because.as_deref(),
            is_undo,
        };
        StepTx { connection: self.connection, started: self.started, engine: self.engine, about }
    }
}

/// Runs the pending tx step and the tx steps that follow from it, until the saga makes a call, waits or ends.
///
/// Round trips: those of `lock` and of the steps; 0 of its own.
///
/// # Errors
/// The step's; the caller rolls back.
pub(crate) async fn run<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut ChainTx<'_>,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    guarded(steps.lock(tx.connection, &instance.subject)).await?;
    let mut length = 0;
    while let Pending::Run { no, step } = &instance.pending {
        length += 1;
        if length > CHAIN_STEPS {
            return Err(StepError::Broken(format!("a chain of more than {CHAIN_STEPS} steps")));
        }
        let (no, step) = (*no, step.clone());
        let event = guarded(steps.run(&mut tx.of(instance, false), &step)).await?;
        instance.stepped(no, step, event)?;
        if instance.status == Status::Unwinding {
            // The same transaction takes back what it has just done.
            undo(steps, tx, instance).await?;
        }
    }
    Ok(())
}

/// A panic of the author's code must not end the driver.
pub(crate) async fn guarded<T>(
    step: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    AssertUnwindSafe(step)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StepError::Broken("a tx step panicked".to_owned())))
}

/// Runs the trailing tx undos, last first; undoing the first step of all ends the instance.
///
/// Round trips: those of `lock` and of the undos, and 1 if an undo takes an effect back.
///
/// # Errors
/// The undo's; the caller rolls back.
pub(crate) async fn undo<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut ChainTx<'_>,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    let Some(reason) = instance.reason.clone() else { return Ok(()) };
    let mut locked = false;
    let mut references = None;
    while let Some(open) = instance.next_undo().filter(|open| open.how() == How::InTx).cloned() {
        let Some(done) = open.done() else { break };
        if !std::mem::replace(&mut locked, true) {
            guarded(steps.lock(tx.connection, &instance.subject)).await?;
        }
        if open.effect && references.is_none() {
            references = Some(store::references(tx.connection, instance.shard, instance.id).await?);
        }
        let written = references.as_ref().and_then(|known| known.get(&open.no));
        // The effect of the answer that led here may still be unwritten: this transaction writes it, later.
        let reference = instance.new_reference(open.no).or(written).cloned();
        let undoing = open.undoing(instance.id, reference, reason.clone());
        guarded(steps.undo_in_tx(&mut tx.of(instance, true), done, &undoing)).await?;
        instance.unstepped(&open);
    }
    instance.end_if_nothing_is_open();
    Ok(())
}
