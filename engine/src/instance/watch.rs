//! Effects that may come after their instance has given them up.

use crate::{
    base::{json::json, limits, status::Status},
    instance::{
        Entry, Instance, Pending,
        unwind::{How, OpenUndo, Taken},
    },
    record::{
        watch::NewWatch,
        words::{EffectStatus, JournalKind},
    },
    saga::{
        Done, Saga,
        table::{StepTable, WayBack},
    },
};

impl<S: Saga> Instance<S> {
    /// Sets a watch on the pending call, which is given up after a try, if its provider may still act under our key.
    pub(crate) fn watch_call(&mut self) {
        if let Pending::Call { no, step } = &self.pending
            && (self.progress.attempt > 0 || self.progress.unsettled)
            && let Some(lasts) = step.terms().watch
            && matches!(step.way_back(), WayBack::InTx(_) | WayBack::ByCall(_))
        {
            self.watch =
                Some(NewWatch { step_no: *no, step: json(step), lasts_ms: limits::ms(lasts) });
        }
    }

    /// Opens the undo of an effect that was found although it had been given up.
    pub(crate) fn reopen(&mut self, no: i32, done: Done<S::Step>, reference: Option<String>) {
        let mut entry = Entry::new(JournalKind::LateEffect, &reference);
        entry.step_no = Some(no);
        self.set_effect(no, EffectStatus::Confirmed, reference);
        (self.status, self.progress.ended) = (Status::Unwinding, false);
        self.note(entry);
        // The undo gets a key of its own: under the key of an undo that found nothing, the provider would give the same answer.
        let (undo, replaced_by) = (OpenUndo::new(no, Taken::Done(done)), Some(self.seq));
        self.undos.push(OpenUndo { effect: undo.how() == How::InTx, replaced_by, ..undo });
        self.make_due();
    }
}
