//! Undos: recorded before their steps run, done in reverse order. An undo that cannot be done waits for an operator.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    base::{
        json::{Json, json},
        status::Status,
    },
    instance::{Instance, Pending},
    record::{commit::Intent, words::EffectStatus},
    saga::{
        CallerStep, Done, Rest, Saga,
        child::Forbidden,
        table::{Kind, StepTable, WayBack},
    },
};

#[cfg(test)]
#[expect(clippy::allow_attributes, reason = "a macro of this crate is meant for others")]
mod tests;

/// The step, or the children, that an open undo takes back.
pub(crate) enum Taken<S: Saga> {
    /// A step. The method that takes it back stands in its table.
    Done(Done<S::Step>),
    /// The children that a step started. They are called off.
    Children,
    /// A step that was done although it should not have been, and that has no undo. An operator takes it back and says so.
    Person,
}

/// How an open undo is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// In a transaction.
    InTx,
    /// By a call.
    Outside,
    /// The children are called off.
    Children,
    /// By a person.
    Person,
}

/// An undo recorded before its step ran.
pub(crate) struct OpenUndo<S: Saga> {
    /// The number of the step that it takes back.
    pub(crate) no: i32,
    pub(crate) taken: Taken<S>,
    /// The step declared an effect and is taken back in a transaction. That transaction also changes the ledger.
    pub(crate) effect: bool,
    /// Why it could not be done. It is set aside for an operator.
    pub(crate) failed: Option<String>,
    /// The commit by which an operator replaced it. It makes the key of the undo another one.
    pub(crate) replaced_by: Option<i32>,
}

impl<S: Saga> OpenUndo<S> {
    pub(crate) fn new(no: i32, taken: Taken<S>) -> Self {
        Self { no, taken, effect: false, failed: None, replaced_by: None }
    }

    /// The step that is taken back, if it is a step.
    pub(crate) fn done(&self) -> Option<&Done<S::Step>> {
        match &self.taken {
            Taken::Done(done) => Some(done),
            Taken::Children | Taken::Person => None,
        }
    }

    /// How the code takes it back today.
    pub(crate) fn how(&self) -> How {
        self.taken.how()
    }

    /// It was set aside for an operator, and the undos of earlier steps wait for it.
    fn holds_back(&self) -> bool {
        self.failed.is_some() && self.done().map_or(Rest::Waits, S::on_failed_undo) == Rest::Waits
    }

    /// The method, and the step that it takes back, as text for operators.
    pub(crate) fn told(&self) -> String {
        match &self.taken {
            Taken::Done(done @ Done::Step(step)) => format!("{} {step:?}", done.undo_name()),
            Taken::Done(done @ Done::Caller(step)) => format!("{} {step:?}", done.undo_name()),
            Taken::Children => "its children".to_owned(),
            Taken::Person => "by a person".to_owned(),
        }
    }

    /// The same as JSON for the journal.
    pub(crate) fn shown(&self) -> Json {
        self.taken.shown()
    }
}

impl<S: Saga> Taken<S> {
    fn how(&self) -> How {
        match self {
            Self::Done(done) => match done.way_back() {
                WayBack::InTx(_) => How::InTx,
                WayBack::ByCall(_) => How::Outside,
                // Reading a row refuses these: see `Stored`.
                WayBack::Nothing | WayBack::Pivot => How::Person,
            },
            Self::Children => How::Children,
            Self::Person => How::Person,
        }
    }

    fn shown(&self) -> Json {
        match self {
            Self::Done(done) => {
                let step = match done {
                    Done::Step(step) => json(step),
                    Done::Caller(step) => json(step),
                };
                step.under(done.undo_name())
            }
            Self::Children => Json::literal("\"children\""),
            Self::Person => Json::literal("\"person\""),
        }
    }
}

impl<S: Saga> Clone for Taken<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Done(done) => Self::Done(done.clone()),
            Self::Children => Self::Children,
            Self::Person => Self::Person,
        }
    }
}

impl<S: Saga> Clone for OpenUndo<S> {
    fn clone(&self) -> Self {
        Self {
            no: self.no,
            taken: self.taken.clone(),
            effect: self.effect,
            failed: self.failed.clone(),
            replaced_by: self.replaced_by,
        }
    }
}

