//! `Task`: something done outside, then its sub-tasks as children, then (a root only) a settlement that cannot be taken back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Child, Joined, Key, Next, Outcome, Saga, Start, Terms, Undoing, Undone, Unexpected, signals,
    stay, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause, quick};

/// Of a [`ROOT`] or not.
pub(crate) struct Task<const IS_ROOT: bool>;

pub(crate) type Root = Task<true>;
pub(crate) type Leaf = Task<false>;

/// Its name is what the provider is asked for; names are unique among open ones.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Todo {
    pub(crate) name: String,
    pub(crate) parts: Vec<Todo>,
    /// It asks the outside before it has its parts done, too.
    pub(crate) acts: bool,
}

impl Todo {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), parts: Vec::new(), acts: true }
    }

    pub(crate) fn with(mut self, parts: impl IntoIterator<Item = Todo>) -> Self {
        self.parts.extend(parts);
        self
    }

    fn start<const IS_ROOT: bool>(self) -> Start<Todo> {
        Start::new(self.name.clone(), self)
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Acting(Todo),
    Joining { name: String, notes: u32 },
    Settling,
    Done,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Acted,
    Declined,
    PartsEnded(Joined),
    Settled,
    Note,
    Cancel,
}

signals! {
    pub(crate) enum Signal as Event { Note => refuse, Cancel => refuse }
}

steps! {
    pub(crate) enum Step done by Working -> Event, undone for String {
        Act(name: String) => call(act, acting()).repeatable().undo_call(take_back, patient()),
        Settle(name: String) => call(settle, patient()).repeatable().pivot(),
    }
}

fn patient() -> Terms {
    Terms { retry: quick(), enough: Some(5), ..Terms::new() }
}

fn acting() -> Terms {
    Terms { effect: Terms::effect("work").effect, ..patient() }
}

impl<const IS_ROOT: bool> Task<IS_ROOT> {
    fn parts(todo: Todo) -> Next<Self> {
        if todo.parts.is_empty() {
            return Self::settle(todo.name);
        }
        let parts = todo.parts.into_iter().map(|part| Child::of::<Leaf>(part.start::<false>()));
        to(State::Joining { name: todo.name, notes: 0 }).children(parts.collect())
    }

    fn settle(name: String) -> Next<Self> {
        if IS_ROOT { to(State::Settling).run(Step::Settle(name)) } else { to(State::Done).done() }
    }
}

impl<const IS_ROOT: bool> Saga for Task<IS_ROOT> {
    const NAME: &'static str = if IS_ROOT { "root" } else { "leaf" };
    type Input = Todo;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(todo: Todo) -> Next<Self> {
        if todo.acts {
            let act = Step::Act(todo.name.clone());
            to(State::Acting(todo)).run(act)
        } else {
            Self::parts(todo)
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Acting(todo), Event::Acted) => Self::parts(todo),
            (State::Acting(_), Event::Declined) => unwind("declined".to_owned()),
            (State::Joining { .. }, Event::PartsEnded(ends)) if ends.unwound > 0 => {
                unwind(format!("{} of {} failed", ends.unwound, ends.unwound + ends.completed))
            }
            (State::Joining { name, .. }, Event::PartsEnded(_)) => Self::settle(name),
            (State::Settling, Event::Settled) => to(State::Done).done(),
            (State::Joining { name, notes }, Event::Note) => {
                stay(State::Joining { name, notes: notes + 1 })
            }
            (State::Acting(_) | State::Joining { .. }, Event::Cancel) => {
                unwind("cancelled".to_owned())
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn joined(ends: &Joined) -> Option<Event> {
        Some(Event::PartsEnded(*ends))
    }
}

impl<const IS_ROOT: bool> Samples for Task<IS_ROOT> {
    fn inputs() -> Vec<Todo> {
        let whole = Todo::new("whole").with([Todo::new("part")]);
        vec![Todo { acts: false, ..whole.clone() }, whole, Todo::new("alone")]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Act(_) => {
                vec![Sample::done(Event::Acted), Sample::refused(Event::Declined)]
            }
            Step::Settle(_) => vec![Sample::done(Event::Settled)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Note, Signal::Cancel]
    }

    fn position(state: &State) -> String {
        match state {
            State::Joining { .. } => "Joining".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

pub(crate) struct TaskSteps(pub(crate) Arc<Provider>);

impl TaskSteps {
    async fn ask(
        &self,
        op: String,
        key: &Key,
        done: fn(String) -> Outcome<Event>,
    ) -> Outcome<Event> {
        match self.0.ask(&op, &key.to_string(), None, "").await {
            Answer::Done(reference) => done(reference),
            Answer::Declined => Outcome::refuted(Event::Declined),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }
}

impl Working for TaskSteps {
    async fn act(&self, key: &Key, name: &String) -> Outcome<Event> {
        let acted = |reference| Outcome::confirmed(Event::Acted, reference);
        self.ask(format!("do-{name}"), key, acted).await
    }

    async fn take_back(&self, name: &String, undoing: &Undoing<String>) -> Undone {
        // Nobody may have heard of what was done: the provider knows.
        let (key, did) = (undoing.key.to_string(), undoing.step_key.to_string());
        let known = undoing.reference.clone();
        let Some(done) = known.or_else(|| self.0.find(&format!("do-{name}"), &did)) else {
            return Undone::Nothing;
        };
        match self.0.ask(&format!("undo-{name}"), &key, Some(&done), &undoing.reason).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("it cannot be taken back")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }

    async fn settle(&self, key: &Key, name: &String) -> Outcome<Event> {
        self.ask(format!("settle-{name}"), key, |_| Outcome::event(Event::Settled)).await
    }
}
