//! The verbs as pure functions of an instance.

use std::time::Duration;

use chrono::Utc;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    base::{json::shown as json_text, status::Status},
    instance::{
        Entry, Instance, Pending,
        apply::on,
        family::CallOff,
        task::{Fact, Task, What},
        unwind::{How, OpenUndo, Taken},
        upcast,
        verb::{
            Decided, Instruction, OpenTxUndos, Outlook, Outside, Refusal, Subject, Verb,
            WrongStatus,
        },
    },
    record::{
        notice::Kind,
        words::{EffectStatus, JournalKind},
    },
    saga::{
        CalledOff, CallerStep, Done, Saga,
        steps::Effect,
        table::{StepTable, WayBack},
    },
};

/// Applies an instruction to a locked row.
///
/// # Errors
/// Why the instruction is refused. Nothing is written then.
pub(crate) fn operate<S: Saga>(subject: Subject, order: &Instruction) -> Result<Decided, Refusal> {
    let Subject { row, kept, live, open_children } = subject;
    let owned = row.owner.is_some();
    let unreadable = |misfit: upcast::Misfit| Refusal::Unreadable(misfit.to_string());
    let mut instance = Instance::<S>::from_row(row).map_err(unreadable)?;
    for (id, signal, version) in kept {
        let signal = upcast::signal::<S>(version, &signal).map_err(unreadable)?;
        instance.kept.push_back((id, signal));
    }
    instance.may(&order.verb, owned)?;
    if open_children > 0 {
        return Err(Refusal::ChildrenOpen(open_children));
    }
    let before = instance.standing();
    instance.note(Entry::new(JournalKind::Operator, &Value::Null));
    let tx_undos = instance.follow(order, owned)?;
    let mut told = json!({
        "verb": order.verb,
        "by": order.by,
        "reason": order.reason,
        "before": before,
        "after": instance.standing(),
    });
    if matches!(order.verb, Verb::HandOver { .. }) {
        told["effects"] = json!(live);
    }
    instance.retell(&told);
    let mut outlook = instance.outlook();
    outlook.undoes.extend(tx_undos.iter().map(OpenUndo::told));
    let tx_undos = (!tx_undos.is_empty()).then(|| OpenTxUndos {
        id: instance.id,
        undos: tx_undos.iter().map(json_text).collect(),
        reason: instance.reason.as_ref().map(json_text).unwrap_or_default(),
    });
    let commit = instance.commit();
    commit.check_storable().map_err(|why| Refusal::DoesNotFit(why.to_string()))?;
    Ok(Decided { commit, outlook, tx_undos })
}

impl<S: Saga> Instance<S> {
    /// Is the verb allowed for an instance in this status?
    fn may(&self, verb: &Verb, owned: bool) -> Result<(), Refusal> {
        let is = |status: WrongStatus| Err(Refusal::WrongStatus(status));
        if self.status.is_final() {
            return is(self.status.into());
        }
        match verb {
            Verb::Cancel | Verb::Pause if self.progress.ended => is(WrongStatus::AtItsEnd),
            Verb::Pause if self.status.needs_operator() => is(self.status.into()),
            Verb::Cancel | Verb::Pause => Ok(()),
            Verb::Resume if self.status == Status::Paused => Ok(()),
            Verb::HandOver { .. } if self.status.needs_operator() => Ok(()),
            Verb::Resume | Verb::HandOver { .. } => is(self.status.into()),
            _ if self.status == Status::Paused => is(WrongStatus::Paused),
            _ if self.status == Status::Stuck => Ok(()),
            // A running instance may be between two attempts.
            _ if owned => is(WrongStatus::BeingDriven),
            _ if self.progress.attempt > 0 || self.progress.unsettled => Ok(()),
            _ => Err(Refusal::NothingFailed),
        }
    }

