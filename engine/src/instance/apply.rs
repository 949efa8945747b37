//! Applies a fact to an instance. Pure, so that it can be done again on a newer row if a commit missed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    base::{json::json, status::Status},
    instance::{
        Entry, Instance, Pending,
        attempt::Failure,
        task::{Fact, What},
    },
    record::words::{EffectStatus, JournalKind},
    saga::{Joined, Next, Saga, Unexpected, steps::Effect},
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

    /// Applies the result of what a worker did: the outcome of an attempt or an undo, a timer that fired, children that ended. It says whether there
    /// is something to commit. A fact that the instance does not wait for any more changes nothing.
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
            What::NotJoined => {
                self.note(Entry::new(JournalKind::Released, &()));
                self.wait_for_children(fact.no);
            }
            What::ChildrenCalledOff => {
                self.note(self.entry(JournalKind::ChildrenCalledOff, fact, &()));
                self.wait_for_children(fact.no);
            }
            What::CannotUndo(cause) => self.cannot_undo(fact, cause),
        }
        Applied::Commit
    }

    /// An entry of the journal about a fact, as the next attempt.
    pub(super) fn entry(
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

    /// Applies the outcome of the pending call: the saga learns the event; or, if the instance unwinds, only the ledger changes.
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
                Ok(()) => self.take_kept(),
                Err(forbidden) => self.cannot_take(event, forbidden),
            },
            Err(why) => {
                self.note(entry);
                self.cannot_take(event, why);
            }
        }
    }

    /// Makes the instance stuck because the saga has a bug or its decision exceeds a limit. The event is kept; the saga gets it again after a repair.
    pub(super) fn cannot_take(&mut self, event: S::Event, why: impl std::fmt::Display) {
        self.stick(why);
        self.pending = Pending::Event { no: self.seq, event };
    }

    /// Does it wait for a signal or a timer?
    pub(crate) fn waits(&self) -> bool {
        matches!(self.pending, Pending::Nothing | Pending::Timer { .. })
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

    /// Closes the undo that has just been done.
    fn undid(&mut self, fact: &Fact<S::Event>, reference: &Option<String>) {
        let entry = self.entry(JournalKind::Undo, fact, reference);
        self.close_next_undo();
        self.clear_pending();
        self.note(entry);
        self.end_if_nothing_is_open();
    }
}
