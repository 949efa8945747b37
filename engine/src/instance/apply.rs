//! Applies a fact to an instance. Pure, so that it can be done again on a newer row if a commit missed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    base::{json::json, status::Status},
    instance::{
        Entry, Instance, Pending,
        task::{Fact, What},
        unwind::{OpenUndo, Taken},
        waits::span,
    },
    record::{
        notice::Kind,
        words::{EffectStatus, JournalKind},
    },
    saga::{
        CalledOff, Done, Joined, Next, Saga, Signals, Then, Unexpected,
        steps::{Cause, Effect},
        table::{StepTable, WayBack},
        terms::Terms,
    },
};

/// How the driver continues after a fact was applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Commit it.
    Commit,
    /// Go on in memory; nothing has to be written yet.
    GoOn,
    /// Nothing: the instance does not wait for this fact any more.
    Moot,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
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
    /// The word in the journal.
    fn outcome(self) -> &'static str {
        match self {
            Self::NotDone => "not_done",
            Self::AnsweredNo => "answered_no",
            Self::Unknown | Self::Panicked => "unknown",
        }
    }

    /// The word in the journal for an undo.
    fn undo_outcome(self) -> &'static str {
        match self {
            Self::NotDone | Self::Unknown | Self::Panicked => "not_undone",
            Self::AnsweredNo => "answered_no",
        }
    }
}

/// Asks the saga. A panic of its code must not end the worker.
pub(crate) fn on<S: Saga>(state: S::State, event: S::Event) -> Result<Next<S>, String> {
    match catch_unwind(AssertUnwindSafe(|| S::on(state, event))) {
        Ok(next) => next.map_err(|unexpected: Unexpected| unexpected.to_string()),
        Err(_) => Err("the saga panicked in `on`".to_owned()),
    }
}

impl<S: Saga> Instance<S> {
    /// Does the instance still wait for this fact?
    fn awaits(&self, fact: &Fact<S::Event>) -> bool {
        let pending = match &self.pending {
            Pending::Call { no, .. }
            | Pending::Timer { no, .. }
            | Pending::Run { no, .. }
            | Pending::Children { no }
            | Pending::Event { no, .. } => Some(*no),
            Pending::Nothing => None,
        };
        match fact.what {
            What::Undone(_)
            | What::NothingToUndo
            | What::NotUndone(_)
            | What::AnsweredNotUndone(_)
            | What::UndoPanicked(_)
            | What::CannotUndo(_)
            | What::ChildrenCalledOff => {
                self.status == Status::Unwinding
                    && pending.is_none()
                    && self.next_undo().is_some_and(|open| open.no == fact.no)
            }
            _ => {
                pending == Some(fact.no)
                    && matches!(self.status, Status::Running | Status::Unwinding)
            }
        }
    }

    pub(crate) fn apply(&mut self, fact: &Fact<S::Event>) -> Applied {
        if !self.awaits(fact) {
            return Applied::Moot;
        }
        match &fact.what {
            What::Answered { event, effect } => self.answered(fact, event, effect),
            What::Fired(event) => {
                let again = matches!(self.pending, Pending::Event { .. });
                let mut entry =
                    Entry::new(if again { JournalKind::Event } else { JournalKind::Timer }, event);
                entry.step_no = Some(fact.no);
                self.clear_pending();
                self.react(entry, event.clone());
            }
            What::NotDone(cause) => self.failed(fact, Failure::NotDone, cause),
            What::AnsweredNo(cause) => self.failed(fact, Failure::AnsweredNo, cause),
            What::Unknown(cause) => self.failed(fact, Failure::Unknown, cause),
            What::Panicked(cause) => self.failed(fact, Failure::Panicked, cause),
            What::NeverSeen => return self.never_seen(fact),
            What::Dropped => {
                self.note(self.entry(JournalKind::Dropped, fact, &()));
                self.drop_call(fact.no);
            }
            What::Undone(reference) => {
                self.set_effect(fact.no, EffectStatus::Undone, reference.clone());
                self.undid(fact, reference);
            }
            What::NothingToUndo => {
                self.set_effect(fact.no, EffectStatus::Refuted, None);
                self.undid(fact, &None);
            }
            What::NotUndone(cause) => self.failed_undo(fact, Failure::NotDone, cause),
            What::AnsweredNotUndone(cause) => self.failed_undo(fact, Failure::AnsweredNo, cause),
            What::UndoPanicked(cause) => self.failed_undo(fact, Failure::Panicked, cause),
            What::Joined(ends) => self.joined(fact, ends),
            What::NotJoined => self.wait_for_children(fact.no),
            What::ChildrenCalledOff => {
                self.note(self.entry(JournalKind::ChildrenCalledOff, fact, &()));
                self.wait_for_children(fact.no);
            }
            What::CannotUndo(cause) => {
                self.note(self.entry(
                    JournalKind::Attempt,
                    fact,
                    &serde_json::json!({ "outcome": "cannot_undo", "error": cause.to_string() }),
                ));
                self.progress.attempt = self.progress.attempt.saturating_add(1);
                self.undo_failed(format!("step {} cannot be undone: {cause}", fact.no));
            }
        }
        Applied::Commit
    }

