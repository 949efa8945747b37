//! The way back: recorded before a step runs, done last first; what cannot be done is a person's.

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

/// What an open undo takes back.
pub(crate) enum Taken<S: Saga> {
    /// A step, by the method that its table names.
    Done(Done<S::Step>),
    /// The children that the step started: they are called off.
    Children,
    /// A step that must not have been done any more, and was: a person takes it back, and says so.
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
    /// The step declared an effect, and is taken back in a transaction, which tells the ledger.
    pub(crate) effect: bool,
    /// Why it could not be done. It is set aside for a person.
    pub(crate) failed: Option<String>,
    /// The commit by which a person decided it anew.
    pub(crate) anew: Option<i32>,
}

impl<S: Saga> OpenUndo<S> {
    pub(crate) fn new(no: i32, taken: Taken<S>) -> Self {
        Self { no, taken, effect: false, failed: None, anew: None }
    }

    /// The step that a method takes back.
    pub(crate) fn done(&self) -> Option<&Done<S::Step>> {
        match &self.taken {
            Taken::Done(done) => Some(done),
            Taken::Children | Taken::Person => None,
        }
    }

    /// By the code as it is now.
    pub(crate) fn how(&self) -> How {
        self.taken.how()
    }

    /// In words, for operators: the method, and the step that it takes back.
    pub(crate) fn told(&self) -> String {
        match &self.taken {
            Taken::Done(done @ Done::Step(step)) => format!("{} {step:?}", done.undo_name()),
            Taken::Done(done @ Done::Caller(step)) => format!("{} {step:?}", done.undo_name()),
            Taken::Children => "its children".to_owned(),
            Taken::Person => "by a person".to_owned(),
        }
    }

    /// The same as JSON, for the journal.
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
            anew: self.anew,
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
    /// As it was declared when the step was decided; what counts is what the code declares now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<How>,
    /// What releases wrote that recorded the undo instead of the step. Their undos are steps of the caller's block.
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
            anew: self.anew,
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
        Ok(Self { no, taken, effect, failed, anew })
    }
}

impl<S: Saga> Instance<S> {
    /// Records the way back of a tx step that has run, or of what the caller did.
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

    /// Records the way back of a call that is about to be made, and the effect that it may have.
    pub(crate) fn intend(&mut self, no: i32, step: &S::Step) {
        let effect = step.terms().effect;
        // A pivot is passed by its confirmed outcome, not by being decided.
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

    /// This step is done next; answers the verb for the journal.
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
    pub(crate) fn settled_reference(&self, no: i32) -> Option<&String> {
        let settle = self.settle.as_ref().filter(|settle| settle.step_no == no)?;
        settle.reference.as_ref().filter(|_| settle.status == EffectStatus::Confirmed)
    }

    /// After this nothing is taken back any more.
    pub(crate) fn pass_pivot(&mut self) -> Result<(), Forbidden> {
        if self.progress.held {
            return Err(Forbidden::PivotOfHeldChild);
        }
        self.progress.past_pivot = true;
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
        let rest = open.done().map_or(Rest::Waits, S::on_failed_undo);
        match rest {
            Rest::Waits => self.stick(why),
            Rest::GoesOn => {
                self.settled();
                self.end_if_nothing_is_open();
            }
        }
    }
}
