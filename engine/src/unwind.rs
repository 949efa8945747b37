//! The way back: recorded before a step runs, done last first; what cannot be done is a person's.

use serde::{Deserialize, Serialize};

use crate::{
    commit::Intent,
    instance::{Forbidden, Instance, Pending},
    saga::{Rest, Saga, Step, Undo},
    status::Status,
};

/// How a step is taken back.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub(crate) enum WayBack<S: Saga> {
    Tx(S::Tx),
    Activity(S::Activity),
    /// The children that it started are called off.
    Children,
    /// It was not to be done any more, and was: a person takes it back, and says so.
    Person,
}

/// An undo recorded before its step ran.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct OpenUndo<S: Saga> {
    /// The step it takes back.
    pub(crate) no: i32,
    pub(crate) by: WayBack<S>,
    /// The step declared an effect, and its way back is a tx step: who does that tells the ledger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) effect: bool,
    /// Why it could not be done. It is set aside for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
    /// The commit by which a person decided it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) anew: Option<i32>,
}

impl<S: Saga> OpenUndo<S> {
    pub(crate) fn new(no: i32, by: impl Into<WayBack<S>>) -> Self {
        Self { no, by: by.into(), effect: false, failed: None, anew: None }
    }
}

impl<S: Saga> Clone for WayBack<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Tx(step) => Self::Tx(step.clone()),
            Self::Activity(activity) => Self::Activity(activity.clone()),
            Self::Children => Self::Children,
            Self::Person => Self::Person,
        }
    }
}

impl<S: Saga> From<Step<S>> for WayBack<S> {
    fn from(step: Step<S>) -> Self {
        match step {
            Step::Tx(step) => Self::Tx(step),
            Step::Activity(activity) => Self::Activity(activity),
        }
    }
}

impl<S: Saga> Clone for OpenUndo<S> {
    fn clone(&self) -> Self {
        Self {
            no: self.no,
            by: self.by.clone(),
            effect: self.effect,
            failed: self.failed.clone(),
            anew: self.anew,
        }
    }
}

impl<S: Saga> Instance<S> {
    /// Records the way back of a tx step that has run.
    pub(crate) fn ran(&mut self, no: i32, step: &Step<S>) -> Result<(), Forbidden> {
        match S::undo(step) {
            Undo::By(by) => self.undos.push(OpenUndo::new(no, by)),
            Undo::Nothing => {}
            Undo::Pivot => self.pass_pivot()?,
        }
        Ok(())
    }

    /// Records the way back of an activity that is about to be called, and the effect that it may have.
    pub(crate) fn intend(&mut self, no: i32, activity: &S::Activity) {
        let effect = S::terms(activity).effect;
        // An activity pivot is passed by its confirmed outcome, not by being decided.
        if let Undo::By(by) = S::undo(&Step::Activity(activity.clone())) {
            let undo = OpenUndo::new(no, by);
            let effect = effect.is_some() && matches!(undo.by, WayBack::Tx(_));
            self.undos.push(OpenUndo { effect, ..undo });
        }
        if let Some(effect) = effect {
            self.intent = Some(Intent { step_no: no, kind: effect.kind, amount: effect.amount });
        }
    }

    /// After this nothing is taken back any more.
    pub(crate) fn pass_pivot(&mut self) -> Result<(), Forbidden> {
        if self.held {
            return Err(Forbidden::PivotOfHeldChild);
        }
        self.past_pivot = true;
        self.forget_undos();
        Ok(())
    }

    /// From here on only undos run; with none open this is the end. An activity that is still pending is settled first.
    pub(crate) fn begin_unwinding(&mut self, reason: S::Reason) {
        if !matches!(self.pending, Pending::Call { .. }) {
            self.settled();
        }
        self.reason = Some(reason);
        self.status = if self.undos.is_empty() && matches!(self.pending, Pending::Nothing) {
            Status::Unwound
        } else {
            Status::Unwinding
        };
    }

    /// The last open undo that was not set aside.
    pub(crate) fn next_undo(&self) -> Option<&OpenUndo<S>> {
        self.undos.iter().rev().find(|open| open.failed.is_none())
    }

    fn next_undo_at(&self) -> Option<usize> {
        self.undos.iter().rposition(|open| open.failed.is_none())
    }

    /// That undo is not open any more.
    pub(crate) fn close_next_undo(&mut self) {
        if let Some(at) = self.next_undo_at() {
            self.undos.remove(at);
        }
    }

    /// The last undo ends the instance; with some set aside it needs a person.
    pub(crate) fn end_if_nothing_is_open(&mut self) {
        if self.status != Status::Unwinding
            || self.next_undo().is_some()
            || !matches!(self.pending, Pending::Nothing)
        {
            return;
        }
        match self.undos.iter().find_map(|open| open.failed.clone()) {
            None => self.status = Status::Unwound,
            Some(why) if self.undos.len() == 1 => self.stick(why),
            Some(why) => self.stick(format_args!("{} undos failed: {why}", self.undos.len())),
        }
    }

    /// The next undo cannot be done.
    pub(crate) fn undo_failed(&mut self, why: String) {
        if let Some(at) = self.next_undo_at() {
            self.set_aside(at, why);
        }
    }

    /// A step of a chain of tx undos cannot be done, and nothing of the chain remains. `left`: how the chain left the undos.
    pub(crate) fn chain_undo_failed(&mut self, left: &Self, why: String) {
        let (mine, failed) = (self.next_undo_at(), left.next_undo_at());
        match (mine, failed) {
            // What the chain has done before stood behind it.
            (Some(mine), Some(failed)) if failed <= mine => self.set_aside(failed, why),
            _ => self.stick(why),
        }
    }

    /// It waits for a person; the others wait with it or go on, as the saga says.
    fn set_aside(&mut self, at: usize, why: String) {
        let open = &mut self.undos[at];
        open.failed = Some(why.clone());
        let rest = match &open.by {
            WayBack::Tx(step) => S::on_failed_undo(&Step::Tx(step.clone())),
            WayBack::Activity(activity) => S::on_failed_undo(&Step::Activity(activity.clone())),
            WayBack::Children | WayBack::Person => Rest::Waits,
        };
        match rest {
            Rest::Waits => self.stick(why),
            Rest::GoesOn => {
                self.settled();
                self.end_if_nothing_is_open();
            }
        }
    }
}
