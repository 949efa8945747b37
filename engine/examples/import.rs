//! An import of 10,000 addresses: one child for each, all at once; a report when the last one has ended.
//!
//! `DATABASE_URL=postgres://… cargo run -p stepwise-engine --example import`, on any database, also an empty one.

use std::{
    error::Error,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, Child, EffectRow, Engine, Joined, Never, Next, Outcome, Saga,
    Start, Step, StepError, Steps, Terms, Undo, Undone, Unexpected, WorkerConfig, to, unwind, work,
};
use tokio::sync::oneshot;

// ---- What an import is: the parent.

pub(crate) struct Import;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Importing,
    Reporting,
    Reported,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    AllEnded(Joined),
    Reported,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Report(Joined),
}

impl Saga for Import {
    const NAME: &'static str = "import";
    const VERSION: u16 = 1;
    /// How many rows: positions are small, the rows themselves lie in a table or a file.
    type Input = u32;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Never;
    type Reason = String;

    fn start(rows: u32) -> Next<Self> {
        let row = |no: u32| Child::of::<Row>(Start::new(format!("row-{no}"), no));
        to(State::Importing).children((0..rows).map(row).collect())
    }

    fn joined(ends: &Joined) -> Option<Event> {
        Some(Event::AllEnded(*ends))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Importing, Event::AllEnded(ends)) => to(State::Reporting).run(Tx::Report(ends)),
            (State::Reporting, Event::Reported) => to(State::Reported).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            // Until here, cancelling the import would take every row back.
            Step::Tx(Tx::Report(_)) => Undo::Pivot,
            Step::Activity(never) => match *never {},
        }
    }

    fn terms(never: &Never) -> Terms {
        match *never {}
    }

    fn called_off(why: CalledOff<Never>) -> String {
        format!("{why:?}")
    }
}

// ---- What a row is: the child, a saga like any other.

pub(crate) struct Row;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum RowState {
    Checking,
    Checked,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum RowEvent {
    Found,
    NoSuchStreet,
}

/// Asks whether the address of that row exists.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Check(u32);

impl Saga for Row {
    const NAME: &'static str = "import-row";
    const VERSION: u16 = 1;
    type Input = u32;
    type State = RowState;
    type Event = RowEvent;
    type Tx = Never;
    type Activity = Check;
    type Reason = String;

    fn start(no: u32) -> Next<Self> {
        to(RowState::Checking).call(Check(no))
    }

    fn on(state: RowState, event: RowEvent) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (RowState::Checking, RowEvent::Found) => to(RowState::Checked).done(),
            (RowState::Checking, RowEvent::NoSuchStreet) => unwind("no such street".to_owned()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            // A question leaves nothing to be taken back.
            Step::Activity(Check(_)) => Undo::Nothing,
            Step::Tx(never) => match *never {},
        }
    }

    fn terms(_: &Check) -> Terms {
        Terms::new()
    }

    fn called_off(why: CalledOff<Check>) -> String {
        format!("{why:?}")
    }
}

// ---- How their steps are done.

/// The postal service. It does not know every 97th address, and every 1,000th time it is too busy to answer.
#[derive(Default)]
struct Post(AtomicU32);

impl Steps<Row> for Post {
    async fn call(&self, _: &ActivityKey, Check(no): &Check) -> Outcome<RowEvent> {
        if self.0.fetch_add(1, Ordering::Relaxed) % 1_000 == 999 {
            // Surely nothing happened: tried again by the terms' policy, here after 100 to 200 ms.
            return Outcome::NotDone(Cause::new("too busy"));
        }
        Outcome::event(if no % 97 == 96 { RowEvent::NoSuchStreet } else { RowEvent::Found })
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        _: &Check,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        Undone::Nothing
    }

    async fn run(&self, _: &mut PgConnection, never: &Never) -> Result<RowEvent, StepError> {
        match *never {}
    }

    async fn undo_run(&self, _: &mut PgConnection, n: &Never, _: &String) -> Result<(), StepError> {
        match *n {}
    }
}

impl Steps<Import> for Post {
    async fn run(&self, tx: &mut PgConnection, Tx::Report(ends): &Tx) -> Result<Event, StepError> {
        sqlx::query("insert into post.report (completed, failed) values ($1, $2)")
            .bind(i64::from(ends.completed))
            .bind(i64::from(ends.unwound))
            .execute(tx)
            .await?;
        Ok(Event::Reported)
    }

    async fn undo_run(&self, _: &mut PgConnection, _: &Tx, _: &String) -> Result<(), StepError> {
        Err(StepError::Broken("a report is not taken back".to_owned()))
    }

    async fn call(&self, _: &ActivityKey, never: &Never) -> Outcome<Event> {
        match *never {}
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        never: &Never,
        _: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        match *never {}
    }
}

// ---- A program that uses it.

const TABLES: &str = "create schema if not exists post;
    create table if not exists post.report (at timestamptz not null default now(), completed bigint not null, failed bigint not null);";

const ROWS: u32 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    stepwise_engine::migrate(&pool).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let engine = Engine::builder(pool.clone())
        .saga::<Import, _>(Post::default())
        .saga::<Row, _>(Post::default())
        .build();
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(work(engine.clone(), WorkerConfig::default(), async {
        stopped.await.ok();
    }));

    let begun = Instant::now();
    let mut tx = pool.begin().await?;
    let started = engine.start::<Import>(&mut tx, Start::new("file-1", ROWS)).await?;
    tx.commit().await?;
    println!("{ROWS} children and their parent started in {:.1?}", begun.elapsed());
    let id = started.id;
    started.hand_over();

    let import = engine.settled(id, Duration::from_secs(600)).await?.ok_or("it was started")?;
    let took = begun.elapsed();
    let report = "select completed, failed from post.report order by at desc limit 1";
    let (completed, failed): (i64, i64) = sqlx::query_as(report).fetch_one(&pool).await?;
    println!("{completed} rows completed, {failed} failed; the import is {}", import.status);
    let rate = f64::from(ROWS) / took.as_secs_f64();
    println!("{took:.1?} in all: {rate:.0} rows/s, each a durable saga");

    stop.send(()).ok();
    working.await??;
    Ok(())
}
