//! Stories without a database: a saga walked through in memory, by the code that moves it in production.
//!
//! A walk stands in for the outside: it says how the step that the instance asks for turned out. The engine's own pure half applies it:
//! it asks the saga, keeps the open undos, answers signals and counts timers. So a story that holds here happens so on Postgres too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use chrono::DateTime;

use super::asks::Asks;
use crate::{
    base::{json::shown as json, status::Status},
    instance::{
        Entry, Instance, Pending,
        apply::Applied,
        signal::{Answer, offer},
        task::{Fact, What},
        unwind::{How, OpenUndo, Taken},
    },
    record::{
        commit::{NewInstance, Wake},
        words::{EffectStatus, JournalKind},
    },
    saga::{
        Done, Joined, Saga,
        steps::{Cause, Effect},
        table::{StepTable, WayBack},
    },
};

/// One instance in memory.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use stepwise_engine::{Status, testing::{Walk, walk}};
///
/// let mut seat: Walk<Seat> = walk(7);
/// seat.answers(Event::Held).stays_unknown(); // the bank does not answer ...
/// seat.refuses(Event::Declined); // ... is asked, and has declined
/// seat.takes_all_back();
/// assert_eq!(seat.status(), Status::Unwound);
/// assert_eq!(seat.steps(), ["Hold", "Charge", "release"]);
/// ```
pub struct Walk<S: Saga> {
    pub(super) instance: Instance<S>,
    timer: Option<Duration>,
    steps: Vec<String>,
    /// The effects that stand or may stand: by number, the step's name and the kind.
    ledger: BTreeMap<i32, (String, &'static str)>,
    /// Kept signals, as JSON, that it has taken since it was forked.
    pub(super) took: Vec<String>,
    /// The sagas of children that it started and may still take back.
    pub(super) bound: BTreeSet<&'static str>,
}

/// Starts an instance in memory. It asks for its first step then ([`Walk::asks`]).
///
/// # Panics
/// When the saga starts by unwinding.
#[must_use]
#[track_caller]
pub fn walk<S: Saga>(input: S::Input) -> Walk<S> {
    let entry = Entry::new(JournalKind::Start, &input);
    let mut next = S::start(input);
    let state = next.state.take().expect("a saga starts in a state, not by unwinding");
    let mut instance = Instance::new(0, uuid::Uuid::nil(), "subject".to_owned(), state);
    instance.decide(entry, next).expect("nothing is past a pivot at the start");
    let mut walk = Walk {
        instance,
        timer: None,
        steps: Vec::new(),
        ledger: BTreeMap::new(),
        took: Vec::new(),
        bound: BTreeSet::new(),
    };
    walk.commit();
    walk
}

impl<S: Saga> Walk<S> {
    /// The step that it asks for now, or the event that it waits for.
    pub fn asks(&self) -> Asks<S> {
        match (self.instance.status, &self.instance.pending) {
            (status, _) if status.is_final() => Asks::Nothing,
            (status, _) if status.needs_operator() => Asks::Person,
            (_, Pending::Run { step, .. }) => Asks::Run(step.clone()),
            (_, Pending::Call { step, .. }) => Asks::Call(step.clone()),
            (_, Pending::Children { .. }) => Asks::Children,
            (Status::Unwinding, _) => match self.instance.next_undo().map(|open| &open.taken) {
                None | Some(Taken::Person) => Asks::Nothing,
                Some(Taken::Done(done)) => Asks::Undo(done.clone()),
                Some(Taken::Children) => Asks::CallOffChildren,
            },
            (_, Pending::Event { .. }) => Asks::Nothing,
            (_, Pending::Timer { event, .. }) => {
                Asks::Wait(Some((self.timer.unwrap_or_default(), event.clone())))
            }
            (_, Pending::Nothing) => Asks::Wait(None),
        }
    }

    /// The step it asks for was done, with this event. (A declared effect is confirmed.)
    ///
    /// # Panics
    /// When it asks for no step, or does not expect the event.
    #[track_caller]
    pub fn answers(&mut self, event: S::Event) -> &mut Self {
        if let Err(why) = self.try_answer(event, true) {
            panic!("{why}");
        }
        self
    }