    /// Changes the instance by the verb. Returns the tx undos that the verb must run in its transaction, last first.
    fn follow(&mut self, order: &Instruction, owned: bool) -> Result<Vec<OpenUndo<S>>, Refusal> {
        let mut tx_undos = Vec::new();
        match &order.verb {
            Verb::Retry => {
                self.retry(order.undo)?;
                self.go_on();
            }
            Verb::EditAndRetry(step) => {
                self.edit(step, order.undo)?;
                self.go_on();
            }
            Verb::MarkDone { evidence, event, outside } => match self.failed_at(order.undo)? {
                Some(at) => {
                    let evidence = Some(evidence.clone());
                    tx_undos.extend(self.close_failed(at, EffectStatus::Undone, evidence)?);
                }
                None => self.mark_done(event.as_ref(), outside.as_ref())?,
            },
            Verb::Skip => match self.failed_at(order.undo)? {
                Some(at) => tx_undos.extend(self.close_failed(at, EffectStatus::Waived, None)?),
                None => self.skip()?,
            },
            Verb::HandOver { to } => {
                tx_undos = self.hand_over(&order.reason);
                self.tell(Kind::HandedOver, format!("to {to}, by {}: {}", order.by, order.reason));
            }
            Verb::Pause => {
                // An attempt in flight is not waited for: it is asked about when the instance goes on.
                self.progress.unsettled |= owned && matches!(self.pending, Pending::Call { .. });
                self.status = Status::Paused;
                self.park_keeping_timer();
                self.tell(Kind::Paused, format!("by {}: {}", order.by, order.reason));
            }
            Verb::Resume => self.go_on(),
            Verb::Cancel => {
                if self.reason.is_some() {
                    return Err(Refusal::WrongStatus(WrongStatus::Unwinding));
                }
                let why = CalledOff::Cancelled(order.reason.clone());
                if self.call_off(why, owned) == CallOff::PastPivot {
                    return Err(Refusal::PastPivot);
                }
                // Asking about an unknown outcome gets the full time of the step.
                self.start_over();
            }
        }
        Ok(tx_undos)
    }

    /// Ends the instance for an operator. Returns its open tx undos, last first: they release what it holds in our database, in the same commit.
    fn hand_over(&mut self, why: &str) -> Vec<OpenUndo<S>> {
        let mut tx_undos = Vec::new();
        for open in self.undos.iter().rev() {
            if open.how() == How::InTx {
                tx_undos.push(open.clone());
                if open.effect {
                    self.undone.push(open.no);
                }
            }
        }
        if !tx_undos.is_empty() && self.reason.is_none() {
            let kept = self.take_kept_reason();
            let given_up = || CalledOff::Cancelled(why.to_owned()).into();
            self.reason = Some(kept.unwrap_or_else(given_up));
        }
        self.clear_pending();
        self.forget_undos();
        self.status = Status::Abandoned;
        tx_undos
    }

    /// Lets the instance continue: kept signals come first, then its timer or its pending step.
    fn go_on(&mut self) {
        self.status = if self.reason.is_some() { Status::Unwinding } else { Status::Running };
        self.never();
        self.end_if_nothing_is_open();
        self.take_kept();
        if let Pending::Children { no } = self.pending
            && !self.status.needs_operator()
        {
            // They may have ended meanwhile: workers look, and wake it then.
            self.wait_for_children(no);
        } else if !self.parks() {
            self.make_due();
        }
    }

    /// Forgets the failures: of all undos, or of the one that is meant. An undo that only a person can do stays failed.
    fn retry(&mut self, undo: Option<i32>) -> Result<(), Refusal> {
        if let Some(at) = undo.map(|_| self.failed_at(undo)).transpose()?.flatten()
            && matches!(self.undos[at].taken, Taken::Person)
        {
            let no = self.undos[at].no;
            let why = format!("no step takes step {no} back: do it outside, and mark it done");
            return Err(Refusal::DoesNotFit(why));
        }
        self.start_over();
        self.progress.last_error = None;
        for open in &mut self.undos {
            if undo.is_none_or(|no| no == open.no) && !matches!(open.taken, Taken::Person) {
                open.failed = None;
            }
        }
        Ok(())
    }

    /// The index of the failed undo that the instruction means.
    fn failed_at(&self, undo: Option<i32>) -> Result<Option<usize>, Refusal> {
        let failed = (0..self.undos.len())
            .filter(|at| self.undos[*at].failed.is_some())
            .filter(|at| undo.is_none_or(|no| no == self.undos[*at].no))
            .collect::<Vec<_>>();
        match failed[..] {
            [] if undo.is_some() => Err(Refusal::NothingFailed),
            [] => Ok(None),
            [at] => Ok(Some(at)),
            _ => Err(Refusal::WhichUndo(failed.into_iter().map(|at| self.undos[at].no).collect())),
        }
    }

