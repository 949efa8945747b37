//! Doing the one thing an instance waits for, and the facts that come of it. Nothing here writes our database.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    instance::{Instance, Pending},
    saga::{Done, Joined, Saga},
    status::Status,
    steps::{Cause, Effect, Key, Outcome, Probe, StepError, Undoing, Undone},
    table::{DoneBy, StepTable},
    unwind::{How, OpenUndo},
};

/// Does the steps of `S`. The engine is generic over this, so that the test kit can stand between it and a saga's own methods.
pub(crate) trait Performer<S: Saga>: Send + Sync + 'static {
    fn lock(
        &self,
        tx: &mut PgConnection,
        subject: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    fn run(
        &self,
        tx: &mut PgConnection,
        step: &S::Step,
    ) -> impl Future<Output = Result<S::Event, StepError>> + Send;

    fn call(&self, key: &Key, step: &S::Step) -> impl Future<Output = Outcome<S::Event>> + Send;

    fn probe(&self, key: &Key, step: &S::Step) -> impl Future<Output = Probe<S::Event>> + Send;

    fn undo_in_tx(
        &self,
        tx: &mut PgConnection,
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

    async fn run(&self, tx: &mut PgConnection, step: &S::Step) -> Result<S::Event, StepError> {
        step.run(&self.0, tx).await
    }

    async fn call(&self, key: &Key, step: &S::Step) -> Outcome<S::Event> {
        step.call(&self.0, key).await
    }

    async fn probe(&self, key: &Key, step: &S::Step) -> Probe<S::Event> {
        step.probe(&self.0, key).await
    }

    async fn undo_in_tx(
        &self,
        tx: &mut PgConnection,
        done: &Done<S::Step>,
        undoing: &Undoing<S::Reason>,
    ) -> Result<(), StepError> {
        S::Step::undo_in_tx(done, &self.0, tx, undoing).await
    }

    async fn undo_by_call(&self, done: &Done<S::Step>, undoing: &Undoing<S::Reason>) -> Undone {
        S::Step::undo_by_call(done, &self.0, undoing).await
    }
}

impl<S: Saga> OpenUndo<S> {
    /// What the undo is told.
    pub(crate) fn undoing(
        &self,
        saga_id: Uuid,
        reference: Option<String>,
        reason: S::Reason,
    ) -> Undoing<S::Reason> {
        Undoing {
            key: Key::of_undo(saga_id, self.no, self.anew),
            step_key: Key::of_step(saga_id, self.no),
            reference,
            reason,
        }
    }
}

/// What an instance has to do now.
pub(crate) enum Task<S: Saga> {
    /// Run the pending tx step in a transaction.
    Run,
    /// Try the pending call.
    Call { no: i32, step: S::Step },
    /// Ask what became of the pending call.
    Probe { no: i32, step: S::Step },
    /// The pending call was surely not done, and is not wanted any more.
    Drop { no: i32 },
    /// The pending timer fires, or the saga is asked again.
    Fire { no: i32, event: S::Event },
    /// Run the trailing tx undos in a transaction.
    UndoRun,
    /// Try the last open undo.
    UndoCall { open: OpenUndo<S>, reason: S::Reason },
    /// Look whether the children have ended.
    Join { no: i32 },
    /// Call off the children that a step started.
    CallOff { no: i32 },
    /// Nothing, for now.
    Park,
}

impl<S: Saga> Instance<S> {
    pub(crate) fn task(&self) -> Task<S> {
        match (self.status, &self.pending) {
            (Status::Running, Pending::Run { .. }) => Task::Run,
            (Status::Running, Pending::Call { no, step }) if self.unsettled && step.has_probe() => {
                Task::Probe { no: *no, step: step.clone() }
            }
            (Status::Running, Pending::Call { no, step }) => {
                Task::Call { no: *no, step: step.clone() }
            }
            (Status::Running, Pending::Timer { no, event }) if self.timer_due => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Running, Pending::Event { no, event }) => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Unwinding, Pending::Call { no, step }) if self.unsettled => {
                Task::Probe { no: *no, step: step.clone() }
            }
            (Status::Unwinding, Pending::Call { no, .. }) => Task::Drop { no: *no },
            (Status::Running | Status::Unwinding, Pending::Children { no }) => {
                Task::Join { no: *no }
            }
            (Status::Unwinding, _) => match (self.next_undo(), &self.reason) {
                (Some(open), Some(reason)) => match open.how() {
                    How::InTx => Task::UndoRun,
                    How::Children => Task::CallOff { no: open.no },
                    How::Outside => Task::UndoCall { open: open.clone(), reason: reason.clone() },
                    How::Person => Task::Park,
                },
                // Unwinding with nothing open and nothing pending has ended; a row never stays so.
                _ => Task::Park,
            },
            _ => Task::Park,
        }
    }
}

/// What happened. It can be applied to the row again if the commit missed.
#[derive(Clone)]
pub(crate) struct Fact<E> {
    pub(crate) no: i32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) what: What<E>,
    /// How long the step had been failing before that attempt ended.
    pub(crate) failing: Duration,
}

#[derive(Clone)]
pub(crate) enum What<E> {
    Answered {
        event: E,
        effect: Effect,
    },
    NotDone(Cause),
    AnsweredNo(Cause),
    Unknown(Cause),
    /// The author's code panicked: it may have happened.
    Panicked(Cause),
    /// A probe found that the provider has not acted.
    NeverSeen,
    Fired(E),
    Dropped,
    Undone(Option<String>),
    NothingToUndo,
    NotUndone(Cause),
    AnsweredNotUndone(Cause),
    UndoPanicked(Cause),
    CannotUndo(Cause),
    Joined(Joined),
    /// Some of the children are open.
    NotJoined,
    ChildrenCalledOff,
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