/// An open undo in the row of its instance: `{"no":2,"step":{"Hold":"ada"},"back":"in_tx"}`, or `caller` in place of `step`.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "T: Serialize, C: Serialize",
    deserialize = "T: Deserialize<'de>, C: Deserialize<'de>"
))]
struct Stored<T, C> {
    no: i32,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    step: Option<T>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    caller: Option<C>,
    /// How the step was taken back when it was decided. Only the declaration in the code of today counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<How>,
    /// Written by earlier releases, which recorded the undo instead of the step. Their undos are steps of the caller's block.
    #[serde(default = "none", skip_serializing)]
    by: Option<RecordedUndo<C>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    effect: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anew: Option<i32>,
}

fn none<T>() -> Option<T> {
    None
}

/// An undo as it was recorded before the row told which step it takes back.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedUndo<C> {
    Tx(C),
    Activity(C),
    Children,
    Person,
}

impl<S: Saga> Serialize for OpenUndo<S> {
    fn serialize<W: Serializer>(&self, to: W) -> Result<W::Ok, W::Error> {
        let (step, caller) = match &self.taken {
            Taken::Done(Done::Step(step)) => (Some(step), None),
            Taken::Done(Done::Caller(step)) => (None, Some(step)),
            Taken::Children | Taken::Person => (None, None),
        };
        let stored = Stored {
            no: self.no,
            step,
            caller,
            back: Some(self.how()),
            by: None,
            effect: self.effect,
            failed: self.failed.clone(),
            anew: self.replaced_by,
        };
        stored.serialize(to)
    }
}

impl<'de, S: Saga> Deserialize<'de> for OpenUndo<S> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let stored = Stored::<S::Step, CallerStep<S>>::deserialize(from)?;
        let taken = match (stored.step, stored.caller, stored.by, stored.back) {
            (Some(step), None, None, _) => Taken::Done(Done::Step(step)),
            (None, Some(step), None, _) => Taken::Done(Done::Caller(step)),
            (None, None, Some(RecordedUndo::Tx(undo) | RecordedUndo::Activity(undo)), _) => {
                Taken::Done(Done::Caller(undo))
            }
            (None, None, Some(RecordedUndo::Children), _)
            | (None, None, None, Some(How::Children)) => Taken::Children,
            (None, None, Some(RecordedUndo::Person), _) | (None, None, None, Some(How::Person)) => {
                Taken::Person
            }
            _ => {
                return Err(D::Error::custom(format_args!(
                    "undo {}: it does not say what it takes back",
                    stored.no
                )));
            }
        };
        if let Taken::Done(done) = &taken
            && matches!(done.way_back(), WayBack::Nothing | WayBack::Pivot)
        {
            let why =
                format_args!("{done:?} was to be taken back, and this version has no undo of it");
            return Err(D::Error::custom(why));
        }
        let Stored { no, effect, failed, anew, .. } = stored;
        Ok(Self { no, taken, effect, failed, replaced_by: anew })
    }
}

impl<S: Saga> Instance<S> {
    /// Records how a tx step that has run, or a step of the caller, is taken back.
    pub(crate) fn ran(&mut self, no: i32, done: Done<S::Step>) -> Result<(), Forbidden> {
        match done.way_back() {
            WayBack::InTx(_) | WayBack::ByCall(_) => {
                self.undos.push(OpenUndo::new(no, Taken::Done(done)));
            }
            WayBack::Nothing => {}
            WayBack::Pivot => self.pass_pivot()?,
        }
        Ok(())
    }

    /// Records how a call that is about to be made is taken back, and the effect that it may have.
    pub(crate) fn intend(&mut self, no: i32, step: &S::Step) {
        let effect = step.terms().effect;
        // A call is a passed pivot when its outcome is confirmed, not when it is decided.
        let in_tx = match step.way_back() {
            WayBack::InTx(_) => Some(true),
            WayBack::ByCall(_) => Some(false),
            WayBack::Nothing | WayBack::Pivot => None,
        };
        if let Some(in_tx) = in_tx {
            let undo = OpenUndo::new(no, Taken::Done(Done::Step(step.clone())));
            self.undos.push(OpenUndo { effect: in_tx && effect.is_some(), ..undo });
        }
        if let Some(effect) = effect {
            self.intent = Some(Intent { step_no: no, kind: effect.kind, amount: effect.amount });
        }
    }

