//! Failed attempts: a call or an undo is tried again, the provider is asked, or the step is given up. Pure.

use std::time::Duration;

use crate::{
    base::status::Status,
    instance::{Instance, Pending, apply::Applied, task::Fact, unwind::OpenUndo, waits::span},
    record::{
        notice::Kind,
        words::{AttemptOutcome, EffectStatus, JournalKind},
    },
    saga::{
        CalledOff, Done, Saga,
        steps::Cause,
        table::{StepTable, WayBack},
        terms::Terms,
    },
};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Surely nothing happened. The provider has not answered.
    NotDone,
    /// Surely nothing happened: the provider has answered so.
    AnsweredNo,
    /// It may have happened.
    Unknown,
    /// The author's code panicked; it may have happened.
    Panicked,
}

/// A step is given up after this many panics: the code is wrong, and trying again does not mend it.
const PANICS: i16 = 3;

impl Failure {
    /// The outcome of a step's attempt.
    fn outcome(self) -> AttemptOutcome {
        match self {
            Self::NotDone => AttemptOutcome::NotDone,
            Self::AnsweredNo => AttemptOutcome::AnsweredNo,
            Self::Unknown | Self::Panicked => AttemptOutcome::Unknown,
        }
    }

    /// The outcome of an undo's attempt.
    fn undo_outcome(self) -> AttemptOutcome {
        match self {
            Self::NotDone | Self::Unknown | Self::Panicked => AttemptOutcome::NotUndone,
            Self::AnsweredNo => AttemptOutcome::AnsweredNo,
        }
    }
}

/// A failed attempt, for the journal. An undo has the number of the step that it takes back, so the entry says that it was one.
pub(super) fn tried(outcome: AttemptOutcome, error: &str, is_undo: bool) -> serde_json::Value {
    let mut event = serde_json::json!({ "outcome": outcome.as_str(), "error": error });
    if is_undo {
        event["undo"] = true.into();
    }
    event
}

impl<S: Saga> Instance<S> {
    /// Counts a failed attempt and records it in the journal.
    fn failed_attempt(&mut self, fact: &Fact<S::Event>, tried: &serde_json::Value, cause: &Cause) {
        self.note(self.entry(JournalKind::Attempt, fact, tried));
        self.progress.attempt = self.progress.attempt.saturating_add(1);
        self.progress.last_error = Some(cause.to_string());
    }

    /// Applies a failed attempt: by its terms the call is tried again, the provider is asked, or the step is given up.
    pub(super) fn failed(&mut self, fact: &Fact<S::Event>, failure: Failure, cause: &Cause) {
        let Pending::Call { step, .. } = &self.pending else { return };
        let (terms, probes, what) = (step.terms(), step.has_probe(), format!("{step:?}"));
        self.failed_attempt(fact, &tried(failure.outcome(), &cause.to_string(), false), cause);
        // The provider is asked at least once about an attempt of unknown outcome, even after the deadline.
        let mut asks = false;
        if matches!(failure, Failure::Unknown | Failure::Panicked) {
            asks = failure == Failure::Unknown && !self.progress.unsettled && probes;
            self.progress.unsettled = true;
        } else if self.status == Status::Unwinding {
            // This attempt surely did nothing, and the instance unwinds: there is no other attempt.
            return self.drop_call(fact.no);
        }
        if self.may_try_on(&what, &terms, fact.failing, failure) || asks {
            self.try_again(&terms, fact.failing);
        } else {
            self.give_up();
        }
    }

    /// Do the step's terms allow another attempt? Tells operators if the step has been failing for long.
    fn may_try_on(
        &mut self,
        what: &str,
        terms: &Terms,
        failing: Duration,
        failure: Failure,
    ) -> bool {
        let enough = match failure {
            Failure::AnsweredNo => terms.enough,
            Failure::Panicked => Some(PANICS.cast_unsigned()),
            Failure::NotDone | Failure::Unknown => None,
        };
        if matches!(failure, Failure::AnsweredNo | Failure::Panicked) {
            self.progress.answers = self.progress.answers.saturating_add(1);
        }
        if enough.is_some_and(|enough| self.progress.answers.cast_unsigned() >= enough)
            || failing >= terms.within
        {
            return false;
        }
        if failing >= terms.slow_after {
            self.tell_slow(what, failing);
        }
        true
    }

    /// Plans the next attempt: at the step's deadline at the latest, when it is known whether the step is given up.
    fn try_again(&mut self, terms: &Terms, failing: Duration) {
        let delay = terms.retry.delay(self.progress.attempt);
        let left = terms.within.saturating_sub(failing);
        self.retry_after(if left.is_zero() { delay } else { delay.min(left) });
    }

    /// Tells operators, once for each step, that it takes long. Trying goes on.
    pub(crate) fn tell_slow(&mut self, what: &str, failing: Duration) {
        if !std::mem::replace(&mut self.progress.slow, true) {
            let last = self.progress.last_error.clone().unwrap_or_default();
            self.tell(Kind::Slow, format!("{what} has been failing for {}: {last}", span(failing)));
        }
    }

