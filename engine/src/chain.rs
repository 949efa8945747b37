//! Chains of tx steps and of tx undos: they share one transaction with the transition that follows from them.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use sqlx::PgConnection;

use crate::{
    apply::on,
    instance::{Entry, Instance, Pending},
    limits::CHAIN_STEPS,
    perform::Performer,
    perform::Task,
    saga::{Done, Saga},
    status::Status,
    steps::{Cause, StepError},
    store,
    terms::Terms,
    unwind::{How, OpenUndo},
    waits::span,
};

/// Runs the pending tx step and all that follow from it, until the saga needs the outside, waits or ends.
///
/// Round trips: what `lock` and the steps take; 0 of its own.
///
/// # Errors
/// The step's; the caller rolls back.
pub(crate) async fn run<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut PgConnection,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    guarded(steps.lock(tx, &instance.subject)).await?;
    let mut length = 0;
    while let Pending::Run { no, step } = &instance.pending {
        length += 1;
        if length > CHAIN_STEPS {
            return Err(StepError::Broken(format!("a chain of more than {CHAIN_STEPS} steps")));
        }
        let (no, step) = (*no, step.clone());
        let event = guarded(steps.run(tx, &step)).await?;
        instance.stepped(no, step, event)?;
        if instance.status == Status::Unwinding {
            // The same transaction takes back what it has just done.
            undo(steps, tx, instance).await?;
        }
    }
    Ok(())
}

/// A panic of foreign code must not take the driver down with the instance it holds.
pub(crate) async fn guarded<T>(
    step: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    AssertUnwindSafe(step)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StepError::Broken("a tx step panicked".to_owned())))
}

impl<S: Saga> Instance<S> {
    /// The pending tx step has run: its undo is recorded and the saga asked what follows.
    ///
    /// # Errors
    /// [`StepError::Broken`] when the saga does not expect the event or decides what it must not.
    pub(crate) fn stepped(
        &mut self,
        no: i32,
        step: S::Step,
        event: S::Event,
    ) -> Result<(), StepError> {
        self.ran(no, Done::Step(step))
            .map_err(|forbidden| StepError::Broken(forbidden.to_string()))?;
        self.settled();
        let mut entry = Entry::new("tx", &event);
        entry.step_no = Some(no);
        let next = on::<S>(self.state.clone(), event).map_err(StepError::Broken)?;
        self.decide(entry, next).map_err(|forbidden| StepError::Broken(forbidden.to_string()))?;
        self.take_early();
        Ok(())
    }

    /// The last open undo, which is done in a transaction, has run.
    pub(crate) fn unstepped(&mut self, open: &OpenUndo<S>) {
        if open.effect {
            self.undone.push(open.no);
        }
        self.close_next_undo();
        let mut entry = Entry::of("undo", open.shown());
        entry.step_no = Some(open.no);
        self.settled();
        self.note(entry);
    }
}

/// Runs the trailing tx undos, last first; undoing the first step of all ends the instance.
///
/// Round trips: what `lock` and the undos take, and 1 if one of them takes an effect back.
///
/// # Errors
/// The undo's; the caller rolls back.
pub(crate) async fn undo<S: Saga, P: Performer<S>>(
    steps: &P,
    tx: &mut PgConnection,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    let Some(reason) = instance.reason.clone() else { return Ok(()) };
    let mut locked = false;
    let mut references = None;
    while let Some(open) = instance.next_undo().filter(|open| open.how() == How::InTx).cloned() {
        let Some(done) = open.done() else { break };
        if !std::mem::replace(&mut locked, true) {
            guarded(steps.lock(tx, &instance.subject)).await?;
        }
        if open.effect && references.is_none() {
            references = Some(store::references(tx, instance.shard, instance.id).await?);
        }
        let written = references.as_ref().and_then(|known| known.get(&open.no));
        // The answer that led here may be written by this very transaction, later.
        let reference = instance.settled_reference(open.no).or(written).cloned();
        let undoing = open.undoing(instance.id, reference, reason.clone());
        guarded(steps.undo_in_tx(tx, done, &undoing)).await?;
        instance.unstepped(&open);
    }
    instance.end_if_nothing_is_open();
    Ok(())
}

impl<S: Saga> Instance<S> {
    /// The pending chain (or that of tx undos, which got as far as `left`) is tried again after `delay`.
    pub(crate) fn chain_failed(&mut self, left: &Self, error: &StepError, delay: Duration) {
        let cause = Cause::new(error).to_string();
        self.note_failed_try(&cause);
        self.attempt = self.attempt.saturating_add(1);
        self.last_error = Some(cause.clone());
        let failing = self.failing_for();
        if failing < Terms::WITHIN {
            if failing >= Terms::SLOW_AFTER {
                self.tell_slow("a chain of tx steps", failing);
            }
            return self.retry_after(delay.min(Terms::WITHIN - failing));
        }
        let why = format!("a chain of tx steps failed for {}: {cause}", span(failing));
        match self.task() {
            Task::UndoRun => self.chain_undo_failed(left, why),
            _ => self.stick(why),
        }
    }

    pub(crate) fn note_failed_try(&mut self, error: &str) {
        let tried = serde_json::json!({ "outcome": "not_done", "error": error });
        let attempt = Some(self.attempt.saturating_add(1));
        self.note(Entry { attempt, ..Entry::new("attempt", &tried) });
    }
}
