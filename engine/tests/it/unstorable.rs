//! Data that cannot be stored is refused when it is given. If a saga makes such data, the last good position stays and a person is told. Data that
//! cannot be read hides nothing else.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    Answer, CallOff, Engine, Key, Limit, Next, Outcome, Saga, Schedule, SignalError, Start,
    StartError, Unexpected, Unstorable,
    inspect::{self, Filter},
    limits, notice, signals, stay, steps,
    testing::{Sample, Samples, explore},
    to,
};
use uuid::Uuid;

use crate::{
    job::{self, Job},
    world::{World, quick, work_on},
};

/// It remembers what JSON cannot hold.
struct Muddle;

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Input {
    Fill(With),
    /// At once.
    Pairs,
    Wait,
    Share(f64),
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
enum With {
    Pairs,
    NoNumber,
    ManyBytes,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum State {
    Empty,
    Pairs(BTreeMap<(u8, u8), u8>),
    Share(f64),
    Full,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Filled(With),
    Bytes(String),
    Share(Option<f64>),
}

signals! {
    enum Signal as Event { Share(share: Option<f64>) => refuse }
}

steps! {
    enum Step done by Muddles -> Event, undone for String {
        Fill(with: With) => call(fill).repeatable().no_undo(),
    }
}

impl Saga for Muddle {
    const NAME: &'static str = "muddle";
    type Input = Input;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(input: Input) -> Next<Self> {
        match input {
            Input::Fill(with) => to(State::Empty).run(Step::Fill(with)),
            Input::Pairs => to(State::Pairs([((1, 2), 3)].into())).wait(),
            Input::Wait | Input::Share(_) => to(State::Empty).wait(),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match event {
            Event::Filled(With::Pairs) => to(State::Pairs([((1, 2), 3)].into())).wait(),
            Event::Filled(With::NoNumber) => to(State::Share(f64::NAN)).wait(),
            Event::Filled(With::ManyBytes) | Event::Bytes(_) => to(State::Full).done(),
            Event::Share(_) => stay(state),
        })
    }
}

impl Samples for Muddle {
    fn inputs() -> Vec<Input> {
        vec![Input::Fill(With::Pairs), Input::Fill(With::NoNumber)]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Fill(with) => vec![Sample::done(Event::Filled(*with))],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Share(Some(f64::INFINITY))]
    }
}

struct MuddleSteps;

impl Muddles for MuddleSteps {
    async fn fill(&self, _: &Key, with: &With) -> Outcome<Event> {
        Outcome::event(match with {
            With::ManyBytes => Event::Bytes("x".repeat(limits::EVENT_BYTES)),
            with => Event::Filled(*with),
        })
    }
}

fn engine(world: &World) -> Engine {
    // It is no sound saga: see below.
    drop(explore::<Muddle>());
    Engine::builder(world.pool.clone()).saga::<Muddle, _>(MuddleSteps).build()
}

async fn start(engine: &Engine, start: Start<Input>) -> Result<Uuid, StartError> {
    let mut tx = engine.begin().await.expect("the database is there");
    let started = engine.start::<Muddle>(&mut tx, start).await?;
    tx.commit().await.expect("the database is there");
    Ok(started.id)
}

#[test]
fn exploring_finds_what_cannot_be_stored_and_read_again() {
    let faults = explore::<Muddle>().faults;
    for expected in [
        "the state in Pairs cannot be stored: it cannot be written as JSON: key must be a string",
        "the state in Share cannot be stored: it holds a number that is infinite or no number",
        "the event Share cannot be stored: it holds a number that is infinite or no number",
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected} in {faults:#?}"
        );
    }
}

/// Fault: saga: it decides what cannot be stored
/// Customer: that saga stands still
/// Operator: it is `stuck` at its last good position, with a notice
/// Within: at once
/// Ends: when a mended build is deployed and `retry`, or `cancel`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_stored_leaves_the_last_good_position_and_tells_a_person() {
    let world = World::new().await;
    let engine = engine(&world);
    let worker = work_on(&engine, quick()).await;
    for (with, why) in [
        (With::Pairs, "key must be a string"),
        (With::NoNumber, "it holds a number that is infinite or no number"),
        (With::ManyBytes, "the input or signal is"),
    ] {
        let input = Start::new(format!("{with:?}"), Input::Fill(with));
        let id = start(&engine, input).await.expect("it can be started");
        let seen = world.ended(id).await;
        assert_eq!((seen.status.as_str(), seen.state.as_str()), ("stuck", "\"Empty\""), "{with:?}");
        let error = seen.last_error.unwrap_or_default();
        assert!(error.contains(why), "{error}");
        let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
        assert!(told.iter().any(|notice| notice.saga_id == id && notice.why.contains(why)));
        let largest = world.journal(id).await.into_iter().filter_map(|row| row.2).map(|e| e.len());
        assert!(largest.max() < Some(1_000), "nor is it in the journal");
        let mut tx = world.pool.begin().await.expect("the database is there");
        let off = engine.cancel(&mut tx, id, "nobody wants it").await.expect("it can be read");
        assert_eq!(off, CallOff::Begun);
        tx.commit().await.expect("the database is there");
        assert_eq!(world.ended(id).await.status, "unwound");
    }
    worker.stop().await;
    drop(engine);
    world.close().await;
}

