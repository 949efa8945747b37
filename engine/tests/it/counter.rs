//! `Counter`: lives for years by beginning anew, again and again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Answer, Next, Saga, Start, Unexpected, signals, stay, steps,
    testing::{Sample, Samples, explore},
    to,
};
use uuid::Uuid;

use crate::{
    job::{Input, Job},
    world::{Seen, World, quick},
};

/// So much is counted by one instance.
const ENOUGH: u32 = 3;

pub(crate) struct Counter;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Counting { before: u32, since: u32 },
    Closing,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Counted,
    Close,
    /// May come before it closes.
    Archive,
}

signals! {
    pub(crate) enum Signal as Event { Counted => refuse, Close => refuse, Archive => keep }
}

steps! {
    pub(crate) enum Step done by Counting -> Event, undone for String {}
}

impl Saga for Counter {
    const NAME: &'static str = "counter";
    type Input = u32;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(before: u32) -> Next<Self> {
        to(State::Counting { before, since: 0 }).wait()
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Counting { before, since }, Event::Counted) if since + 1 == ENOUGH => {
                to(State::Counting { before, since: ENOUGH }).anew(before + ENOUGH)
            }
            (State::Counting { before, since }, Event::Counted) => {
                stay(State::Counting { before, since: since + 1 })
            }
            (State::Counting { .. }, Event::Close) => to(State::Closing).wait(),
            (State::Closing, Event::Archive) => to(State::Closing).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Counter {
    fn inputs() -> Vec<u32> {
        vec![0]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match *step {}
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Counted, Signal::Close, Signal::Archive]
    }
}

pub(crate) struct CounterSteps;

impl Counting for CounterSteps {}

#[tokio::test]
async fn what_lives_for_years_begins_anew_in_one_commit_with_all_that_belongs_to_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    let hour = Duration::from_secs(3_600);
    let start = Start::new("meter", 10).key("second").tag("site", "north").within(hour);
    let first = world.engine.start::<Counter>(&mut tx, start).await.expect("it can be started").id;
    tx.commit().await.expect("the database is there");
    assert_eq!(world.signal::<Counter>(first, "archive", Signal::Archive).await, Answer::Kept);
    for n in 0..ENOUGH {
        let answer = world.signal::<Counter>(first, &format!("count-{n}"), Signal::Counted).await;
        assert_eq!(answer, Answer::Applied);
    }
    assert_eq!(world.see(first).await.status, "completed");
    let late = world.signal::<Counter>(first, "late", Signal::Counted).await;
    assert_eq!(late, Answer::Refused, "it has ended");

    let (second, key, tags, has_deadline): (Uuid, String, serde_json::Value, bool) = sqlx::query_as(
        "-- name: test successor
        select saga_id, start_key, tags, deadline_at is not null from saga.instance where subject = 'meter' and ended_at is null",
    )
    .fetch_one(&world.pool)
    .await
    .expect("there is one open instance");
    assert_eq!((key.as_str(), tags), ("second", serde_json::json!({ "site": "north" })));
    assert!(has_deadline);
    let again = world.signal::<Counter>(second, "count-0", Signal::Counted).await;
    assert_eq!(again, Answer::Duplicate, "a sender that repeats itself counts once");
    let state: State = serde_json::from_str(&world.see(second).await.state).expect("it is one");
    assert_eq!(state, State::Counting { before: 13, since: 0 });
    let journal = world.journal(second).await;
    // A worker may have looked at the kept signal, which its state does not take, and let go again.
    let own = journal.iter().filter(|row| row.0 != "released").count();
    assert_eq!(own, 1, "a journal of its own: {journal:?}");

    assert_eq!(world.signal::<Counter>(second, "close", Signal::Close).await, Answer::Applied);
    assert_eq!(world.ended(second).await.status, "completed", "it takes the kept signal");
    worker.stop().await;
    world.close().await;
}

#[test]
fn exploring_walks_past_the_end_of_one_life() {
    explore::<Counter>().assert_sound();
}

#[tokio::test]
async fn the_end_that_an_instance_waits_for_is_told_to_the_one_that_goes_on_in_its_place() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let awaited = world.start::<Job>("awaited", Input::Wait).await;
    let first = world.start::<Counter>("waiter", 0).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let waiting =
        world.engine.signal_at_end::<Counter>(&mut tx, awaited, first, "end", &Signal::Counted);
    waiting.await.expect("the database is there");
    tx.commit().await.expect("the database is there");
    for n in 0..ENOUGH {
        world.signal::<Counter>(first, &format!("count-{n}"), Signal::Counted).await;
    }
    let second: Uuid = sqlx::query_scalar(
        "-- name: test successor\nselect saga_id from saga.instance where subject = 'waiter' and ended_at is null",
    )
    .fetch_one(&world.pool)
    .await
    .expect("there is one open instance");
    world.signal::<Job>(awaited, "go", crate::job::Signal::Go).await;
    let counted = State::Counting { before: ENOUGH, since: 1 };
    let is_told =
        |seen: &Seen| serde_json::from_str(&seen.state).is_ok_and(|state: State| state == counted);
    world.until(second, "the end to be told", is_told).await;
    worker.stop().await;
    world.close().await;
}
