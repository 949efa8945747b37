//! The next task of an instance, and the facts that result from tasks. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    base::status::Status,
    instance::{
        Instance, Pending,
        unwind::{How, OpenUndo},
    },
    saga::{
        Joined, Saga,
        steps::{Cause, Effect, Key, Undoing},
        table::StepTable,
    },
};

impl<S: Saga> OpenUndo<S> {
    /// The arguments of the undo.
    pub(crate) fn undoing(
        &self,
        saga_id: Uuid,
        reference: Option<String>,
        reason: S::Reason,
    ) -> Undoing<S::Reason> {
        Undoing {
            key: Key::of_undo(saga_id, self.no, self.replaced_by),
            step_key: Key::of_step(saga_id, self.no),
            reference,
            reason,
        }
    }
}

/// The next task of an instance.
pub(crate) enum Task<S: Saga> {
    /// Run the pending tx step in a transaction.
    Run,
    /// Try the pending call.
    Call { no: i32, step: S::Step },
    /// Ask the provider about the pending call.
    Probe { no: i32, step: S::Step },
    /// Forget the pending call: it was surely not done, and the instance unwinds.
    Drop { no: i32 },
    /// Give the saga the event of the pending timer, or an event that it could not take before.
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
            (Status::Running, Pending::Call { no, step })
                if self.progress.unsettled && step.has_probe() =>
            {
                Task::Probe { no: *no, step: step.clone() }
            }
            (Status::Running, Pending::Call { no, step }) => {
                Task::Call { no: *no, step: step.clone() }
            }
            (Status::Running, Pending::Timer { no, event }) if self.progress.timer_due => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Running, Pending::Event { no, event }) => {
                Task::Fire { no: *no, event: event.clone() }
            }
            (Status::Unwinding, Pending::Call { no, step }) if self.progress.unsettled => {
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

/// A fact: the result of the one thing that a worker did. It can be applied to the row again if the commit missed.
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
    /// The author's code panicked: the call may have had its effect.
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
    /// Some children are still open.
    NotJoined,
    ChildrenCalledOff,
}
