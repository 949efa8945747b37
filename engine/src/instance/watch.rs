//! Effects that may come after the instance has given up on them.

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
    /// The pending activity is given up after a try: if its provider may still act under our key, somebody is to look.
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

    /// What was believed not to exist does: it is taken back.
    pub(crate) fn reopen(&mut self, no: i32, done: Done<S::Step>, reference: Option<String>) {
        let mut entry = Entry::new(JournalKind::LateEffect, &reference);
        entry.step_no = Some(no);
        self.settle(no, EffectStatus::Confirmed, reference);
        (self.status, self.progress.ended) = (Status::Unwinding, false);
        self.note(entry);
        // A key of its own: under the one of an undo that found nothing a provider would say so again.
        let (undo, anew) = (OpenUndo::new(no, Taken::Done(done)), Some(self.seq));
        self.undos.push(OpenUndo { effect: undo.how() == How::InTx, anew, ..undo });
        self.release();
    }
}
