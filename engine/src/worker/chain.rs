//! Chains of tx steps and of tx undos: they share one transaction with the transition that follows from them.

use std::{collections::BTreeSet, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;

use crate::{
    base::{limits::CHAIN_STEPS, status::Status},
    instance::{Instance, Pending, unwind::How},
    saga::{Saga, steps::StepError, table::parts::not_one_each},
    store,
    worker::{
        perform::Performer,
        step_tx::{StepOf, StepsTx},
    },
};

impl<S: Saga> Instance<S> {
    /// The instance as its own steps see it.
    fn step_of(&self) -> StepOf<'_> {
        StepOf {
            instance: self.id,
            subject: &self.subject,
            because: self.progress.because.as_deref(),
        }
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
    tx: &mut StepsTx<'_>,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    guarded(steps.lock(tx.connection, &instance.subject)).await?;
    run_on(steps, tx, instance, 0).await
}

/// Runs the chain on, of which so many steps have run already. Its locks are taken.
async fn run_on<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut StepsTx<'_>,
    instance: &mut Instance<S>,
    mut length: usize,
) -> Result<(), StepError> {
    while let Pending::Run { no, step } = &instance.pending {
        length += 1;
        if length > CHAIN_STEPS {
            return Err(StepError::Broken(format!("a chain of more than {CHAIN_STEPS} steps")));
        }
        let (no, step) = (*no, step.clone());
        let event = guarded(steps.run(&mut tx.of(instance.step_of(), false), &step)).await?;
        stepped(steps, tx, instance, (no, step), event).await?;
    }
    Ok(())
}

async fn stepped<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut StepsTx<'_>,
    instance: &mut Instance<S>,
    (no, step): (i32, S::Step),
    event: S::Event,
) -> Result<(), StepError> {
    instance.stepped(no, step, event)?;
    if instance.status == Status::Unwinding {
        // The same transaction takes back what it has just done.
        undo(steps, tx, instance).await?;
    }
    Ok(())
}

/// Runs the pending steps of all these instances together, which are of one row of the table, and then the rest of each one's chain.
///
/// Round trips: those of `lock` for each subject, those of the method, and those of the steps that follow; 0 of its own.
///
/// # Errors
/// The method's, or that of one instance; the caller rolls back.
pub(crate) async fn run_together<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut StepsTx<'_>,
    instances: &mut [Box<Instance<S>>],
) -> Result<(), StepError> {
    // Two transactions with the same subjects must not lock them in opposite orders.
    let subjects: BTreeSet<&str> = instances.iter().map(|one| one.subject.as_str()).collect();
    for subject in subjects {
        guarded(steps.lock(tx.connection, subject)).await?;
    }
    let pending = instances.iter().map(|one| match &one.pending {
        Pending::Run { no, step } => Ok((*no, step.clone())),
        _ => Err(StepError::Broken("it waits for no tx step".to_owned())),
    });
    let pending = pending.collect::<Result<Vec<_>, _>>()?;
    let all = instances.iter().zip(&pending).map(|(one, (_, step))| (one.step_of(), step));
    let all = all.collect::<Vec<_>>();
    let events = guarded(steps.run_together(tx, &all)).await?;
    if events.len() != pending.len() {
        return Err(not_one_each(pending.len(), events.len()));
    }
    for ((instance, step), event) in instances.iter_mut().zip(pending).zip(events) {
        stepped(steps, tx, instance, step, event).await?;
        run_on(steps, tx, instance, 1).await?;
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
    tx: &mut StepsTx<'_>,
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
        guarded(steps.undo_in_tx(&mut tx.of(instance.step_of(), true), done, &undoing)).await?;
        instance.unstepped(&open);
    }
    instance.end_if_nothing_is_open();
    Ok(())
}