    /// Drops the pending call, because the instance unwinds. Its undo stays open if an earlier attempt may have had its effect: a later attempt that
    /// surely did nothing says nothing about the earlier one.
    pub(super) fn drop_call(&mut self, no: i32) {
        if self.may_have_passed_pivot() {
            return self.leave_to_person("may have been done before unwinding was decided");
        }
        self.watch_call();
        if !self.progress.unsettled {
            self.set_effect(no, EffectStatus::Refuted, None);
            self.forget_undo(no);
        }
        self.clear_pending();
        self.end_if_nothing_is_open();
    }

    /// Removes the undo of the pending call, the last one recorded, because the call has surely done nothing. (In rows of earlier releases a step of
    /// the caller has the number of the first step. Its undo stays.)
    pub(crate) fn forget_undo(&mut self, no: i32) {
        let has_one = matches!(&self.pending, Pending::Call { step, .. }
            if matches!(step.way_back(), WayBack::InTx(_) | WayBack::ByCall(_)));
        if has_one && self.undos.last().is_some_and(|open| open.no == no) {
            self.undos.pop();
        }
    }

    /// Applies a failed undo: by its terms it is tried again, or it is set aside for an operator.
    pub(super) fn failed_undo(&mut self, fact: &Fact<S::Event>, failure: Failure, cause: &Cause) {
        let done = self.next_undo().and_then(OpenUndo::done);
        let terms = done.map_or_else(Terms::new, Done::undo_terms);
        self.failed_attempt(fact, &tried(failure.undo_outcome(), &cause.to_string(), true), cause);
        let what = format!("the undo of step {}", fact.no);
        if self.may_try_on(&what, &terms, fact.failing, failure) {
            self.try_again(&terms, fact.failing);
        } else {
            let (tried, took) = (self.progress.attempt, span(fact.failing));
            self.undo_failed(format!("{what} failed {tried} times in {took}: {cause}"));
        }
    }

    /// Gives the pending call up: there is no further attempt. Before the pivot the instance unwinds, and the possible effect of this step is taken
    /// back too. After the pivot it gets stuck. If the step is the pivot and may have been done, it gets stuck as well, and an operator finds out.
    fn give_up(&mut self) {
        let Pending::Call { step, .. } = &self.pending else { return };
        if self.progress.past_pivot {
            let last = self.progress.last_error.clone().unwrap_or_default();
            return self.stick(format!(
                "{step:?} could not be done and nothing can be taken back: {last}"
            ));
        }
        if self.may_have_passed_pivot() {
            if self.status == Status::Unwinding {
                return self.leave_to_person("may have been done before unwinding was decided");
            }
            let last = self.progress.last_error.clone().unwrap_or_default();
            return self.stick(format!(
                "{step:?} may have been done and cannot be taken back, and the provider could not be asked: {last}"
            ));
        }
        let reason = CalledOff::GaveUp(step.clone()).into();
        self.watch_call();
        self.clear_pending();
        if self.status == Status::Running {
            self.begin_unwinding(reason);
        } else {
            self.end_if_nothing_is_open();
        }
    }

    /// Sets an undo aside for an operator because the provider has answered that it can never be done.
    pub(super) fn cannot_undo(&mut self, fact: &Fact<S::Event>, cause: &Cause) {
        let tried = tried(AttemptOutcome::CannotUndo, &cause.to_string(), true);
        self.note(self.entry(JournalKind::Attempt, fact, &tried));
        self.progress.attempt = self.progress.attempt.saturating_add(1);
        self.undo_failed(format!("step {} cannot be undone: {cause}", fact.no));
    }

    /// Applies the answer of a probe that the provider has not acted: the call is made again, or it is given up. If its effect may still come, the
    /// provider is asked once more first.
    pub(super) fn never_seen(&mut self, fact: &Fact<S::Event>) -> Applied {
        let Pending::Call { step, .. } = &self.pending else { return Applied::Moot };
        let terms = step.terms();
        let settles_after = terms.settles_after;
        if !settles_after.is_zero() && !self.progress.timer_due {
            self.note(self.entry(
                JournalKind::Probe,
                fact,
                &"never seen, a late effect may still come",
            ));
            self.settle_after(settles_after);
            return Applied::Commit;
        }
        self.progress.unsettled = false;
        self.progress.timer_due = false;
        if self.status == Status::Running && fact.failing >= terms.within {
            self.note(self.entry(JournalKind::Probe, fact, &"never seen, too late to try again"));
            self.give_up();
            return Applied::Commit;
        }
        if self.status == Status::Running {
            // The same call is made again, under the same key.
            return Applied::GoOn;
        }
        self.progress.attempt = self.progress.attempt.saturating_add(1);
        self.watch_call();
        self.set_effect(fact.no, EffectStatus::Refuted, None);
        self.forget_undo(fact.no);
        self.note(self.entry(JournalKind::Probe, fact, &"never seen"));
        self.clear_pending();
        self.end_if_nothing_is_open();
        Applied::Commit
    }
}