    /// Closes a failed undo for an operator. A tx undo is not closed without being done: it is returned, and runs in the verb's transaction.
    fn close_failed(
        &mut self,
        at: usize,
        status: EffectStatus,
        reference: Option<String>,
    ) -> Result<Option<OpenUndo<S>>, Refusal> {
        self.refuse_for_children(at)?;
        let open = self.undos.remove(at);
        let in_tx = open.how() == How::InTx;
        self.set_effect(open.no, if in_tx { EffectStatus::Undone } else { status }, reference);
        self.clear_pending();
        self.go_on();
        Ok(in_tx.then_some(open))
    }

    /// Children are called off by the engine only: if somebody declared that done, those that are open would be bound to their parent for ever.
    fn refuse_for_children(&self, at: usize) -> Result<(), Refusal> {
        let why = "its children are called off, and nothing else takes them back: see to the child, then retry";
        match self.undos[at].taken {
            Taken::Children => Err(Refusal::DoesNotFit(why.to_owned())),
            Taken::Done(_) | Taken::Person => Ok(()),
        }
    }

    /// Replaces the pending step, or the step that a failed undo takes back. The new one has the number of this commit, and so another key.
    fn edit(&mut self, step: &Value, undo: Option<i32>) -> Result<(), Refusal> {
        let no = self.seq;
        let Some(at) = self.failed_at(undo)? else {
            let step = fits("step", step)?;
            self.leave_out()?;
            self.clear_pending();
            self.await_step(no, step);
            return Ok(());
        };
        self.refuse_for_children(at)?;
        let done = match (&self.undos[at].taken, fits::<S::Step>("step", step)) {
            (Taken::Done(Done::Caller(_)), _) => Done::Caller(fits::<CallerStep<S>>("step", step)?),
            (_, fit) => Done::Step(fit?),
        };
        if matches!(done.way_back(), WayBack::Nothing | WayBack::Pivot) {
            return Err(Refusal::DoesNotFit(format!("the step: {done:?} has no undo")));
        }
        let open = &mut self.undos[at];
        (open.taken, open.failed, open.replaced_by) = (Taken::Done(done), None, Some(no));
        self.clear_pending();
        Ok(())
    }

    /// Leaves the pending step undone. Refused if an attempt may have left something outside.
    fn leave_out(&mut self) -> Result<(), Refusal> {
        match &self.pending {
            // No other step can replace it while the instance unwinds; its outcome can only be recorded.
            Pending::Run { .. } | Pending::Call { .. } if self.reason.is_some() => {
                Err(Refusal::WrongStatus(WrongStatus::Unwinding))
            }
            Pending::Run { .. } => Ok(()),
            Pending::Call { step, .. } if self.progress.unsettled && leaves_a_trace(step) => {
                Err(Refusal::Unsettled)
            }
            Pending::Call { no, .. } => {
                let no = *no;
                // The last attempt did nothing, but the provider may still act.
                self.watch_call();
                self.forget_undo(no);
                self.set_effect(no, EffectStatus::Refuted, None);
                Ok(())
            }
            _ => Err(Refusal::NothingFailed),
        }
    }

    fn mark_done(
        &mut self,
        event: Option<&Value>,
        outside: Option<&Outside>,
    ) -> Result<(), Refusal> {
        if !matches!(self.pending, Pending::Call { .. } | Pending::Event { .. }) {
            return Err(Refusal::NothingFailed);
        }
        let event =
            event.ok_or_else(|| Refusal::DoesNotFit("say what happened: an event".into()))?;
        let event: S::Event = fits("event", event)?;
        if let Pending::Call { no, step } = self.pending.clone() {
            if outside.is_none() && step.terms().effect.is_some() {
                let why = "say what stands outside: a reference, or nothing";
                return Err(Refusal::DoesNotFit(why.to_owned()));
            }
            if self.reason.is_some() {
                self.found_out(no, event, outside);
                return Ok(());
            }
            match outside {
                Some(Outside::Nothing) => {
                    // The operator has not found the effect, but it may still come.
                    self.watch_call();
                    self.forget_undo(no);
                    self.set_effect(no, EffectStatus::Refuted, None);
                }
                Some(Outside::Stands(reference)) => {
                    self.set_effect(no, EffectStatus::Confirmed, Some(reference.clone()));
                }
                None => {}
            }
            if step.way_back() == WayBack::Pivot && outside != Some(&Outside::Nothing) {
                self.pass_pivot().map_err(|error| Refusal::DoesNotFit(error.to_string()))?;
            }
        }
        self.hear(event)
    }

