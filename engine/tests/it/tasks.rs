//! `Task`: something done outside, then its sub-tasks as children, then (a root only) a settlement that cannot be taken back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, Child, EffectKind, EffectRow, Joined, Next, Outcome, Saga, Start, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected, stay,
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Never {}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Do {
    Act(String),
    TakeBack(String),
    Settle(String),
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
        if IS_ROOT { to(State::Settling).call(Do::Settle(name)) } else { to(State::Done).done() }
    }
}

impl<const IS_ROOT: bool> Saga for Task<IS_ROOT> {
    const NAME: &'static str = if IS_ROOT { "root" } else { "leaf" };
    const VERSION: u16 = 1;
    type Input = Todo;
    type State = State;
    type Event = Event;
    type Tx = Never;
    type Activity = Do;
    type Reason = String;

    fn start(todo: Todo) -> Next<Self> {
        if todo.acts {
            let act = Do::Act(todo.name.clone());
            to(State::Acting(todo)).call(act)
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

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Do::Act(name)) => Undo::By(Step::Activity(Do::TakeBack(name.clone()))),
            Step::Activity(Do::TakeBack(_)) => Undo::Nothing,
            Step::Activity(Do::Settle(_)) => Undo::Pivot,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(activity: &Do) -> Terms {
        let effect = EffectKind { kind: "work", amount: None };
        let effect = (!matches!(activity, Do::Settle(_))).then_some(effect);
        Terms { effect, retry: quick(), enough: Some(5), ..Terms::new() }
    }

    fn called_off(why: CalledOff<Do>) -> String {
        match why {
            CalledOff::GaveUp(_) => "gave up".to_owned(),
            CalledOff::Deadline => "too late".to_owned(),
            CalledOff::ByParent => "the parent unwinds".to_owned(),
            CalledOff::Cancelled(why) => why,
        }
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

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Activity(Do::Act(_)) => {
                vec![Sample::done(Event::Acted), Sample::refused(Event::Declined)]
            }
            Step::Activity(Do::Settle(_)) => vec![Sample::done(Event::Settled)],
            Step::Activity(Do::TakeBack(_)) | Step::Tx(_) => Vec::new(),
        }
    }

    fn signals() -> Vec<Event> {
        vec![Event::Note, Event::Cancel]
    }

    fn position(state: &State) -> String {
        match state {
            State::Joining { .. } => "Joining".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

pub(crate) struct TaskSteps(pub(crate) Arc<Provider>);

impl<const IS_ROOT: bool> Steps<Task<IS_ROOT>> for TaskSteps {
    async fn run(&self, _: &mut PgConnection, step: &Never) -> Result<Event, StepError> {
        match *step {}
    }

    async fn undo_run(
        &self,
        _: &mut PgConnection,
        step: &Never,
        _: &String,
    ) -> Result<(), StepError> {
        match *step {}
    }

    async fn call(&self, key: &ActivityKey, activity: &Do) -> Outcome<Event> {
        let (op, done) = match activity {
            Do::Act(name) => (format!("do-{name}"), Event::Acted),
            Do::Settle(name) => (format!("settle-{name}"), Event::Settled),
            Do::TakeBack(_) => unreachable!("undos come by undo_call"),
        };
        match self.0.ask(&op, &key.to_string(), None, "").await {
            Answer::Done(_) if matches!(activity, Do::Settle(_)) => Outcome::event(done),
            Answer::Done(reference) => Outcome::confirmed(done, reference),
            Answer::Declined => Outcome::refuted(Event::Declined),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &Do,
        effect: Option<&EffectRow>,
        reason: &String,
    ) -> Undone {
        let Do::TakeBack(name) = undo else { unreachable!("only undos undo") };
        // Nobody may have heard of what was done: the provider knows.
        let did = ActivityKey { undo: false, ..*key }.to_string();
        let known = effect.and_then(|effect| effect.reference.clone());
        let Some(done) = known.or_else(|| self.0.find(&format!("do-{name}"), &did)) else {
            return Undone::Nothing;
        };
        match self.0.ask(&format!("undo-{name}"), &key.to_string(), Some(&done), reason).await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::Declined => Undone::Impossible(cause("it cannot be taken back")),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}
