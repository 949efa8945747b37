//! The whole graph of a saga, walked from the outcomes that its steps may have.
//!
//! Every position that the samples can lead to is visited, in memory, by the code that moves instances in production: each outcome of
//! each step, each signal in each state, each timer, each activity given up, each undo. What would get an instance stuck, leave it
//! waiting for nothing, or keep it from ever ending, is found here and not by a customer. Time-outs, crashes and lost commits
//! are not walked: they change no position (see [`crate::testing::survives_every_crash`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::{
    diagram::Diagram,
    walk::{Asks, Walk, name, walk},
};
use crate::{
    saga::{Joined, Saga, Step, Undo},
    signal::Answer,
    status::Status,
};

/// More positions than this are a sign of data that grows without end (a counter): see [`Samples::position`].
const POSITIONS: usize = 20_000;

/// What may happen to a saga, by samples that stand for all the rest.
pub trait Samples: Saga {
    /// What it may be started with.
    fn inputs() -> Vec<Self::Input>;

    /// How a step may turn out. Undos are not asked for: they are done.
    fn outcomes(step: &Step<Self>) -> Vec<Sample<Self::Event>>;

    /// The signals that may come at any time.
    fn signals() -> Vec<Self::Event> {
        Vec::new()
    }

    /// What tells two states apart that the saga treats differently. Override it where a state counts or carries free text.
    fn position(state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// The name of a state in the diagram: its variant.
    fn name(state: &Self::State) -> String {
        name(state)
    }
}

/// One outcome of a step.
#[derive(Debug, Clone)]
pub struct Sample<E> {
    event: E,
    stands: bool,
}

impl<E> Sample<E> {
    /// The step was done; a declared effect stands.
    pub fn done(event: E) -> Self {
        Self { event, stands: true }
    }

    /// The activity was refused: it has no effect.
    pub fn refused(event: E) -> Self {
        Self { event, stands: false }
    }
}

/// What exploring found.
#[derive(Debug)]
pub struct Map {
    /// What is wrong, in words; empty for a sound saga.
    pub faults: Vec<String>,
    /// How instances may end.
    pub ends: Vec<Status>,
    /// How many positions there are.
    pub positions: usize,
    diagram: String,
}

impl Map {
    /// The graph as a Mermaid state diagram in a Markdown page, the same for the same saga.
    #[must_use]
    pub fn diagram(&self) -> &str {
        &self.diagram
    }

    /// Fails with all faults.
    ///
    /// # Panics
    /// When there is a fault.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "the saga is not sound:\n- {}", self.faults.join("\n- "));
    }

    /// Compares the diagram with the committed page. Run the test with `UPDATE_DIAGRAMS=1` to write the page anew.
    ///
    /// # Panics
    /// When they differ.
    #[track_caller]
    pub fn assert_drawn_in(&self, page: impl AsRef<std::path::Path>) {
        super::diagram::assert_drawn_in(&self.diagram, page.as_ref());
    }
}

/// Walks the whole graph.
///
/// # Panics
/// When there are more than 20,000 positions.
#[must_use]
pub fn explore<S: Samples>() -> Map {
    super::explored::remember::<S>();
    let mut explorer = Explorer::<S> {
        seen: HashMap::new(),
        queue: VecDeque::new(),
        edges: Vec::new(),
        ends: BTreeMap::new(),
        faults: Vec::new(),
        told: HashSet::new(),
        diagram: Diagram::new(S::NAME),
    };
    for input in S::inputs() {
        let begun = walk::<S>(input);
        explorer.diagram.start(&place(&begun));
        explorer.arrive(begun);
    }
    while let Some((at, position)) = explorer.queue.pop_front() {
        explorer.look(at, &position);
    }
    explorer.must_end();
    let statuses = explorer.ends.values().map(|status| status.as_str()).collect::<BTreeSet<_>>();
    Map {
        faults: explorer.faults,
        ends: statuses.into_iter().filter_map(Status::parse).collect(),
        positions: explorer.seen.len(),
        diagram: explorer.diagram.draw(),
    }
}

/// Where the diagram shows a position.
fn place<S: Samples>(walk: &Walk<S>) -> String {
    match walk.status() {
        Status::Running => S::name(walk.state()),
        status => status.as_str().to_owned(),
    }
}