    /// Makes this step the pending one, and returns the word for it in the journal.
    pub(crate) fn await_step(&mut self, no: i32, step: S::Step) -> &'static str {
        match step.kind() {
            Kind::Tx => {
                self.pending = Pending::Run { no, step };
                "run"
            }
            Kind::Call => {
                self.intend(no, &step);
                self.pending = Pending::Call { no, step };
                "call"
            }
        }
    }

    /// The reference that the next commit gives to the effect of this step.
    pub(crate) fn new_reference(&self, no: i32) -> Option<&String> {
        let change = self.effect_change.as_ref().filter(|change| change.step_no == no)?;
        change.reference.as_ref().filter(|_| change.status == EffectStatus::Confirmed)
    }

    /// Passes the pivot: from now on nothing is taken back.
    pub(crate) fn pass_pivot(&mut self) -> Result<(), Forbidden> {
        if self.progress.bound_to_parent {
            return Err(Forbidden::PivotOfBoundChild);
        }
        self.progress.past_pivot = true;
        self.forget_undos();
        Ok(())
    }

    /// Is the pending step the pivot, and a call?
    pub(super) fn calls_pivot(&self) -> bool {
        matches!(&self.pending, Pending::Call { step, .. } if step.way_back() == WayBack::Pivot)
    }

    /// Is the pending step the pivot, and may an attempt have done it?
    pub(super) fn may_have_passed_pivot(&self) -> bool {
        self.progress.unsettled && self.calls_pivot()
    }

    /// Leaves the pending pivot to an operator: it was done, or may have been, although the instance unwinds, and it has no undo.
    pub(super) fn leave_to_person(&mut self, how: &str) {
        let Pending::Call { no, .. } = self.pending else { return };
        let why = format!("step {no}, which cannot be taken back, {how}");
        self.clear_pending();
        let undo = OpenUndo::new(no, Taken::Person);
        self.undos.push(OpenUndo { failed: Some(why.clone()), ..undo });
        self.stick(why);
    }

    /// Begins to unwind: from now on only undos run. If none is open, the instance has ended. A call that is still pending is asked about first.
    pub(crate) fn begin_unwinding(&mut self, reason: S::Reason) {
        if !matches!(self.pending, Pending::Call { .. }) {
            self.clear_pending();
        }
        self.reason = Some(reason);
        self.status = if self.undos.is_empty() && matches!(self.pending, Pending::Nothing) {
            Status::Unwound
        } else {
            Status::Unwinding
        };
    }

    /// The next undo to run: the last open one that was not set aside. `None` if there is none, or if the earlier ones wait for one that was set
    /// aside.
    pub(crate) fn next_undo(&self) -> Option<&OpenUndo<S>> {
        self.undos_to_run().next()
    }

    fn next_undo_at(&self) -> Option<usize> {
        let next = self.next_undo()?.no;
        self.undos.iter().rposition(|open| open.no == next && open.failed.is_none())
    }

    /// The open undos that run by themselves, the next one first.
    pub(crate) fn undos_to_run(&self) -> impl Iterator<Item = &OpenUndo<S>> {
        let runs = self.undos.iter().rev().take_while(|open| !open.holds_back());
        runs.filter(|open| open.failed.is_none())
    }

    /// Removes the undo that has just been done.
    pub(crate) fn close_next_undo(&mut self) {
        if let Some(at) = self.next_undo_at() {
            self.undos.remove(at);
        }
    }

    /// Ends the instance if its last undo is done. If some undos were set aside, the instance gets stuck.
    pub(crate) fn end_if_nothing_is_open(&mut self) {
        if self.status != Status::Unwinding
            || self.next_undo().is_some()
            || !matches!(self.pending, Pending::Nothing)
        {
            return;
        }
        let failed = || self.undos.iter().filter_map(|open| open.failed.clone());
        match (failed().next(), failed().count()) {
            (None, _) => self.status = Status::Unwound,
            (Some(why), 1) => self.stick(why),
            (Some(why), count) => self.stick(format_args!("{count} undos failed: {why}")),
        }
    }

    /// Records that the next undo cannot be done.
    pub(crate) fn undo_failed(&mut self, why: String) {
        if let Some(at) = self.next_undo_at() {
            self.set_aside(at, why);
        }
    }

    /// Records that an undo of a chain of tx undos cannot be done. The chain was rolled back; `left` has the undos as they were when it failed.
    pub(crate) fn chain_undo_failed(&mut self, left: &Self, why: String) {
        let (mine, failed) = (self.next_undo_at(), left.next_undo_at());
        match (mine, failed) {
            // The undos that the chain did before are later in the list.
            (Some(mine), Some(failed)) if failed <= mine => self.set_aside(failed, why),
            _ => self.stick(why),
        }
    }

    /// Sets the undo aside for an operator. The saga says whether the other undos wait for it.
    fn set_aside(&mut self, at: usize, why: String) {
        let open = &mut self.undos[at];
        open.failed = Some(why.clone());
        if open.holds_back() {
            return self.stick(why);
        }
        self.clear_pending();
        self.end_if_nothing_is_open();
    }
}