    /// The activity it asks for was refused, with this event: it has no effect.
    ///
    /// # Panics
    /// When it asks for no activity, or does not expect the event.
    #[track_caller]
    pub fn refuses(&mut self, event: S::Event) -> &mut Self {
        if let Err(why) = self.try_answer(event, false) {
            panic!("{why}");
        }
        self
    }

    pub(super) fn try_answer(&mut self, event: S::Event, stands: bool) -> Result<(), String> {
        match &self.instance.pending {
            Pending::Run { no, step } => {
                let (no, step) = (*no, step.clone());
                self.steps.push(name(&step));
                self.instance.stepped(no, step, event).map_err(|error| error.to_string())?;
            }
            Pending::Call { no, step } => {
                let effect = match (stands, step.terms().effect) {
                    (false, _) => Effect::Refuted,
                    (true, Some(_)) => Effect::Confirmed(format!("reference-{no}")),
                    (true, None) => Effect::None,
                };
                let no = *no;
                self.steps.push(name(step));
                self.apply(no, What::Answered { event, effect });
                if self.instance.status == Status::Stuck {
                    return Err(self.last_error().unwrap_or_default().to_owned());
                }
            }
            _ => return Err(format!("it asks for {:?}, not for a step", self.asks())),
        }
        self.commit();
        Ok(())
    }

    /// The attempt at the activity surely did nothing; it will be tried again, or was given up.
    ///
    /// # Panics
    /// When it asks for no activity.
    #[track_caller]
    pub fn fails(&mut self) -> &mut Self {
        self.answer_call(What::NotDone(Cause::new("it failed")))
    }

    /// Nobody knows what became of the attempt (or the probe could not find out).
    ///
    /// # Panics
    /// When it asks for no activity.
    #[track_caller]
    pub fn stays_unknown(&mut self) -> &mut Self {
        self.answer_call(What::Unknown(Cause::new("no answer")))
    }

    /// A probe finds that the provider never acted, and none of its late effects came while they were waited for.
    ///
    /// # Panics
    /// When it asks for no activity.
    #[track_caller]
    pub fn was_never_seen(&mut self) -> &mut Self {
        // The waiting is over.
        self.instance.progress.timer_due = true;
        self.answer_call(What::NeverSeen)
    }

    /// The activity fails until its deadline, and is given up.
    ///
    /// # Panics
    /// When it asks for no activity.
    #[track_caller]
    pub fn is_given_up(&mut self) -> &mut Self {
        let Pending::Call { no, .. } = self.instance.pending else {
            panic!("it asks for {:?}, not for an activity", self.asks())
        };
        let (started_at, failing) = (DateTime::UNIX_EPOCH, Duration::MAX);
        let what = What::NotDone(Cause::new("it failed"));
        self.instance.apply(&Fact { no, started_at, what, failing });
        self.commit();
        self
    }

    #[track_caller]
    fn answer_call(&mut self, what: What<S::Event>) -> &mut Self {
        let Pending::Call { no, .. } = self.instance.pending else {
            panic!("it asks for {:?}, not for an activity", self.asks())
        };
        self.apply(no, what);
        self.commit();
        self
    }

    /// Gives it a signal.
    ///
    /// # Panics
    /// When the saga takes it by a decision that is not allowed (unwinding after the pivot).
    #[track_caller]
    pub fn signal(&mut self, signal: S::Signal) -> Answer {
        self.try_signal(&signal).unwrap_or_else(|why| panic!("{why}"))
    }

    pub(super) fn try_signal(&mut self, signal: &S::Signal) -> Result<Answer, String> {
        // Somebody may be at the call just now: its outcome is found out first.
        let answer = offer(&mut self.instance, true, signal).map_err(|error| error.to_string())?;
        match answer {
            Answer::Kept => self.instance.kept.push_back((json(signal), signal.clone())),
            Answer::Applied => self.instance.take_kept(),
            Answer::Refused | Answer::Duplicate => {}
        }
        self.commit();
        Ok(answer)
    }