#[test]
fn a_schedule_whose_input_would_be_read_as_something_else_is_none() {
    let schedule = |share: f64| {
        Schedule::of::<Muddle>("share", "0 * * * *", "UTC", Start::new("s", Input::Share(share)))
    };
    assert!(schedule(0.5).is_ok());
    let refused = schedule(f64::NAN).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(refused, Err("it holds a number that is infinite or no number".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_where_it_is_given() {
    let world = World::new().await;
    let engine = engine(&world);
    let wait = |subject: &str| Start::new(subject, Input::Wait);
    let century = Duration::from_secs(100 * 365 * 86_400);
    let refused = [
        (Start::new("pairs", Input::Pairs), "key must be a string"),
        (wait("a\0b"), "the subject holds the character NUL"),
        (wait("key").key("a\0b"), "the start key holds the character NUL"),
        (wait("tag").tag("a", "\0"), "the tag holds the character NUL"),
        (wait("queue").queued("\0"), "the queue key holds the character NUL"),
        (wait(&"x".repeat(513)), "the subject is 513 bytes, more than 512"),
        (wait("late").within(11 * century), "more than 1,000 years"),
        (wait("never").within(Duration::MAX), "more than 1,000 years"),
    ];
    for (refused, why) in refused {
        let error = start(&engine, refused).await.expect_err(why);
        assert!(
            matches!(error, StartError::Unstorable(_) | StartError::OverLimit(_)),
            "{error:?} is typed"
        );
        assert!(error.to_string().contains(why), "{error}");
    }
    let id = start(&engine, wait("open").within(9 * century)).await.expect("that is read");
    let give = async |signal_id: &str, share: f64| {
        let mut tx = world.pool.begin().await.expect("the database is there");
        engine.signal::<Muddle>(&mut tx, id, signal_id, Signal::Share(Some(share))).await
    };
    let error = give("a\0b", 1.0).await.expect_err("no id");
    assert!(matches!(error, SignalError::Unstorable(Unstorable::Nul("signal id"))), "{error:?}");
    let error = give("share", f64::NAN).await.expect_err("no number");
    assert!(matches!(error, SignalError::Unstorable(Unstorable::NotFinite)), "{error:?}");
    let mut tx = world.pool.begin().await.expect("the database is there");
    let why = "x".repeat(limits::REASON_BYTES + 1);
    let error = engine.cancel(&mut tx, id, &why).await.expect_err("too long");
    assert!(matches!(error, SignalError::OverLimit(Limit::Reason(_))), "{error:?}");
    drop(tx);
    drop(engine);
    world.close().await;
}

/// An instance that waits for a signal, changed so by hand.
async fn changed(world: &World, subject: &str, how: &'static str) -> Uuid {
    let id = world.start::<Job>(subject, job::Input::Wait).await;
    let statement =
        format!("-- name: test change\nupdate saga.instance set {how} where saga_id = $1");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the column is there");
    id
}

#[tokio::test]
async fn a_row_that_cannot_be_read_whole_hides_no_other_and_is_shown_as_far_as_it_can_be() {
    let world = World::new().await;
    let good = world.start::<Job>("good", job::Input::Wait).await;
    let last_day = "9999-12-31T00:00:00+00:00";
    for (how, deadline) in [
        ("deadline_at = '280000-01-01'", Some(last_day)),
        ("deadline_at = 'infinity'", Some(last_day)),
        ("deadline_at = '-infinity', overdue = true", Some("0001-01-01T00:00:00+00:00")),
        ("wake_at = '290000-01-01'", None),
        ("updated_at = 'infinity', created_at = '-infinity'", None),
        ("tags = '{\"a\": {\"b\": 1}, \"c\": null}'", None),
        ("state = '\"Nonsense\"', pending = '[]', undos = '{}'", None),
    ] {
        let id = changed(&world, how, how).await;
        let all = inspect::list(&world.pool, &Filter { limit: 100, ..Filter::default() }).await;
        let all = all.expect("a list can be read");
        let is = |wanted: Uuid| all.iter().find(|one| one.saga_id == wanted);
        assert!(is(good).is_some(), "{how}");
        let shown = is(id).expect("it is shown, too");
        assert_eq!(shown.deadline_at.map(|at| at.to_rfc3339()).as_deref(), deadline, "{how}");
        let details = inspect::details(&world.pool, id).await.expect("it can be read");
        assert_eq!(details.expect("it is there").summary.subject, how);
    }
    world.close().await;
}

/// Fault: saga: what is stored of it cannot be read
/// Customer: a cancellation is accepted and kept; lists and other orders go on
/// Operator: the saga is `stuck`, with a notice
/// Within: when a worker claims it
/// Ends: when a build that can read it is deployed, and `retry`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_for_a_row_that_cannot_be_read_is_kept_and_the_row_waits_for_a_person() {
    let world = World::new().await;
    let broken = changed(&world, "broken", "state = '\"Nonsense\"'").await;
    let good = world.start::<Job>("good", job::Input::Wait).await;
    let worker = world.worker(quick()).await;
    assert_eq!(world.signal::<Job>(broken, "go", job::Signal::Go).await, Answer::Kept);
    assert_eq!(world.signal::<Job>(good, "go", job::Signal::Go).await, Answer::Applied);
    assert_eq!(world.ended(good).await.status, "completed");
    let seen = world.ended(broken).await;
    assert_eq!((seen.status.as_str(), seen.state.as_str()), ("stuck", "\"Nonsense\""));
    let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
    assert!(told.iter().any(|n| n.saga_id == broken && n.kind == notice::Kind::Stuck), "{told:?}");
    worker.stop().await;
    world.close().await;
}
