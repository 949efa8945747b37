//! `Odd`: what no good saga does, and what few do.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    ActivityKey, CalledOff, EffectKind, EffectRow, Next, Outcome, Retry, Saga, Step, StepError,
    Steps, Terms, Undo, Undone, Unexpected,
    limits::POSITION_BYTES,
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
    /// An activity, then one whose undo makes the saga panic.
    Explode,
    /// An activity that is the pivot.
    Charge,
    /// An activity that may be repeated and is never asked about.
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

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Link;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Ping,
    Explode,
    Charge,
    Post,
    Unpost,
}

impl Saga for Odd {
    const NAME: &'static str = "odd";
    const VERSION: u16 = 1;
    type Input = Input;
    type State = State;
    type Event = Event;
    type Tx = Link;
    type Activity = Activity;
    type Reason = ();

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Chain(links) => to(State::Left(links)).run(Link),
            Input::LateChain(links) => to(State::Left(links)).wait(),
            Input::Explode => to(State::Exploding).call(Activity::Ping),
            Input::Charge => to(State::Charging).call(Activity::Charge),
            Input::Post => to(State::Posting).call(Activity::Post),
            Input::PostAndSwell => to(State::Swelling).call(Activity::Post),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Left(1), Event::Linked) => to(State::Over).done(),
            (State::Left(links), Event::Linked) => to(State::Left(links - 1)).run(Link),
            (State::Left(links), Event::Go) => to(State::Left(links)).run(Link),
            (State::Exploding, Event::Done) => to(State::Over).call(Activity::Explode),
            (State::Swelling, Event::Done) => to(State::Swollen("x".repeat(POSITION_BYTES))).wait(),
            (State::Charging | State::Posting, Event::Done) => to(State::Over).done(),
            (_, Event::Stop) => unwind(()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Activity(Activity::Explode) => panic!("scripted"),
            Step::Activity(Activity::Charge) => Undo::Pivot,
            Step::Activity(Activity::Post) => Undo::By(Step::Activity(Activity::Unpost)),
            Step::Tx(Link) | Step::Activity(Activity::Ping | Activity::Unpost) => Undo::Nothing,
        }
    }

    fn terms(_: &Activity) -> Terms {
        Terms {
            effect: Some(EffectKind { kind: "odd", amount: None }),
            retry: Retry { base: Duration::from_secs(60), cap: Duration::from_secs(60) },
            ..Terms::new()
        }
    }

    fn called_off(_: CalledOff<Activity>) {}
}

pub(crate) struct OddSteps(pub(crate) Arc<Provider>);

impl Steps<Odd> for OddSteps {
    async fn run(&self, tx: &mut PgConnection, _: &Link) -> Result<Event, StepError> {
        self.0.in_tx("link", tx).await?;
        Ok(Event::Linked)
    }

    async fn undo_run(&self, _: &mut PgConnection, _: &Link, (): &()) -> Result<(), StepError> {
        unreachable!("links are not taken back")
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let op = format!("{activity:?}").to_lowercase();
        match self.0.ask(&op, &key.to_string(), None, "").await {
            Answer::Done(reference) => Outcome::confirmed(Event::Done, reference),
            Answer::NotDone => Outcome::AnsweredNo(cause("not now")),
            _ => Outcome::Unknown(cause("no answer")),
        }
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        _: Option<&EffectRow>,
        (): &(),
    ) -> Undone {
        match self.0.ask("unpost", &key.to_string(), None, "").await {
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

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        match step {
            Step::Tx(Link) => vec![Sample::done(Event::Linked)],
            Step::Activity(_) => vec![Sample::done(Event::Done)],
        }
    }

    fn signals() -> Vec<Event> {
        vec![Event::Go, Event::Stop]
    }
}
