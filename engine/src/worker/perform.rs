//! Doing the one thing an instance waits for, and the facts that come of it. Nothing here writes our database.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::Utc;
use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    instance::task::{Fact, Task, What},
    saga::{
        Done, Saga,
        steps::{Cause, Key, Outcome, Probe, StepError, Undoing, Undone},
        table::StepTable,
    },
    worker::step_tx::{StepOf, StepTx, StepsTx},
};

/// The steps of this table can be done by a value of type `I`: it implements the trait that the table names after `done by`.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{DoneBy, Engine, Saga};
///
/// /// An engine for one saga, whatever it is, and the value that does its steps.
/// fn engine<S: Saga<Step: DoneBy<I>>, I: Send + Sync + 'static>(pool: sqlx::PgPool, by: I) -> Engine {
///     Engine::builder(pool).saga::<S, I>(by).build()
/// }
/// # fn f(pool: sqlx::PgPool) {
/// let engine = engine::<Seat, _>(pool, Workshop);
/// # }
/// ```
pub trait DoneBy<I>: StepTable {
    /// Takes the row locks of a chain before its first step runs.
    fn lock(
        by: &I,
        tx: &mut PgConnection,
        subject: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Runs a tx step.
    fn run(
        &self,
        by: &I,
        tx: &mut StepTx<'_>,
    ) -> impl Future<Output = Result<Self::Event, StepError>> + Send;

    /// Runs a tx step of several instances together: all are of one row of the table, which says `tx_together`. The events are in the same order.
    fn run_together(
        by: &I,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>, &Self)],
    ) -> impl Future<Output = Result<Vec<Self::Event>, StepError>> + Send;

    /// Makes one attempt at a call.
    fn call(&self, by: &I, key: &Key) -> impl Future<Output = Outcome<Self::Event>> + Send;

    /// Asks what became of an attempt.
    fn probe(&self, by: &I, key: &Key) -> impl Future<Output = Probe<Self::Event>> + Send;

    /// Takes a step back in a transaction.
    fn undo_in_tx(
        done: &Done<Self>,
        by: &I,
        tx: &mut StepTx<'_>,
        undoing: &Undoing<Self::Reason>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Takes a step back by a call.
    fn undo_by_call(
        done: &Done<Self>,
        by: &I,
        undoing: &Undoing<Self::Reason>,
    ) -> impl Future<Output = Undone> + Send;
}

/// Does the steps of `S`. The engine is generic over this, so that the test kit can stand between it and a saga's own methods.
pub(crate) trait Performer<S: Saga>: Send + Sync + 'static {
    fn lock(
        &self,
        tx: &mut PgConnection,
        subject: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    fn run(
        &self,
        tx: &mut StepTx<'_>,
        step: &S::Step,
    ) -> impl Future<Output = Result<S::Event, StepError>> + Send;

    /// Runs the steps of several instances, all of one row of the table. By default one after the other.
    fn run_together(
        &self,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>, &S::Step)],
    ) -> impl Future<Output = Result<Vec<S::Event>, StepError>> + Send {
        async move {
            let mut events = Vec::with_capacity(all.len());
            for (of, step) in all {
                events.push(self.run(&mut tx.of(*of, false), step).await?);
            }
            Ok(events)
        }
    }

    fn call(&self, key: &Key, step: &S::Step) -> impl Future<Output = Outcome<S::Event>> + Send;

    fn probe(&self, key: &Key, step: &S::Step) -> impl Future<Output = Probe<S::Event>> + Send;

    fn undo_in_tx(
        &self,
        tx: &mut StepTx<'_>,
        done: &Done<S::Step>,
        undoing: &Undoing<S::Reason>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    fn undo_by_call(
        &self,
        done: &Done<S::Step>,
        undoing: &Undoing<S::Reason>,
    ) -> impl Future<Output = Undone> + Send;
}

/// The value that an application registered for a saga.
pub(crate) struct Services<I>(pub(crate) Arc<I>);

