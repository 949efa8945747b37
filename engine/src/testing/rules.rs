//! The rules of exploring, and the advice for each that is broken.

use std::collections::{HashMap, HashSet};

use super::{
    explore::{Explorer, place},
    samples::Samples,
    stored,
    walk::{Walk, name},
};
use crate::{
    base::{json::shown as json, status::Status},
    saga::{
        Signals as _,
        child::Forbidden,
        table::{Kind, StepTable as _, WayBack},
    },
};

impl<S: Samples> Explorer<S> {
    pub(super) fn fault(&mut self, fault: String) {
        if self.told.insert(fault.clone()) {
            self.faults.push(fault);
        }
    }

    /// A decision that would get an instance stuck.
    pub(super) fn not_allowed(&mut self, when: &str, why: &str) {
        let advice = if why == Forbidden::UnwindAfterPivot.to_string() {
            "go on another way from there, or ask before the pivot (a tx pivot is passed by its commit, also when it refuses)"
        } else if why.contains("after unwinding had been decided") {
            "let no signal unwind while the pivot may be in flight"
        } else {
            "add it to `on`"
        };
        self.fault(format!("{when}: {why}; {advice}"));
    }

    /// Of an event that unwinds at once. The engine drops the undo of a refused activity; a tx step tells it nothing but the event, so its
    /// undo runs all the same.
    pub(super) fn must_say_refused(&mut self, step: &S::Step, event: &S::Event, stands: bool) {
        if let (true, Kind::Tx, WayBack::InTx(by) | WayBack::ByCall(by)) =
            (stands, step.kind(), step.way_back())
        {
            let (step, event) = (name(step), name(event));
            self.fault(format!(
                "{step} answers {event}, which unwinds at once, and {by} takes {step} back although it refused: let {by} take back only \
                 what is there, and show it as `Sample::refused({event})`, so that `unwinds_from_every_step` tries it"
            ));
        }
    }

    /// The engine must be able to read what it stores.
    pub(super) fn must_read_back(&mut self, walk: &Walk<S>) {
        for (part, why) in stored::unreadable(&walk.instance) {
            self.cannot_be_stored(&format!("the {part} in {}", place(walk)), &why);
        }
    }

    pub(super) fn event_must_read_back(&mut self, event: &S::Event) {
        if let Err(why) = stored::reads_back(event) {
            self.cannot_be_stored(&format!("the event {}", name(event)), &why);
        }
    }

    pub(super) fn input_must_read_back(&mut self, input: &S::Input) {
        if let Err(why) = stored::reads_back(input) {
            self.cannot_be_stored(&format!("the input {input:?}"), &why);
        }
    }

    /// A signal that is kept is stored as itself, not as the event that it becomes.
    pub(super) fn signal_must_read_back(&mut self, signal: &S::Signal) {
        if let Err(why) = stored::reads_back(signal) {
            self.cannot_be_stored(&format!("the signal {}", name(signal)), &why);
        }
        self.event_must_read_back(&signal.clone().event());
    }

    fn cannot_be_stored(&mut self, what: &str, why: &str) {
        self.fault(format!(
            "{what} cannot be stored: {why}. Keep plain data: maps with texts as keys, finite numbers, types that read what they write"
        ));
    }

    /// An effect that stands outside when everything was taken back was forgotten.
    pub(super) fn must_balance(&mut self, walk: &Walk<S>) {
        if walk.status() != Status::Unwound {
            return;
        }
        for (activity, kind) in walk.standing() {
            self.fault(format!(
                "{activity} leaves its effect `{kind}` standing when the saga unwinds: its row ends in `.undo_call(method)` or \
                 `.undo_tx(method)`, not in `.no_undo()`"
            ));
        }
    }

    /// A signal that is applied leaves a trace.
    pub(super) fn must_change(&mut self, walk: &Walk<S>, signal: &S::Signal, next: &Walk<S>) {
        if walk.is_where(next) {
            let (signal, place) = (name(signal), place(walk));
            self.fault(format!(
                "{signal} is lost in {place}: its sender is told that it was applied, and nothing changes. Let `on` return `Unexpected` \
                 there; its row in `signals!` decides whether it is kept or refused"
            ));
        }
    }

    /// Some state takes each signal, and each that is kept.
    pub(super) fn must_hear(&mut self) {
        for signal in S::signals() {
            let (told, signal) = (json(&signal), name(&signal));
            let heard = &self.heard;
            if heard.kept.contains(&told) && !heard.taken_late.contains(&told) {
                self.fault(format!(
                    "{signal} is lost when it comes early: it is kept, and no state that waits takes it then. Let one take it, or \
                     `refuse` it in `signals!`"
                ));
            } else if !heard.taken.contains(&told) && !heard.taken_late.contains(&told) {
                self.fault(format!("no state takes the signal {signal}: add it to `on`"));
            }
        }
    }

    /// From everywhere some end can be reached.
    pub(super) fn must_end(&mut self) {
        let mut back: HashMap<usize, Vec<usize>> = HashMap::new();
        for (from, to) in &self.edges {
            back.entry(*to).or_default().push(*from);
        }
        let mut ending = self
            .ends
            .iter()
            .filter(|(_, status)| status.is_final())
            .map(|(at, _)| *at)
            .collect::<Vec<_>>();
        let mut reached = ending.iter().copied().collect::<HashSet<_>>();
        while let Some(at) = ending.pop() {
            for from in back.get(&at).into_iter().flatten() {
                if reached.insert(*from) {
                    ending.push(*from);
                }
            }
        }
        let mut lost = self
            .seen
            .iter()
            .filter(|(_, at)| !reached.contains(*at) && !self.ends.contains_key(*at))
            .map(|(position, at)| (*at, position.clone()))
            .collect::<Vec<_>>();
        lost.sort();
        for (_, position) in lost.into_iter().take(5) {
            self.fault(format!(
                "no end can be reached from {position}: give it a way to `done`, or to `unwind` before the pivot"
            ));
        }
    }
}
