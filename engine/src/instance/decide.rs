//! The one place where a decision of its saga changes an instance, and where the journal and the ledger get their entries.
//!
//! [`Instance::decide`] turns a [`Next`] into the new position and the journal row that goes with it.

use serde::Serialize;

use crate::{
    base::{
        json::{Json, json},
        status::Status,
    },
    instance::{Entry, Instance, Pending, unwind::OpenUndo},
    record::{
        commit::{EffectChange, JournalRow, Wake},
        notice::{Kind, Tell},
        words::{EffectStatus, JournalKind},
    },
    saga::{Done, Next, Saga, Then, child::Forbidden},
};

impl<S: Saga> Instance<S> {
    /// Applies what the saga has decided because of `entry`. Pure: nothing is written.
    pub(crate) fn decide(&mut self, entry: Entry, next: Next<S>) -> Result<(), Forbidden> {
        if matches!(next.then, Then::Unwind(_)) && self.progress.past_pivot {
            return Err(Forbidden::UnwindAfterPivot);
        }
        self.seq += 1;
        let no = self.seq;
        let undos_before = self.undos.len();
        // Steps of the caller have numbers of their own, 0 and below, and so keys of their own.
        let by_caller = i32::try_from(next.by_caller.len()).unwrap_or(i32::MAX);
        for (no, step) in (no.saturating_sub(by_caller)..).zip(next.by_caller) {
            self.ran(no, Done::Caller(step))?;
        }
        let decided = match next.then {
            Then::Stay => {
                if self.journal.is_empty() {
                    self.wake = Wake::Keep;
                }
                Json::literal("\"stay\"")
            }
            then => self.wait_for(no, then)?,
        };
        if let Some(state) = next.state {
            self.state = state;
        }
        let undo = (self.undos.len() > undos_before)
            .then(|| Json::list(self.undos[undos_before..].iter().map(OpenUndo::shown)));
        self.record(entry, Some(decided), undo);
        Ok(())
    }

    fn wait_for(&mut self, no: i32, then: Then<S>) -> Result<Json, Forbidden> {
        self.wake = Wake::Never;
        if let Then::Unwind(reason) = then {
            let decided = json(&reason).under("unwind");
            self.begin_unwinding(reason);
            return Ok(decided);
        }
        self.fresh();
        Ok(match then {
            Then::Step(step) => {
                let (decided, verb) = (json(&step), self.await_step(no, step));
                decided.under(verb)
            }
            Then::Wait { until: None, .. } => {
                self.pending = Pending::Nothing;
                Json::literal("\"wait\"")
            }
            Then::Wait { until: Some((delay, event)), asleep } => {
                let ms = delay.as_millis();
                let decided =
                    json(&event).map(|then| format!("{{\"wait_ms\":{ms},\"then\":{then}}}"));
                self.pending = Pending::Timer { no, event };
                self.wake = Wake::Timer { delay, asleep };
                decided
            }
            Then::Children(children) => {
                let decided = Json::literal(format!("{{\"children\":{}}}", children.len()));
                self.start_children(no, children)?;
                decided
            }
            Then::Done => {
                self.done();
                Json::literal("\"done\"")
            }
            Then::Anew(input) => {
                let decided = json(&input).under("anew");
                self.begin_anew(input)?;
                decided
            }
            Then::Stay | Then::Unwind(_) => unreachable!("handled before"),
        })
    }

    /// Clears the pending step or wait, because its outcome is known or it was never tried.
    pub(crate) fn clear_pending(&mut self) {
        self.pending = Pending::Nothing;
        self.fresh();
    }

    fn fresh(&mut self) {
        self.start_over();
        (self.progress.unsettled, self.progress.last_error) = (false, None);
    }

    /// Adds a journal row that changes nothing else. Raises seq unless `decide` has.
    pub(crate) fn record(&mut self, entry: Entry, next: Option<Json>, undo: Option<Json>) {
        self.journal.push(JournalRow {
            seq: self.seq,
            kind: entry.kind,
            event: entry.event,
            step_no: entry.step_no,
            attempt: entry.attempt,
            started_at: entry.started_at,
            next,
            undo,
        });
    }

    /// A commit of its own for something that is no decision of the saga (a failed attempt, an undo, a release).
    pub(crate) fn note(&mut self, entry: Entry) {
        self.seq += 1;
        self.record(entry, None, None);
    }

    /// Replaces the event of the first journal row since the last commit.
    pub(crate) fn retell(&mut self, event: &impl Serialize) {
        if let Some(row) = self.journal.first_mut() {
            row.event = Some(json(event));
        }
    }

    /// Makes the next commit give the effect of this step another status in the ledger.
    pub(crate) fn set_effect(
        &mut self,
        step_no: i32,
        status: EffectStatus,
        reference: Option<String>,
    ) {
        // Foreign text, like JSON: NUL would fail the batch.
        let reference = reference.map(|text| text.replace('\0', "\u{fffd}"));
        self.effect_change = Some(EffectChange { step_no, status, reference });
    }

    /// Makes the instance stuck.
    pub(crate) fn stick(&mut self, why: impl std::fmt::Display) {
        let why = crate::saga::steps::Cause::new(why).to_string();
        self.status = Status::Stuck;
        self.park_keeping_timer();
        self.progress.last_error = Some(why.clone());
        self.note(Entry::new(JournalKind::Stuck, &why));
        self.tell(Kind::Stuck, why);
        if let Some(tell) = &mut self.tell {
            tell.escalate_after = Some(S::ESCALATE_AFTER);
        }
    }

    /// Makes the next commit write a [notice](crate::store::notice) for operators.
    pub(crate) fn tell(&mut self, kind: Kind, why: String) {
        self.tell = Some(Tell { kind, saga: S::NAME, why, escalate_after: None });
    }
}
