//! The commit of everything that changed in an instance since its last one: the one place that decides what a transition writes.

use std::collections::VecDeque;

use crate::{
    base::{json::json, status::Status},
    instance::Instance,
    record::commit::{Commit, Wake},
    saga::Saga,
};

impl<S: Saga> Instance<S> {
    /// Makes the commit of all changes since the last one. The instance keeps its owner unless it parks.
    pub(crate) fn commit(&mut self) -> Commit {
        self.progress.ended |= self.status.is_final();
        let refuses_kept =
            self.progress.kept > 0 && self.takes_no_signals() && !self.family.succeeded;
        if refuses_kept {
            (self.progress.kept, self.kept) = (0, VecDeque::new());
        }
        Commit {
            shard: self.shard,
            id: self.id,
            epoch: self.epoch,
            seq: self.committed_seq,
            new_seq: self.seq,
            status: self.status,
            waiting_on: self.waiting_on(),
            state: json(&self.state),
            pending: json(&self.pending),
            undos: json(&self.undos),
            reason: self.reason.as_ref().map(json),
            progress: self.progress.clone(),
            wake: self.wake.clone(),
            release: self.parks(),
            version: S::VERSION as i16,
            family: self.family.is_needed().then(|| Box::new(std::mem::take(&mut self.family))),
            journal: std::mem::take(&mut self.journal),
            effect_change: self.effect_change.take(),
            undone: std::mem::take(&mut self.undone),
            taken: std::mem::take(&mut self.taken),
            refuses_kept,
            intent: self.intent.take(),
            tell: self.tell.take(),
            watch: self.watch.take(),
        }
    }

    /// Does it take no signal any more? Then the commit refuses the kept ones, unless a successor takes them over.
    fn takes_no_signals(&self) -> bool {
        self.progress.ended || self.status == Status::Unwinding || self.status.is_final()
    }

    /// Makes a commit that only adds to the journal: the owner and what the instance waits for stay as they are.
    pub(crate) fn commit_untouched(&mut self) -> Commit {
        self.wake = Wake::Keep;
        let mut commit = self.commit();
        commit.release = false;
        commit
    }

    /// Called when the commit is durable.
    pub(crate) fn committed(&mut self) {
        self.committed_seq = self.seq;
        self.missed = 0;
        self.wake = Wake::Never;
    }
}