impl<S: Saga<Step: DoneBy<I>>, I: Send + Sync + 'static> Performer<S> for Services<I> {
    async fn lock(&self, tx: &mut PgConnection, subject: &str) -> Result<(), StepError> {
        S::Step::lock(&self.0, tx, subject).await
    }

    async fn run(&self, tx: &mut StepTx<'_>, step: &S::Step) -> Result<S::Event, StepError> {
        step.run(&self.0, tx).await
    }

    async fn run_together(
        &self,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>, &S::Step)],
    ) -> Result<Vec<S::Event>, StepError> {
        S::Step::run_together(&self.0, tx, all).await
    }

    async fn call(&self, key: &Key, step: &S::Step) -> Outcome<S::Event> {
        step.call(&self.0, key).await
    }

    async fn probe(&self, key: &Key, step: &S::Step) -> Probe<S::Event> {
        step.probe(&self.0, key).await
    }

    async fn undo_in_tx(
        &self,
        tx: &mut StepTx<'_>,
        done: &Done<S::Step>,
        undoing: &Undoing<S::Reason>,
    ) -> Result<(), StepError> {
        S::Step::undo_in_tx(done, &self.0, tx, undoing).await
    }

    async fn undo_by_call(&self, done: &Done<S::Step>, undoing: &Undoing<S::Reason>) -> Undone {
        S::Step::undo_by_call(done, &self.0, undoing).await
    }
}

/// Does the task, outside any transaction. `reference` is that of the effect that an undo takes back.
pub(crate) async fn perform<S: Saga, P: Performer<S>>(
    steps: &P,
    saga_id: Uuid,
    task: Task<S>,
    reference: Option<String>,
) -> Fact<S::Event> {
    let started_at = Utc::now();
    let (no, what) = match task {
        Task::Call { no, step } => {
            let key = Key::of_step(saga_id, no);
            let what = match guarded(step.terms().timeout, steps.call(&key, &step)).await {
                Ok(Outcome::Answered { event, effect }) => What::Answered { event, effect },
                Ok(Outcome::NotDone(cause)) => What::NotDone(cause),
                Ok(Outcome::AnsweredNo(cause)) => What::AnsweredNo(cause),
                Ok(Outcome::Unknown(cause)) | Err(Lost::TimedOut(cause)) => What::Unknown(cause),
                Err(Lost::Panicked(cause)) => What::Panicked(cause),
            };
            (no, what)
        }
        // It may be repeated; as nobody can be asked, an unwinding instance leaves it to the undo.
        Task::Probe { no, step } if !step.has_probe() => (no, What::Dropped),
        Task::Probe { no, step } => {
            let key = Key::of_step(saga_id, no);
            let what = match guarded(step.terms().timeout, steps.probe(&key, &step)).await {
                Ok(Probe::Answered { event, effect }) => What::Answered { event, effect },
                Ok(Probe::NotHappened) => What::NeverSeen,
                Ok(Probe::Unknown(cause)) | Err(Lost::TimedOut(cause)) => What::Unknown(cause),
                Err(Lost::Panicked(cause)) => What::Panicked(cause),
            };
            (no, what)
        }
        Task::UndoCall { open, reason } => {
            let undoing = open.undoing(saga_id, reference, reason);
            let Some(done) = open.done() else { unreachable!("a method takes it back") };
            let timeout = done.undo_terms().timeout;
            let what = match guarded(timeout, steps.undo_by_call(done, &undoing)).await {
                Ok(Undone::Undone(reference)) => What::Undone(reference),
                Ok(Undone::Nothing) => What::NothingToUndo,
                Ok(Undone::NotDone(cause)) | Err(Lost::TimedOut(cause)) => What::NotUndone(cause),
                Err(Lost::Panicked(cause)) => What::UndoPanicked(cause),
                Ok(Undone::AnsweredNo(cause)) => What::AnsweredNotUndone(cause),
                Ok(Undone::Impossible(cause)) => What::CannotUndo(cause),
            };
            (open.no, what)
        }
        Task::Fire { no, event } => (no, What::Fired(event)),
        Task::Drop { no } => (no, What::Dropped),
        Task::Run | Task::UndoRun | Task::Join { .. } | Task::CallOff { .. } | Task::Park => {
            unreachable!("these are no calls")
        }
    };
    Fact { no, started_at, what, failing: Duration::ZERO }
}

/// Why the author's code gave no outcome. Either way the outcome is unknown; but a panic is a mistake of the code, not of the outside.
enum Lost {
    TimedOut(Cause),
    Panicked(Cause),
}

async fn guarded<T>(timeout: Duration, work: impl Future<Output = T>) -> Result<T, Lost> {
    match tokio::time::timeout(timeout, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Lost::Panicked(Cause::new("the step panicked"))),
        Err(_) => {
            let cause = format_args!("no answer within {} ms", timeout.as_millis());
            Err(Lost::TimedOut(Cause::new(cause)))
        }
    }
}