    /// All its children have ended so.
    ///
    /// # Panics
    /// When it does not wait for children, or does not expect the event.
    #[track_caller]
    pub fn children_end(&mut self, ends: Joined) -> &mut Self {
        if let Err(why) = self.try_join(ends) {
            panic!("{why}");
        }
        self
    }

    pub(super) fn try_join(&mut self, ends: Joined) -> Result<(), String> {
        let Pending::Children { no } = self.instance.pending else {
            return Err(format!("it asks for {:?}, not for its children", self.asks()));
        };
        self.apply(no, What::Joined(ends));
        if self.instance.status == Status::Stuck {
            return Err(self.last_error().unwrap_or_default().to_owned());
        }
        self.commit();
        Ok(())
    }

    /// Nothing happens until the timer fires.
    ///
    /// # Panics
    /// When no timer is armed, or the saga does not expect its event.
    #[track_caller]
    pub fn time_passes(&mut self) -> &mut Self {
        if let Err(why) = self.try_fire() {
            panic!("{why}");
        }
        self
    }

    pub(super) fn try_fire(&mut self) -> Result<(), String> {
        let Pending::Timer { no, event } = &self.instance.pending else {
            return Err(format!("it asks for {:?}, no timer is armed", self.asks()));
        };
        let (no, event) = (*no, event.clone());
        self.apply(no, What::Fired(event));
        if self.instance.status == Status::Stuck {
            return Err(self.last_error().unwrap_or_default().to_owned());
        }
        self.commit();
        Ok(())
    }

    /// The last open undo is done. An activity that is still pending is answered first, as surely not done.
    ///
    /// # Panics
    /// When it is not unwinding.
    #[track_caller]
    pub fn takes_back(&mut self) -> &mut Self {
        assert!(self.instance.status == Status::Unwinding, "it asks for {:?}", self.asks());
        match (&self.instance.pending, self.instance.next_undo()) {
            (Pending::Call { no, .. }, _) => {
                let no = *no;
                self.apply(no, What::Dropped);
            }
            (Pending::Children { no }, _) => {
                let no = *no;
                self.apply(no, What::Joined(Joined::default()));
            }
            (_, Some(open)) => {
                let open = open.clone();
                let (no, method) = (open.no, open.done().map_or("", Done::undo_name));
                match open.how() {
                    How::InTx => {
                        self.steps.push(method.to_owned());
                        self.instance.unstepped(&open);
                        self.instance.end_if_nothing_is_open();
                    }
                    How::Outside => {
                        self.steps.push(method.to_owned());
                        self.apply(no, What::Undone(None));
                    }
                    How::Person => {}
                    How::Children => {
                        self.steps.push("children".to_owned());
                        self.apply(no, What::ChildrenCalledOff);
                        self.apply(no, What::Joined(Joined::default()));
                    }
                }
            }
            _ => {}
        }
        self.commit();
        self
    }

    /// All open undos are done, last first.
    ///
    /// # Panics
    /// When it is not unwinding.
    #[track_caller]
    pub fn takes_all_back(&mut self) -> &mut Self {
        self.takes_back();
        while self.instance.status == Status::Unwinding {
            self.takes_back();
        }
        self
    }

    /// The last open undo cannot be done.
    ///
    /// # Panics
    /// When nothing is to be taken back by a call.
    #[track_caller]
    pub fn cannot_take_back(&mut self) -> &mut Self {
        let no = match (self.asks(), self.instance.next_undo()) {
            (Asks::Undo(_), Some(open)) if open.how() == How::Outside => open.no,
            (asks, _) => panic!("it asks for {asks:?}, not for an undo by a call"),
        };
        self.apply(no, What::CannotUndo(Cause::new("it cannot be taken back")));
        self.commit();
        self
    }

    /// Its state.
    pub fn state(&self) -> &S::State {
        &self.instance.state
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.instance.status
    }