    /// Records the outcome that an operator has found while the instance unwinds. It counts like the answer of a probe, and the saga is not asked. An
    /// effect that stands is taken back with the rest; the effect of a pivot by an operator.
    fn found_out(&mut self, no: i32, event: S::Event, outside: Option<&Outside>) {
        let effect = match outside {
            Some(Outside::Stands(reference)) => Effect::Confirmed(reference.clone()),
            Some(Outside::Nothing) => Effect::Refuted,
            None => Effect::None,
        };
        if effect == Effect::Refuted {
            // The operator has not found the effect, but it may still come.
            self.watch_call();
        }
        let what = What::Answered { event, effect };
        self.status = Status::Unwinding;
        self.apply(&Fact { no, started_at: Utc::now(), what, failing: Duration::ZERO });
        if self.status == Status::Unwinding {
            self.go_on();
        }
    }

    fn skip(&mut self) -> Result<(), Refusal> {
        let step = match &self.pending {
            Pending::Run { step, .. } | Pending::Call { step, .. } => step,
            _ => return Err(Refusal::NothingFailed),
        };
        let event = S::skipped(step).ok_or(Refusal::NotSkippable)?;
        self.leave_out()?;
        self.hear(event)
    }

    /// Gives the saga an event from an operator. An event that the saga does not expect is refused, and the instance is not stuck for it.
    fn hear(&mut self, event: S::Event) -> Result<(), Refusal> {
        self.clear_pending();
        let next = on::<S>(self.state.clone(), event.clone()).map_err(Refusal::DoesNotFit)?;
        self.status = Status::Running;
        self.decide(Entry::new(JournalKind::Outcome, &event), next)
            .map_err(|error| Refusal::DoesNotFit(error.to_string()))?;
        self.take_kept();
        if !self.parks() {
            self.make_due();
        }
        Ok(())
    }

    /// Its status, pending step and undos, for the journal.
    fn standing(&self) -> Value {
        let undos = serde_json::to_value(&self.undos).unwrap_or_default();
        let pending = serde_json::to_value(&self.pending).unwrap_or_default();
        json!({ "status": self.status.as_str(), "pending": pending, "undos": undos })
    }

    fn outlook(&self) -> Outlook {
        let unwinding = self.status == Status::Unwinding;
        let open = self.undos_to_run().filter(|_| unwinding);
        Outlook {
            status: self.status,
            next: match self.task() {
                Task::Run | Task::UndoRun | Task::Park => None,
                Task::Call { step, .. } => Some(format!("{step:?}")),
                Task::Probe { step, .. } => Some(format!("ask what became of {step:?}")),
                Task::Drop { .. } => None,
                Task::Fire { event, .. } => Some(format!("{event:?}")),
                Task::UndoCall { open, .. } => Some(open.told()),
                Task::Join { .. } => Some("wait for its children".to_owned()),
                Task::CallOff { .. } => Some("call its children off".to_owned()),
            }
            .or_else(|| match (&self.pending, self.next_undo()) {
                (Pending::Run { step, .. }, _) => Some(format!("{step:?}")),
                (_, Some(open)) if unwinding && open.how() == How::InTx => Some(open.told()),
                _ => None,
            }),
            past_pivot: self.progress.past_pivot,
            undoes: open.map(OpenUndo::told).collect(),
        }
    }
}

/// May an attempt of unknown outcome have left an effect, or something to undo?
fn leaves_a_trace(step: &impl StepTable) -> bool {
    step.terms().effect.is_some() || step.way_back() != WayBack::Nothing
}

fn fits<T: DeserializeOwned>(what: &str, json: &Value) -> Result<T, Refusal> {
    T::deserialize(json).map_err(|error| Refusal::DoesNotFit(format!("the {what}: {error}")))
}
