//! Instances that belong together: a parent and its children, an instance and its successor.
//!
//! Children live on their parent's shard. Nothing of theirs is ever written into the parent's row: an ended child is known by its own
//! row (`ended_at`), and a parent that waits for the last of them ([`join_wait`](WAKE_JOINED)) is woken once. An ended child whose
//! parent may still take it back keeps its undos and waits on `parent`; it becomes final, in batches, once the parent lets go.

use crate::{
    base::status::Status,
    instance::{
        Entry, Instance, Pending,
        new_instance::before_first_step,
        unwind::{OpenUndo, Taken},
    },
    record::{
        commit::{NewInstance, Parent},
        notice::Kind,
        words::{EffectStatus, JournalKind},
    },
    saga::{
        CalledOff, Saga,
        child::{Child, Forbidden},
        start::Start,
    },
};

impl<S: Saga> Instance<S> {
    /// Starts children with the next commit, which also records how they are taken back.
    pub(crate) fn start_children(
        &mut self,
        no: i32,
        children: Vec<Child>,
    ) -> Result<(), Forbidden> {
        let binds = !self.progress.past_pivot;
        let parent = Parent { shard: self.shard, id: self.id, step_no: no, binds };
        for Child(start) in children {
            let mut child = start(parent)?;
            let because = &mut child.options.because;
            *because = because.take().or_else(|| self.progress.because.clone());
            self.family.new_instances.push(child);
        }
        if binds {
            self.undos.push(OpenUndo::new(no, Taken::Children));
        }
        self.family.joins = true;
        self.pending = Pending::Children { no };
        Ok(())
    }

    /// Ends the instance. A child whose parent may still take it back waits there.
    pub(crate) fn done(&mut self) {
        self.pending = Pending::Nothing;
        if self.progress.bound_to_parent && !self.undos.is_empty() {
            self.progress.ended = true;
        } else {
            self.status = Status::Completed;
            self.forget_undos();
        }
    }

    /// Lets the children go: nothing will be taken back any more.
    pub(crate) fn forget_undos(&mut self) {
        self.family.lets_go |= self.undos.iter().any(|open| matches!(open.taken, Taken::Children));
        self.undos.clear();
    }

    pub(crate) fn begin_anew(&mut self, input: S::Input) -> Result<(), Forbidden> {
        if !self.undos.is_empty() {
            return Err(Forbidden::AnewWithOpenUndos);
        }
        let mut start = Start::new(self.subject.clone(), input).key(self.start_key.clone());
        start.because.clone_from(&self.progress.because);
        let mut successor = before_first_step::<S>(self.shard, &start)?;
        successor.progress.bound_to_parent = self.progress.bound_to_parent;
        successor.progress.kept = self.progress.kept;
        if !successor.parks() {
            successor.make_due();
        }
        self.family.new_instances.push(NewInstance {
            name: S::NAME,
            commit: successor.commit(),
            options: start.options(),
            parent: None,
            owner: None,
        });
        self.family.succeeded = true;
        self.pending = Pending::Nothing;
        self.status = Status::Completed;
        Ok(())
    }
}

impl<S: Saga> Instance<S> {
    /// Parks until the last child of step `no` has ended.
    pub(crate) fn wait_for_children(&mut self, no: i32) {
        self.pending = Pending::Children { no };
        self.family.joins = true;
    }

    /// Unwinds the instance from outside. A call in flight is asked about first. `owned`: a worker may be making the call at this moment.
    pub(crate) fn call_off(&mut self, why: CalledOff<S::Step>, owned: bool) -> CallOff {
        // A child at its end is taken back by its parent only.
        let at_its_end = self.progress.ended && !matches!(why, CalledOff::ByParent);
        if self.status.is_final() || at_its_end {
            return CallOff::Ended;
        }
        if self.reason.is_some() {
            return CallOff::Begun;
        }
        if self.progress.past_pivot {
            if matches!(why, CalledOff::Deadline) {
                self.note(Entry::new(JournalKind::DeadlinePassed, &()));
                self.tell(Kind::Deadline, "its deadline passed after its pivot".to_owned());
            }
            return CallOff::PastPivot;
        }
        let entry = Entry::new(JournalKind::CalledOff, &why.text());
        self.drop_untried_call(owned);
        self.progress.ended = false;
        self.begin_unwinding(why.into());
        self.note(entry);
        if !owned && !self.parks() {
            self.make_due();
        }
        CallOff::Begun
    }

    /// No worker makes the pending call, and its last attempt surely did nothing: nobody has to be asked.
    pub(crate) fn drop_untried_call(&mut self, owned: bool) {
        if let Pending::Call { no, .. } = self.pending
            && !owned
            && !self.progress.unsettled
        {
            self.watch_call();
            self.forget_undo(no);
            self.set_effect(no, EffectStatus::Refuted, None);
            self.clear_pending();
        }
    }
}

/// The result of calling an instance off.
///
/// ```
/// # use stepwise_engine::*;
/// # async fn f(engine: &Engine, order: uuid::Uuid) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = engine.begin().await?;
/// let answer = match engine.cancel(&mut tx, order, "the customer has changed their mind").await? {
///     CallOff::Begun => "everything is being taken back",
///     CallOff::PastPivot => "it is too late: return the goods instead",
///     CallOff::Ended => "it has ended already",
/// };
/// tx.commit().await?;
/// # let _ = answer;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOff {
    /// It unwinds, now or already before.
    Begun,
    /// It is past its pivot: it only goes forward.
    PastPivot,
    /// It has ended.
    Ended,
}
