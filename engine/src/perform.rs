//! Doing the one thing an instance waits for, and the facts that come of it. Nothing here writes our database.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use chrono::{DateTime, Utc};
use futures::FutureExt as _;

use crate::{
    instance::{Instance, Pending},
    saga::{Joined, Saga},
    status::Status,
    steps::{ActivityKey, Cause, Effect, EffectRow, Outcome, Probe, Steps, Undone},
    terms::WhenUnknown,
    unwind::WayBack,
};

/// What an instance has to do now.
pub(crate) enum Task<S: Saga> {
    /// Run the pending tx step in a transaction.
    Run,
    /// Try the pending activity.
    Call { no: i32, activity: S::Activity },
    /// Ask what became of the pending activity.
    Probe { no: i32, activity: S::Activity },
    /// The pending activity was surely not done, and is not wanted any more.
    Drop { no: i32 },
    /// The pending timer fires, or the saga is asked again.
    Fire { no: i32, event: S::Event },
    /// Run the trailing tx undos in a transaction.
    UndoRun,
    /// Try the last open undo.
    UndoCall { no: i32, anew: Option<i32>, undo: S::Activity, reason: S::Reason },
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
            (Status::Running, Pending::Call { no, activity }) if self.must_ask(activity) => {
                Task::Probe { no: *no, activity: activity.clone() }
            }
            (Status::Running, Pending::Call { no, activity }) => {
                Task::Call { no: *no, activity: activity.clone() }
            }
            (Status::Running, Pending::Timer { no, event }) if self.timer_due => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Running, Pending::Event { no, event }) => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Unwinding, Pending::Call { no, activity }) if self.unsettled => {
                Task::Probe { no: *no, activity: activity.clone() }
            }
            (Status::Unwinding, Pending::Call { no, .. }) => Task::Drop { no: *no },
            (Status::Running | Status::Unwinding, Pending::Children { no }) => {
                Task::Join { no: *no }
            }
            (Status::Unwinding, _) => match (self.next_undo(), &self.reason) {
                (Some(open), Some(reason)) => match &open.by {
                    WayBack::Tx(_) => Task::UndoRun,
                    WayBack::Children => Task::CallOff { no: open.no },
                    WayBack::Activity(undo) => Task::UndoCall {
                        no: open.no,
                        anew: open.anew,
                        undo: undo.clone(),
                        reason: reason.clone(),
                    },
                    WayBack::Person => Task::Park,
                },
                // Unwinding with nothing open and nothing pending has ended; a row never stays so.
                _ => Task::Park,
            },
            _ => Task::Park,
        }
    }

    fn must_ask(&self, activity: &S::Activity) -> bool {
        self.unsettled && matches!(S::terms(activity).unknown, WhenUnknown::Ask { .. })
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

/// Does the task, outside any transaction. `effect` is the ledger row that an undo takes back.
pub(crate) async fn perform<S: Saga, I: Steps<S>>(
    steps: &I,
    saga_id: uuid::Uuid,
    task: Task<S>,
    effect: Option<EffectRow>,
) -> Fact<S::Event> {
    let started_at = Utc::now();
    let (no, what) = match task {
        Task::Call { no, activity } => {
            let key = ActivityKey { saga_id, step_no: no, undo: false, anew: None };
            let timeout = S::terms(&activity).timeout;
            let what = match guarded(timeout, steps.call(&key, &activity)).await {
                Ok(Outcome::Answered { event, effect }) => What::Answered { event, effect },
                Ok(Outcome::NotDone(cause)) => What::NotDone(cause),
                Ok(Outcome::AnsweredNo(cause)) => What::AnsweredNo(cause),
                Ok(Outcome::Unknown(cause)) | Err(Lost::TimedOut(cause)) => What::Unknown(cause),
                Err(Lost::Panicked(cause)) => What::Panicked(cause),
            };
            (no, what)
        }
        Task::Probe { no, activity } => {
            let key = ActivityKey { saga_id, step_no: no, undo: false, anew: None };
            let terms = S::terms(&activity);
            let what = match terms.unknown {
                // It may be repeated; as nobody can be asked, an unwinding instance leaves it to the undo.
                WhenUnknown::Repeat => What::Dropped,
                WhenUnknown::Ask { .. } => {
                    match guarded(terms.timeout, steps.probe(&key, &activity)).await {
                        Ok(Probe::Answered { event, effect }) => What::Answered { event, effect },
                        Ok(Probe::NotHappened) => What::NeverSeen,
                        Ok(Probe::Unknown(cause)) | Err(Lost::TimedOut(cause)) => {
                            What::Unknown(cause)
                        }
                        Err(Lost::Panicked(cause)) => What::Panicked(cause),
                    }
                }
            };
            (no, what)
        }
        Task::UndoCall { no, anew, undo, reason } => {
            let key = ActivityKey { saga_id, step_no: no, undo: true, anew };
            let timeout = S::terms(&undo).timeout;
            let what = match guarded(
                timeout,
                steps.undo_call(&key, &undo, effect.as_ref(), &reason),
            )
            .await
            {
                Ok(Undone::Undone(reference)) => What::Undone(reference),
                Ok(Undone::Nothing) => What::NothingToUndo,
                Ok(Undone::NotDone(cause)) | Err(Lost::TimedOut(cause)) => What::NotUndone(cause),
                Err(Lost::Panicked(cause)) => What::UndoPanicked(cause),
                Ok(Undone::AnsweredNo(cause)) => What::AnsweredNotUndone(cause),
                Ok(Undone::Impossible(cause)) => What::CannotUndo(cause),
            };
            (no, what)
        }
        Task::Fire { no, event } => (no, What::Fired(event)),
        Task::Drop { no } => (no, What::Dropped),
        Task::Run | Task::UndoRun | Task::Join { .. } | Task::CallOff { .. } | Task::Park => {
            unreachable!("these are no activities")
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
