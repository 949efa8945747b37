//! `Glutton` passes every limit: each time it is stuck with a reason, or who asked is refused.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Answer, Engine, Key, Limit, Next, Outcome, Saga, SignalError, Start, StartError, Unexpected,
    limits::{EVENT_BYTES, JOURNAL_LENGTH, KEPT_SIGNALS, POSITION_BYTES, SIGNALLED_LENGTH},
    signals, stay, steps,
    testing::{Sample, Samples, explore},
    to,
};
use uuid::Uuid;

use crate::world::{World, quick, work_on};

struct Glutton;

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Does {
    Spin,
    Grow,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Spinning,
    Growing,
    Waiting(u32),
    Fat(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Done,
    Note(String),
    Later,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Input {
    Do(Does),
    Wait,
    Eat(String),
}

signals! {
    enum Signal as Event { Note(note: String) => refuse, Later => keep }
}

steps! {
    enum Step done by Gluttony -> Event, undone for String {
        Spin => call(spin).repeatable().no_undo(),
        Grow => call(grow).repeatable().no_undo(),
    }
}

impl Saga for Glutton {
    const NAME: &'static str = "glutton";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Do(Does::Spin) => to(State::Spinning).run(Step::Spin),
            Input::Do(Does::Grow) => to(State::Growing).run(Step::Grow),
            Input::Wait => to(State::Waiting(0)).wait(),
            Input::Eat(what) => to(State::Fat(what.repeat(2))).wait(),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Spinning, Event::Done) => to(State::Spinning).run(Step::Spin),
            (State::Growing, Event::Done) => to(State::Fat("x".repeat(POSITION_BYTES))).wait(),
            (State::Waiting(n), Event::Note(_)) => stay(State::Waiting(n + 1)),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Glutton {
    fn inputs() -> Vec<Input> {
        vec![Input::Do(Does::Spin), Input::Do(Does::Grow), Input::Wait]
    }

    fn outcomes(_: &Step) -> Vec<Sample<Event>> {
        vec![Sample::done(Event::Done)]
    }
}

struct GluttonSteps;

impl Gluttony for GluttonSteps {
    async fn spin(&self, _: &Key) -> Outcome<Event> {
        Outcome::event(Event::Done)
    }

    async fn grow(&self, _: &Key) -> Outcome<Event> {
        Outcome::event(Event::Done)
    }
}

async fn world() -> (World, Engine) {
    let world = World::new().await;
    // No path of it ends: that is what is tried here.
    assert!(!explore::<Glutton>().faults.is_empty());
    let engine = Engine::builder(world.pool.clone()).saga::<Glutton, _>(GluttonSteps).build();
    (world, engine)
}

async fn start(engine: &Engine, input: Input) -> Result<Uuid, StartError> {
    let mut tx = engine.begin().await.expect("the database is there");
    let started = engine.start::<Glutton>(&mut tx, Start::new("g", input)).await?;
    tx.commit().await.expect("the database is there");
    Ok(started.id)
}

async fn tell(engine: &Engine, id: Uuid, name: &str, sent: Signal) -> Result<Answer, SignalError> {
    let mut tx = engine.begin().await.expect("the database is there");
    let answer = engine.signal::<Glutton>(&mut tx, id, name, sent).await?;
    tx.commit().await.expect("the database is there");
    Ok(answer)
}

async fn set(world: &World, id: Uuid, kept: i16, seq: i32) {
    sqlx::query(
        "-- name: test near the limit\nupdate saga.instance set kept = $2, seq = $3 where saga_id = $1",
    )
    .bind(id)
    .bind(kept)
    .bind(seq)
    .execute(&world.pool)
    .await
    .expect("the database is there");
}

#[tokio::test]
async fn a_position_that_grows_too_large_is_stuck_with_a_reason() {
    let (world, engine) = world().await;
    let worker = work_on(&engine, quick()).await;
    let id = start(&engine, Input::Do(Does::Grow)).await.expect("new");
    let seen = world.ended(id).await;
    let why = seen.last_error.expect("a reason");
    assert_eq!(seen.status, "stuck");
    assert!(why.contains("state, pending step and undos are 262"), "{why}");
    assert_eq!(seen.state, "\"Growing\"", "nothing of it was stored");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_input_or_a_signal_that_is_too_large_is_refused_and_leaves_nothing() {
    let (world, engine) = world().await;
    let too_much = "x".repeat(EVENT_BYTES);
    let refused = start(&engine, Input::Eat(too_much.clone())).await;
    assert!(matches!(refused, Err(StartError::OverLimit(Limit::Event(_)))), "{:?}", refused.err());
    let half = "x".repeat(EVENT_BYTES * 3 / 4);
    let refused = start(&engine, Input::Eat(half)).await;
    assert!(matches!(refused, Err(StartError::OverLimit(Limit::Position(_)))));
    let id = start(&engine, Input::Wait).await.expect("nothing of that subject is open");
    let refused = tell(&engine, id, "big", Signal::Note(too_much)).await;
    assert!(matches!(refused, Err(SignalError::OverLimit(Limit::Event(_)))));
    assert_eq!(world.see(id).await.seq, 1);
    world.close().await;
}

#[tokio::test]
async fn who_sends_one_signal_more_than_may_be_kept_is_told() {
    let (world, engine) = world().await;
    let id = start(&engine, Input::Wait).await.expect("new");
    set(&world, id, KEPT_SIGNALS - 1, 1).await;
    assert!(matches!(tell(&engine, id, "last", Signal::Later).await, Ok(Answer::Kept)));
    let refused = tell(&engine, id, "more", Signal::Later).await;
    assert!(matches!(refused, Err(SignalError::OverLimit(Limit::KeptSignals))));
    assert!(matches!(tell(&engine, id, "last", Signal::Later).await, Ok(Answer::Duplicate)));
    world.close().await;
}

#[tokio::test]
async fn senders_cannot_use_up_the_journal_that_an_instance_needs_for_itself() {
    let (world, engine) = world().await;
    let id = start(&engine, Input::Wait).await.expect("new");
    set(&world, id, 0, SIGNALLED_LENGTH - 1).await;
    let note = || Signal::Note(String::new());
    assert!(matches!(tell(&engine, id, "last", note()).await, Ok(Answer::Applied)));
    let refused = tell(&engine, id, "more", note()).await;
    assert!(matches!(refused, Err(SignalError::OverLimit(Limit::Journal))));
    assert_eq!(world.see(id).await.seq, SIGNALLED_LENGTH, "nothing of it was written");
    world.close().await;
}

#[tokio::test]
async fn an_instance_with_too_long_a_journal_is_stuck_and_told_to_begin_anew() {
    let (world, engine) = world().await;
    let waits = start(&engine, Input::Wait).await.expect("new");
    set(&world, waits, 0, JOURNAL_LENGTH).await;
    let refused = tell(&engine, waits, "n", Signal::Note(String::new())).await;
    assert!(matches!(refused, Err(SignalError::OverLimit(Limit::Journal))));
    sqlx::query("-- name: test another subject\nupdate saga.instance set start_key = 'w'")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let spins = start(&engine, Input::Do(Does::Spin)).await.expect("new");
    set(&world, spins, 0, JOURNAL_LENGTH).await;
    let worker = work_on(&engine, quick()).await;
    let seen = world.ended(spins).await;
    assert_eq!(seen.status, "stuck");
    let why = seen.last_error.expect("a reason");
    assert!(why.contains("more than 10000 commits") && why.contains("anew"), "{why}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_saga_that_goes_round_without_ever_waiting_is_stuck() {
    let (world, engine) = world().await;
    let worker = work_on(&engine, quick()).await;
    let id = start(&engine, Input::Do(Does::Spin)).await.expect("new");
    // A thousand commits of one instance, one after the other: a busy machine needs longer than other tests wait.
    let begun = Instant::now();
    while world.see(id).await.status == "running" {
        assert!(begun.elapsed() < Duration::from_secs(90), "it goes round and round");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = world.see(id).await;
    assert_eq!(seen.status, "stuck");
    let why = seen.last_error.expect("a reason");
    assert!(why.contains("goes round without ever waiting"), "{why}");
    worker.stop().await;
    world.close().await;
}