    fn entry(
        &self,
        kind: JournalKind,
        fact: &Fact<S::Event>,
        event: &impl serde::Serialize,
    ) -> Entry {
        Entry {
            kind,
            event: Some(json(event)),
            step_no: Some(fact.no),
            attempt: Some(self.progress.attempt + 1),
            started_at: Some(fact.started_at),
        }
    }

    fn answered(&mut self, fact: &Fact<S::Event>, event: &S::Event, effect: &Effect) {
        match effect {
            Effect::None => {}
            Effect::Confirmed(reference) => {
                self.set_effect(fact.no, EffectStatus::Confirmed, Some(reference.clone()))
            }
            Effect::Refuted => {
                self.set_effect(fact.no, EffectStatus::Refuted, None);
                self.forget_undo(fact.no);
            }
        }
        let pivot = *effect != Effect::Refuted && self.calls_pivot();
        if self.status == Status::Unwinding {
            // Unwinding was decided meanwhile, so the outcome changes the ledger only.
            self.note(self.entry(JournalKind::Settled, fact, event));
            if pivot {
                return self.leave_to_person("was done after unwinding had been decided");
            }
            self.clear_pending();
            self.end_if_nothing_is_open();
            return;
        }
        if pivot && let Err(forbidden) = self.pass_pivot() {
            self.note(self.entry(JournalKind::Outcome, fact, event));
            self.leave_to_person(&forbidden.to_string());
            self.pending = Pending::Event { no: self.seq, event: event.clone() };
            return;
        }
        let entry = self.entry(JournalKind::Outcome, fact, event);
        self.clear_pending();
        self.react(entry, event.clone());
    }

    /// Asks the saga and applies its decision, then the kept signals that the new state takes.
    pub(crate) fn react(&mut self, entry: Entry, event: S::Event) {
        if let Some(why) = self.unstorable.take() {
            self.note(entry);
            return self.cannot_take(event, why);
        }
        match on::<S>(self.state.clone(), event.clone()) {
            Ok(next) => match self.decide(entry, next) {
                Ok(()) => self.take_early(),
                Err(forbidden) => self.cannot_take(event, forbidden),
            },
            Err(why) => {
                self.note(entry);
                self.cannot_take(event, why);
            }
        }
    }

    /// Makes the instance stuck because the saga has a bug or its decision exceeds a limit. The event is kept; the saga gets it again after a repair.
    fn cannot_take(&mut self, event: S::Event, why: impl std::fmt::Display) {
        self.stick(why);
        self.pending = Pending::Event { no: self.seq, event };
    }