    /// The reason for which it unwinds or was unwound.
    pub fn reason(&self) -> Option<&S::Reason> {
        self.instance.reason.as_ref()
    }

    /// Why it is stuck, or what the last attempt said.
    pub fn last_error(&self) -> Option<&str> {
        self.instance.progress.last_error.as_deref()
    }

    /// The steps that the open undos take back, oldest first; children are left out.
    pub fn open_undos(&self) -> Vec<Done<S::Step>> {
        self.instance.undos.iter().filter_map(OpenUndo::done).cloned().collect()
    }

    /// All that was done so far, in order: steps by their name in the table, undos by their method.
    pub fn steps(&self) -> Vec<&str> {
        self.steps.iter().map(String::as_str).collect()
    }

    fn apply(&mut self, no: i32, what: What<S::Event>) {
        let fact = Fact { no, started_at: DateTime::UNIX_EPOCH, what, failing: Duration::ZERO };
        let applied = self.instance.apply(&fact);
        debug_assert!(applied != Applied::Moot, "what it asks for is what was answered");
    }

    /// As if it were durable.
    fn commit(&mut self) {
        match self.instance.wake() {
            Wake::Timer { delay, .. } => self.timer = Some(*delay),
            Wake::Keep | Wake::KeepTimer => {}
            _ => self.timer = None,
        }
        self.instance.progress.timer_due = false;
        self.took.append(&mut self.instance.taken);
        let commit = self.instance.commit();
        if let (Some(intent), Pending::Call { step, .. }) = (commit.intent, &self.instance.pending)
            // A pivot that was done is not taken back.
            && step.way_back() != WayBack::Pivot
        {
            self.ledger.insert(intent.step_no, (name(step), intent.kind));
        }
        if let Some(change) =
            commit.effect_change.filter(|change| change.status != EffectStatus::Confirmed)
        {
            self.ledger.remove(&change.step_no);
        }
        self.ledger.retain(|no, _| !commit.undone.contains(no));
        if self.instance.progress.past_pivot {
            self.ledger.clear();
        }
        let family = commit.family.unwrap_or_default();
        let is_bound = |child: &&NewInstance| child.parent.is_some_and(|parent| parent.binds);
        self.bound.extend(family.new_instances.iter().filter(is_bound).map(|child| child.name));
        self.instance.committed();
    }

    /// Another walk from the same position.
    pub(super) fn fork(&self) -> Self {
        Self {
            instance: self.instance.copy(),
            timer: self.timer,
            steps: self.steps.clone(),
            ledger: self.ledger.clone(),
            took: Vec::new(),
            bound: self.bound.clone(),
        }
    }

    /// The activities whose effects stand (or may) and which no open undo takes back, each with the kind of its effect.
    pub(super) fn standing(&self) -> BTreeSet<&(String, &'static str)> {
        let open = |no: &i32| self.instance.undos.iter().any(|open| open.no == *no);
        self.ledger.iter().filter(|(no, _)| !open(no)).map(|(_, effect)| effect).collect()
    }

    /// Is the other one the same instance at the same point, down to its pending step or timer?
    pub(super) fn is_where(&self, other: &Self) -> bool {
        let at = |walk: &Self| {
            let instance = &walk.instance;
            let pending = json(&instance.pending);
            (
                json(&instance.state),
                instance.status,
                pending,
                instance.undos.len(),
                instance.kept.len(),
            )
        };
        at(self) == at(other)
    }

    /// A text that tells positions apart; `state` does it for states.
    pub(super) fn position(&self, state: String) -> String {
        let instance = &self.instance;
        let kept = instance.kept.iter().map(|(_, signal)| json(signal)).collect::<Vec<_>>();
        let (pending, undos) = instance.shape();
        format!(
            "{} {state} {pending} {undos} {:?} {} {:?} {kept:?}",
            instance.status.as_str(),
            self.standing(),
            instance.progress.past_pivot,
            instance.reason.as_ref().map(json),
        )
    }
}

/// The name of a state, event or step: its `Debug` output up to the first sign that is no part of a name.
pub(super) fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text[..end].to_owned()
}
