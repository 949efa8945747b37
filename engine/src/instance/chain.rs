//! The changes that a chain of tx steps or tx undos makes to an instance. Pure.

use std::time::Duration;

use crate::{
    instance::{
        Entry, Instance, Pending, apply::on, attempt::tried, task::Task, unwind::OpenUndo,
        waits::span,
    },
    record::{
        notice::Kind,
        words::{AttemptOutcome, JournalKind},
    },
    saga::{
        Done, Saga,
        steps::{Cause, StepError},
        terms::Terms,
    },
};

/// The number of errors that do not pass by themselves after which a chain gets its instance stuck, however long it has been failing.
const LASTING: i16 = 5;

impl<S: Saga> Instance<S> {
    /// Applies a tx step that has run: its undo is recorded, and the saga is asked what follows.
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
        self.clear_pending();
        let mut entry = Entry::new(JournalKind::Tx, &event);
        entry.step_no = Some(no);
        let next = on::<S>(self.state.clone(), event).map_err(StepError::Broken)?;
        self.decide(entry, next).map_err(|forbidden| StepError::Broken(forbidden.to_string()))?;
        self.take_kept();
        Ok(())
    }

    /// Applies a tx undo that has run.
    pub(crate) fn unstepped(&mut self, open: &OpenUndo<S>) {
        if open.effect {
            self.undone.push(open.no);
        }
        self.close_next_undo();
        let mut entry = Entry::of(JournalKind::Undo, open.shown());
        entry.step_no = Some(open.no);
        self.clear_pending();
        self.note(entry);
    }
}

impl<S: Saga> Instance<S> {
    /// The pending chain (or that of tx undos, which got as far as `left`) is tried again after `delay`:
    /// - for [`Terms::WITHIN`] where the error passes by itself, and operators are told once that it takes long;
    /// - for [`StepError::PATIENCE`] where it does not, and operators are told once, at the first such error. The time runs from the first failure
    ///   of any kind, so the error must also have come [`LASTING`] times: a deploy that follows an outage has its minutes, too.
    ///
    /// Then a person is needed. The instance stands where its last commit has left it, with the error's words.
    pub(crate) fn chain_failed(&mut self, left: &Self, error: &StepError, delay: Duration) {
        let cause = Cause::new(error).to_string();
        self.note_failed_try(&cause);
        self.progress.attempt = self.progress.attempt.saturating_add(1);
        self.progress.last_error = Some(cause.clone());
        let failing = self.failing_for();
        let mut within = Terms::WITHIN;
        if !error.is_worth_retrying() {
            self.progress.answers = self.progress.answers.saturating_add(1);
            within = if self.progress.answers < LASTING { within } else { StepError::PATIENCE };
            if self.progress.answers == 1 {
                let patience = span(StepError::PATIENCE);
                self.tell(Kind::Failing, format!("it is tried for {patience}: {cause}"));
            }
        }
        if failing < within {
            if failing >= Terms::SLOW_AFTER {
                self.tell_slow("a chain of tx steps", failing);
            }
            return self.retry_after(delay.min(within - failing));
        }
        let why = format!("a chain of tx steps failed for {}: {cause}", span(failing));
        match self.task() {
            Task::UndoRun => self.chain_undo_failed(left, why),
            _ => self.stick(why),
        }
    }

    /// Records that the pending chain was tried in vain. The entry names the step, or the undo, with which the chain begins.
    pub(crate) fn note_failed_try(&mut self, error: &str) {
        let (step_no, is_undo) = match &self.pending {
            Pending::Run { no, .. } => (Some(*no), false),
            _ => (self.next_undo().map(|open| open.no), true),
        };
        let tried = tried(AttemptOutcome::NotDone, error, is_undo);
        let attempt = Some(self.progress.attempt.saturating_add(1));
        self.note(Entry { step_no, attempt, ..Entry::new(JournalKind::Attempt, &tried) });
    }
}
