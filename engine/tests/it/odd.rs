//! `Odd`: what no good saga does, and what few do.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Key, Next, Outcome, Retry, Saga, StepError, StepTx, Terms, Undoing, Undone,
    Unexpected,
    limits::POSITION_BYTES,
    signals, steps,
    testing::{Sample, Samples},
    to, unwind,
};

use crate::provider::{Answer, Provider, cause};

pub(crate) struct Odd;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Input {
    /// A chain of so many tx steps, at once.
    Chain(u8),
    /// The same after a signal.
    LateChain(u8),
    /// A call, then one whose terms make the saga panic.
    Explode,
    /// A call that is the pivot.
    Charge,
    /// A call that may be repeated and is never asked about.
    Post,
    /// The same, and then more than may be stored.
    PostAndSwell,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Left(u8),
    Exploding,
    Charging,
    Posting,
    Swelling,
    Swollen(String),
    Over,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Linked,
    Go,
    Stop,
    Done,
}

signals! {
    pub(crate) enum Signal as Event { Go => refuse, Stop => refuse }
}

steps! {
    pub(crate) enum Step done by Oddities -> Event, undone for Reason {
        Link => tx(link).no_undo(),
        Ping => call(ping, odd()).repeatable().no_undo(),
        Explode => call(explode, panic!("scripted")).repeatable().no_undo(),
        Charge => call(charge, odd()).repeatable().pivot(),
        Post => call(post, odd()).repeatable().undo_call(unpost, odd()),
    }
}

fn odd() -> Terms {
    let retry = Retry { base: Duration::from_secs(60), cap: Duration::from_secs(60) };
    Terms { retry, ..Terms::effect("odd") }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Reason;

impl From<CalledOff<Step>> for Reason {
    fn from(_: CalledOff<Step>) -> Self {
        Self
    }
}

impl Saga for Odd {
    const NAME: &'static str = "odd";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = Reason;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Chain(links) => to(State::Left(links)).run(Step::Link),
            Input::LateChain(links) => to(State::Left(links)).wait(),
            Input::Explode => to(State::Exploding).run(Step::Ping),
            Input::Charge => to(State::Charging).run(Step::Charge),
            Input::Post => to(State::Posting).run(Step::Post),
            Input::PostAndSwell => to(State::Swelling).run(Step::Post),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Left(1), Event::Linked) => to(State::Over).done(),
            (State::Left(links), Event::Linked) => to(State::Left(links - 1)).run(Step::Link),
            (State::Left(links), Event::Go) => to(State::Left(links)).run(Step::Link),
            (State::Exploding, Event::Done) => to(State::Over).run(Step::Explode),
            (State::Swelling, Event::Done) => to(State::Swollen("x".repeat(POSITION_BYTES))).wait(),
            (State::Charging | State::Posting, Event::Done) => to(State::Over).done(),
            (_, Event::Stop) => unwind(Reason),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

pub(crate) struct OddSteps(pub(crate) Arc<Provider>);

impl OddSteps {
    async fn ask(&self, op: &str, key: &Key) -> Outcome<Event> {
        match self.0.ask(op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(Event::Done, reference),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }
}

impl Oddities for OddSteps {
    async fn link(&self, tx: &mut StepTx<'_>) -> Result<Event, StepError> {
        self.0.in_tx("link", tx).await?;
        Ok(Event::Linked)
    }

    async fn ping(&self, key: &Key) -> Outcome<Event> {
        self.ask("ping", key).await
    }

    async fn explode(&self, key: &Key) -> Outcome<Event> {
        self.ask("explode", key).await
    }

    async fn charge(&self, key: &Key) -> Outcome<Event> {
        self.ask("charge", key).await
    }

    async fn post(&self, key: &Key) -> Outcome<Event> {
        self.ask("post", key).await
    }

    async fn unpost(&self, undoing: &Undoing<Reason>) -> Undone {
        match self.0.ask("unpost", &undoing.key.to_string(), None, "").await {
            Answer::Done(reference) => Undone::Undone(Some(reference)),
            Answer::NotDone => Undone::AnsweredNo(cause("not now")),
            _ => Undone::NotDone(cause("no answer")),
        }
    }
}

/// Without [`Input::Explode`]: what makes the saga panic, exploring cannot walk through.
impl Samples for Odd {
    fn inputs() -> Vec<Input> {
        vec![Input::Chain(2), Input::LateChain(2), Input::Charge, Input::Post]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Link => vec![Sample::done(Event::Linked)],
            _ => vec![Sample::done(Event::Done)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Go, Signal::Stop]
    }
}
