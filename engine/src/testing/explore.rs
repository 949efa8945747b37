//! The whole graph of a saga, walked from the outcomes that its steps may have.
//!
//! Every position that the samples can lead to is visited, in memory, by the code that moves instances in production: each outcome of
//! each step, each signal in each state, each timer, each activity given up, each undo. A fault is found here, and not by a
//! customer: it would get an instance stuck, leave it waiting for nothing, keep it from ever ending, lose a signal or leave an effect standing.
//! Each fault says what to do. A state that no path reaches is none. Time-outs, crashes and lost commits are not walked: they
//! change no position (see [`crate::testing::survives_every_crash`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::{
    asks::Asks,
    diagram::Diagram,
    map::Map,
    samples::{Sample, Samples},
    stored_samples::StoredSamples,
    walk::{Walk, name, walk},
};
use crate::{
    base::{json::shown as json, status::Status},
    instance::{apply::on, signal::Answer},
    saga::{
        Done, Joined, Saga, Then,
        table::{StepTable, WayBack},
    },
};

/// More positions than this are a sign of data that grows without end (a counter): see [`Samples::position`].
const POSITIONS: usize = 20_000;

/// Walks the whole graph.
///
/// # Panics
/// When there are more than 20,000 positions.
#[must_use]
pub fn explore<S: Samples>() -> Map {
    let mut explorer = Explorer::<S> {
        seen: HashMap::new(),
        queue: VecDeque::new(),
        edges: Vec::new(),
        ends: BTreeMap::new(),
        faults: Vec::new(),
        told: HashSet::new(),
        heard: Heard::default(),
        refusals: HashSet::new(),
        diagram: Diagram::new(S::NAME),
        bound: BTreeSet::new(),
        has_pivot: false,
        stored: StoredSamples::default(),
    };
    for input in S::inputs() {
        explorer.input_must_read_back(&input);
        let begun = walk::<S>(input);
        explorer.diagram.start(&place(&begun));
        explorer.arrive(begun);
    }
    while let Some((at, position)) = explorer.queue.pop_front() {
        explorer.look(at, &position);
    }
    explorer.must_end();
    explorer.must_hear();
    crate::run::explored::remember::<S>(explorer.has_pivot);
    explorer.held_children_have_no_pivot();
    let mut ends: Vec<Status> = explorer.ends.into_values().collect();
    ends.sort_unstable_by_key(|status| status.as_str());
    ends.dedup();
    Map {
        faults: explorer.faults,
        ends,
        positions: explorer.seen.len(),
        refusals: explorer.refusals,
        diagram: explorer.diagram.draw(),
        stored: explorer.stored,
    }
}

/// The box in which the diagram shows a position.
pub(super) fn place<S: Samples>(walk: &Walk<S>) -> String {
    match walk.status() {
        Status::Running => S::name(walk.state()),
        status => status.as_str().to_owned(),
    }
}

pub(super) struct Explorer<S: Samples> {
    /// Positions by what tells them apart: their number and where the diagram shows them.
    pub(super) seen: HashMap<String, usize>,
    queue: VecDeque<(usize, Walk<S>)>,
    pub(super) edges: Vec<(usize, usize)>,
    pub(super) ends: BTreeMap<usize, Status>,
    pub(super) faults: Vec<String>,
    pub(super) told: HashSet<String>,
    pub(super) heard: Heard,
    /// The outcomes that unwind at once: the step and its event, by name.
    refusals: HashSet<(String, String)>,
    diagram: Diagram,
    /// The sagas of its children that it may still take back.
    bound: BTreeSet<&'static str>,
    has_pivot: bool,
    /// The data that rows of instances hold.
    stored: StoredSamples,
}

/// The signals (as JSON) that were taken or kept in any position.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) taken: HashSet<String>,
    pub(super) kept: HashSet<String>,
    /// Kept first and taken later.
    pub(super) taken_late: HashSet<String>,
}

impl<S: Samples> Explorer<S> {
    /// The number of a position; a new one is put into the queue.
    fn arrive(&mut self, walk: Walk<S>) -> usize {
        let position = walk.position(S::position(walk.state()));
        let next = self.seen.len();
        let at = *self.seen.entry(position).or_insert(next);
        if at == next {
            self.bound.extend(&walk.bound);
            self.stored.see(&walk.instance);
            self.must_read_back(&walk);
            assert!(next < POSITIONS, "more than {POSITIONS} positions: does {} count?", S::NAME);
            if walk.status().is_final() {
                self.must_balance(&walk);
                self.ends.insert(at, walk.status());
            } else if walk.status() == Status::Stuck {
                self.ends.insert(at, Status::Stuck);
            }
            self.queue.push_back((at, walk));
        }
        at
    }

    /// Tries everything that may happen at a position.
    fn look(&mut self, at: usize, walk: &Walk<S>) {
        match walk.asks() {
            Asks::Nothing | Asks::Person => return,
            Asks::Run(step) => {
                self.diagram.asks(&place(walk), &format!("run {}", name(&step)));
                self.turns_out(at, walk, &step);
            }
            Asks::Call(step) => {
                if walk.status() == Status::Running {
                    self.diagram.asks(&place(walk), &format!("call {}", name(&step)));
                }
                self.turns_out(at, walk, &step);
                if walk.status() == Status::Running {
                    let mut given_up = walk.fork();
                    given_up.is_given_up();
                    self.goes(at, walk, "given up", given_up);
                } else {
                    let mut dropped = walk.fork();
                    dropped.takes_back();
                    self.goes(at, walk, "dropped", dropped);
                }
            }
            Asks::Children => self.children(at, walk),
            Asks::CallOffChildren => {
                let mut taken_back = walk.fork();
                taken_back.takes_back();
                self.goes(at, walk, "children taken back", taken_back);
            }
            Asks::Undo(done) => {
                self.takes_back(&done);
                let mut taken_back = walk.fork();
                taken_back.takes_back();
                self.goes(at, walk, "taken back", taken_back);
            }
            Asks::Wait(until) => self.waits(at, walk, until.is_some()),
        }
        self.signals(at, walk);
    }

