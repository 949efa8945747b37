//! Chains of tx steps and of tx undos: they share one transaction with the transition that follows from them.

use sqlx::PgConnection;

use crate::{
    apply::on,
    instance::{Entry, Instance, Pending},
    saga::{Saga, Step},
    status::Status,
    steps::{StepError, Steps},
};

/// A chain longer than this is a bug in the saga.
const CHAIN_LIMIT: usize = 16;

/// Runs the pending tx step and all that follow from it, until the saga needs the outside, waits or ends.
///
/// Round trips: what `lock` and the steps take; 0 of its own.
///
/// # Errors
/// The step's; the caller rolls back.
pub(crate) async fn run<S: Saga, I: Steps<S>>(
    steps: &I,
    tx: &mut PgConnection,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    steps.lock(tx, &instance.subject).await?;
    for _ in 0..CHAIN_LIMIT {
        let Pending::Run { no, step } = &instance.pending else { return Ok(()) };
        let (no, step) = (*no, step.clone());
        let event = steps.run(tx, &step).await?;
        instance.ran(no, &Step::Tx(step));
        instance.settled();
        let mut entry = Entry::new("tx", &event);
        entry.step_no = Some(no);
        match on::<S>(instance.state.clone(), event) {
            Ok(next) => instance
                .decide(entry, next)
                .map_err(|forbidden| StepError::Broken(forbidden.to_string()))?,
            Err(why) => return Err(StepError::Broken(why)),
        }
        instance.take_early();
        if instance.status == Status::Unwinding {
            // The same transaction takes back what it has just done.
            undo(steps, tx, instance).await?;
        }
    }
    Err(StepError::Broken(format!("a chain of more than {CHAIN_LIMIT} steps")))
}

/// Runs the trailing tx undos, last first; undoing the first step of all ends the instance.
///
/// # Errors
/// The undo's; the caller rolls back.
pub(crate) async fn undo<S: Saga, I: Steps<S>>(
    steps: &I,
    tx: &mut PgConnection,
    instance: &mut Instance<S>,
) -> Result<(), StepError> {
    let Some(reason) = instance.reason.clone() else { return Ok(()) };
    let mut locked = false;
    while let Some((no, step)) = instance.undos.last().and_then(|open| match &open.by {
        Step::Tx(step) => Some((open.no, step.clone())),
        Step::Activity(_) => None,
    }) {
        if !std::mem::replace(&mut locked, true) {
            steps.lock(tx, &instance.subject).await?;
        }
        steps.undo_run(tx, &step, &reason).await?;
        instance.undos.pop();
        let mut entry = Entry::new("undo", &step);
        entry.step_no = Some(no);
        instance.settled();
        instance.note(entry);
    }
    instance.end_if_nothing_is_open();
    Ok(())
}