    /// Offers the kept signals in the order of their arrival, as live ones are offered ([`crate::Engine::signal`]): a state that waits takes
    /// whatever the saga takes, a busy one only what stays or unwinds. An instance that has ended or unwinds takes none.
    pub(crate) fn take_early(&mut self) {
        let mut at = 0;
        while at < self.early.len() && self.status == Status::Running && !self.progress.ended {
            let event = self.early[at].1.clone().event();
            match on::<S>(self.state.clone(), event.clone()) {
                Ok(next) if self.waits() || matches!(next.then, Then::Stay | Then::Unwind(_)) => {
                    if let Some((id, _)) = self.early.remove(at) {
                        self.taken.push(id);
                    }
                    self.progress.kept = i16::try_from(self.early.len()).unwrap_or(i16::MAX);
                    if let Err(forbidden) =
                        self.decide(Entry::new(JournalKind::Signal, &event), next)
                    {
                        self.cannot_take(event, forbidden);
                    }
                    at = 0;
                }
                Ok(_) | Err(_) => at += 1,
            }
        }
    }

    /// Offers the kept signals. Returns true if one was taken.
    pub(crate) fn offer_early(&mut self) -> bool {
        self.take_early();
        !self.taken.is_empty()
    }

    /// Does it wait for a signal or a timer?
    pub(crate) fn waits(&self) -> bool {
        matches!(self.pending, Pending::Nothing | Pending::Timer { .. })
    }

    fn calls_pivot(&self) -> bool {
        matches!(&self.pending, Pending::Call { step, .. } if step.way_back() == WayBack::Pivot)
    }

    fn may_have_passed_pivot(&self) -> bool {
        self.progress.unsettled && self.calls_pivot()
    }

    /// Leaves the pending pivot to an operator: it was done, or may have been, although the instance unwinds, and it has no undo.
    fn leave_to_person(&mut self, how: &str) {
        let Pending::Call { no, .. } = self.pending else { return };
        let why = format!("step {no}, which cannot be taken back, {how}");
        self.clear_pending();
        let undo = OpenUndo::new(no, Taken::Person);
        self.undos.push(OpenUndo { failed: Some(why.clone()), ..undo });
        self.stick(why);
    }

    /// Applies the end of the last child: the saga learns how the children ended; or, if the instance unwinds, they are taken back.
    fn joined(&mut self, fact: &Fact<S::Event>, ends: &Joined) {
        let entry = self.entry(JournalKind::Children, fact, ends);
        if self.status == Status::Unwinding {
            self.clear_pending();
            self.close_next_undo();
            self.note(entry);
            return self.end_if_nothing_is_open();
        }
        match S::joined(ends) {
            Some(event) => {
                self.clear_pending();
                self.react(entry, event);
            }
            None => {
                self.note(entry);
                self.stick("the saga does not say what happened when its children have ended");
            }
        }
    }

    fn undid(&mut self, fact: &Fact<S::Event>, reference: &Option<String>) {
        let entry = self.entry(JournalKind::Undo, fact, reference);
        self.close_next_undo();
        self.clear_pending();
        self.note(entry);
        self.end_if_nothing_is_open();
    }

    /// Counts a failed attempt and records it in the journal.
    fn failed_attempt(&mut self, fact: &Fact<S::Event>, outcome: &str, cause: &Cause) {
        let event = serde_json::json!({ "outcome": outcome, "error": cause.to_string() });
        self.note(self.entry(JournalKind::Attempt, fact, &event));
        self.progress.attempt = self.progress.attempt.saturating_add(1);
        self.progress.last_error = Some(cause.to_string());
    }

    /// Applies a failed attempt: by its terms the call is tried again, the provider is asked, or the step is given up.
    fn failed(&mut self, fact: &Fact<S::Event>, failure: Failure, cause: &Cause) {
        let Pending::Call { step, .. } = &self.pending else { return };
        let (terms, probes, what) = (step.terms(), step.has_probe(), format!("{step:?}"));
        self.failed_attempt(fact, failure.outcome(), cause);
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
    fn drop_call(&mut self, no: i32) {
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

    fn failed_undo(&mut self, fact: &Fact<S::Event>, failure: Failure, cause: &Cause) {
        let done = self.next_undo().and_then(OpenUndo::done);
        let terms = done.map_or_else(Terms::new, Done::undo_terms);
        self.failed_attempt(fact, failure.undo_outcome(), cause);
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

    fn never_seen(&mut self, fact: &Fact<S::Event>) -> Applied {
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