    /// The diagram shows how a step is taken back.
    fn takes_back(&mut self, done: &Done<S::Step>) {
        let step = match done {
            Done::Step(step) => name(step),
            Done::Caller(step) => name(step),
        };
        let back = match done.way_back() {
            WayBack::InTx(method) => format!("`{method}`, in a transaction"),
            WayBack::ByCall(method) => format!("`{method}`, by a call"),
            WayBack::Nothing => return,
            WayBack::Pivot => "the pivot: nothing is taken back after it".to_owned(),
        };
        self.diagram.way_back(&step, &Some(back));
    }

    fn turns_out(&mut self, at: usize, walk: &Walk<S>, step: &S::Step) {
        self.has_pivot |= step.way_back() == WayBack::Pivot;
        self.takes_back(&Done::Step(step.clone()));
        let samples = S::outcomes(step);
        if samples.is_empty() {
            let step = name(step);
            self.fault(format!(
                "{step} has no sample outcome: say in `Samples::outcomes` how it may turn out"
            ));
        }
        for Sample { event, stands } in samples {
            let label = name(&event);
            self.event_must_read_back(&event);
            if unwinds(walk, &event) {
                self.refusals.insert((name(step), label.clone()));
                self.must_say_refused(step, &event, stands);
            }
            let mut next = walk.fork();
            match next.try_answer(event, stands) {
                Ok(()) => self.goes(at, walk, &label, next),
                Err(why) => {
                    self.not_allowed(&format!("when {} answers {label}", name(step)), &why);
                }
            }
        }
    }

    fn held_children_have_no_pivot(&mut self) {
        for child in std::mem::take(&mut self.bound) {
            match crate::run::explored::has_pivot(child) {
                Some(false) => {}
                Some(true) => self.fault(format!(
                    "{child} has a pivot: its instances may be children only after the pivot of {}",
                    S::NAME
                )),
                None => {
                    self.fault(format!("explore {child} first: {} has it as children", S::NAME))
                }
            }
        }
    }

    /// All completed, or not all: the saga is asked what each means to it.
    fn children(&mut self, at: usize, walk: &Walk<S>) {
        let all = Joined { completed: 1, ..Joined::default() };
        let some = Joined { completed: 1, unwound: 1, ..Joined::default() };
        for (label, ends) in [("children completed", all), ("some children unwound", some)] {
            let mut next = walk.fork();
            match next.try_join(ends) {
                Ok(()) => self.goes(at, walk, label, next),
                Err(why) => self.not_allowed(&format!("when {label} in {}", place(walk)), &why),
            }
        }
    }

    fn waits(&mut self, at: usize, walk: &Walk<S>, timer: bool) {
        if timer {
            let mut next = walk.fork();
            match next.try_fire() {
                Ok(()) => self.goes(at, walk, "time passes", next),
                Err(why) => self.not_allowed(&format!("when time passes in {}", place(walk)), &why),
            }
            return;
        }
        let leaves = S::signals().iter().any(|signal| {
            let mut next = walk.fork();
            next.try_signal(signal) == Ok(Answer::Applied) && place(&next) != place(walk)
        });
        if !leaves {
            self.fault(format!(
                "nothing leaves {}: no timer, no signal. Wait with `or_after`, or let `on` take a signal there (and list it in \
                 `Samples::signals`)",
                place(walk)
            ));
        }
    }

    fn signals(&mut self, at: usize, walk: &Walk<S>) {
        for signal in S::signals() {
            self.signal_must_read_back(&signal);
            let mut next = walk.fork();
            match next.try_signal(&signal) {
                Ok(Answer::Applied) => {
                    self.heard.taken.insert(json(&signal));
                    self.must_change(walk, &signal, &next);
                    self.goes(at, walk, &name(&signal), next);
                }
                // One of a kind is enough to see what a kept one does.
                Ok(Answer::Kept) if !walk.keeps(&signal) => {
                    self.heard.kept.insert(json(&signal));
                    let to = self.arrive(next);
                    self.edges.push((at, to));
                }
                Ok(_) => {}
                Err(why) => {
                    let when = format!("when {} comes in {}", name(&signal), place(walk));
                    self.not_allowed(&when, &why);
                }
            }
        }
    }

    fn goes(&mut self, from: usize, walk: &Walk<S>, label: &str, next: Walk<S>) {
        if !(walk.status() == Status::Unwinding && next.status() == Status::Unwinding) {
            self.diagram.edge(&place(walk), label, &place(&next));
        }
        self.heard.taken_late.extend(next.took.iter().cloned());
        let to = self.arrive(next);
        self.edges.push((from, to));
    }
}

impl<S: Samples> Walk<S> {
    /// Does it keep a signal like this already?
    fn keeps(&self, signal: &S::Signal) -> bool {
        self.instance.kept.iter().any(|(_, kept)| json(kept) == json(signal))
    }
}

/// Does the event decide at once that everything is taken back?
fn unwinds<S: Saga>(walk: &Walk<S>, event: &S::Event) -> bool {
    on::<S>(walk.state().clone(), event.clone())
        .is_ok_and(|next| matches!(next.then, Then::Unwind(_)))
}