struct Explorer<S: Samples> {
    /// Positions by what tells them apart: their number and where the diagram shows them.
    seen: HashMap<String, usize>,
    queue: VecDeque<(usize, Walk<S>)>,
    edges: Vec<(usize, usize)>,
    ends: BTreeMap<usize, Status>,
    faults: Vec<String>,
    told: HashSet<String>,
    diagram: Diagram,
}

impl<S: Samples> Explorer<S> {
    fn fault(&mut self, fault: String) {
        if self.told.insert(fault.clone()) {
            self.faults.push(fault);
        }
    }

    /// The number of a position; a new one is put into the queue.
    fn arrive(&mut self, walk: Walk<S>) -> usize {
        let position = walk.position(S::position(walk.state()));
        let next = self.seen.len();
        let at = *self.seen.entry(position).or_insert(next);
        if at == next {
            assert!(next < POSITIONS, "more than {POSITIONS} positions: does {} count?", S::NAME);
            if walk.status().is_final() {
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
                self.turns_out(at, walk, &Step::Tx(step));
            }
            Asks::Call(activity) => {
                if walk.status() == Status::Running {
                    self.diagram.asks(&place(walk), &format!("call {}", name(&activity)));
                }
                self.turns_out(at, walk, &Step::Activity(activity));
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
            Asks::Undo(by) => {
                if !matches!(S::undo(&by), Undo::Nothing) {
                    self.fault(format!("{} is an undo and has an undo itself", step_name(&by)));
                }
                let mut taken_back = walk.fork();
                taken_back.takes_back();
                self.goes(at, walk, "taken back", taken_back);
            }
            Asks::Wait(until) => self.waits(at, walk, until.is_some()),
        }
        self.signals(at, walk);
    }

    fn turns_out(&mut self, at: usize, walk: &Walk<S>, step: &Step<S>) {
        self.diagram.way_back(
            &step_name(step),
            &match S::undo(step) {
                Undo::By(by) => Some(format!("taken back by {}", step_name(&by))),
                Undo::Nothing => None,
                Undo::Pivot => Some("the pivot: nothing is taken back after it".to_owned()),
            },
        );
        let samples = S::outcomes(step);
        if samples.is_empty() {
            self.fault(format!("{} has no sample outcome", step_name(step)));
        }
        for Sample { event, stands } in samples {
            let label = name(&event);
            let mut next = walk.fork();
            match next.try_answer(event, stands) {
                Ok(()) => self.goes(at, walk, &label, next),
                Err(why) => self.fault(why),
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
                Err(why) => self.fault(why),
            }
        }
    }

    fn waits(&mut self, at: usize, walk: &Walk<S>, timer: bool) {
        if timer {
            let mut next = walk.fork();
            match next.try_fire() {
                Ok(()) => self.goes(at, walk, "time passes", next),
                Err(why) => self.fault(why),
            }
            return;
        }
        let leaves = S::signals().iter().any(|signal| {
            let mut next = walk.fork();
            next.try_signal(signal) == Ok(Answer::Applied) && place(&next) != place(walk)
        });
        if !leaves {
            self.fault(format!("nothing leaves {}: no timer, no signal", place(walk)));
        }
    }

    fn signals(&mut self, at: usize, walk: &Walk<S>) {
        for signal in S::signals() {
            let mut next = walk.fork();
            match next.try_signal(&signal) {
                Ok(Answer::Applied) => self.goes(at, walk, &name(&signal), next),
                // One of a kind is enough to see what a kept one does.
                Ok(Answer::Kept) if !walk.keeps(&signal) => {
                    let to = self.arrive(next);
                    self.edges.push((at, to));
                }
                Ok(_) => {}
                Err(why) => self.fault(format!("{} in {}: {why}", name(&signal), place(walk))),
            }
        }
    }

    fn goes(&mut self, from: usize, walk: &Walk<S>, label: &str, next: Walk<S>) {
        if !(walk.status() == Status::Unwinding && next.status() == Status::Unwinding) {
            self.diagram.edge(&place(walk), label, &place(&next));
        }
        let to = self.arrive(next);
        self.edges.push((from, to));
    }

    /// From everywhere some end can be reached.
    fn must_end(&mut self) {
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
            self.fault(format!("no end can be reached from {position}"));
        }
    }
}

fn step_name<S: Saga>(step: &Step<S>) -> String {
    match step {
        Step::Tx(step) => name(step),
        Step::Activity(activity) => name(activity),
    }
}
