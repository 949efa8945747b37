//! An import of 10,000 addresses: one child for each, all at once; a report when the last one has ended.
//!
//! `DATABASE_URL=postgres://… cargo run -p stepwise-engine --example import`, on any database, also an empty one.

use std::{
    error::Error,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::{
    Cause, Child, Engine, Joined, Key, Never, Next, Outcome, Saga, Start, StepError, StepTx,
    Unexpected, WorkerConfig, steps, to, unwind, work,
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

steps! {
    pub(crate) enum Step done by Reporting -> Event, undone for String {
        // Until here, cancelling the import would take every row back.
        Report(ends: Joined) => tx(report).pivot(),
    }
}

impl Saga for Import {
    const NAME: &'static str = "import";
    /// How many rows: positions are small, the rows themselves lie in a table or a file.
    type Input = u32;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
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
            (State::Importing, Event::AllEnded(ends)) => {
                to(State::Reporting).run(Step::Report(ends))
            }
            (State::Reporting, Event::Reported) => to(State::Reported).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
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

steps! {
    pub(crate) enum RowStep done by Checking -> RowEvent, undone for String {
        // Asks whether the address of that row exists. A question leaves nothing to be taken back.
        Check(no: u32) => call(check).repeatable().no_undo(),
    }
}

impl Saga for Row {
    const NAME: &'static str = "import-row";
    type Input = u32;
    type State = RowState;
    type Event = RowEvent;
    type Signal = Never;
    type Step = RowStep;
    type Reason = String;

    fn start(no: u32) -> Next<Self> {
        to(RowState::Checking).run(RowStep::Check(no))
    }

    fn on(state: RowState, event: RowEvent) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (RowState::Checking, RowEvent::Found) => to(RowState::Checked).done(),
            (RowState::Checking, RowEvent::NoSuchStreet) => unwind("no such street".to_owned()),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

// ---- How their steps are done.

/// The postal service. It does not know every 97th address, and every 1,000th time it is too busy to answer.
#[derive(Default)]
struct Post(AtomicU32);

impl Checking for Post {
    async fn check(&self, _: &Key, no: &u32) -> Outcome<RowEvent> {
        if self.0.fetch_add(1, Ordering::Relaxed) % 1_000 == 999 {
            // Surely nothing happened: tried again by the terms' policy, here after 100 to 200 ms.
            return Outcome::NotDone(Cause::new("too busy"));
        }
        Outcome::event(if no % 97 == 96 { RowEvent::NoSuchStreet } else { RowEvent::Found })
    }
}

impl Reporting for Post {
    async fn report(&self, tx: &mut StepTx<'_>, ends: &Joined) -> Result<Event, StepError> {
        sqlx::query("insert into post.report (completed, failed) values ($1, $2)")
            .bind(i64::from(ends.completed))
            .bind(i64::from(ends.unwound))
            .execute(&mut **tx)
            .await?;
        Ok(Event::Reported)
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
    let mut tx = engine.begin().await?;
    let id = engine.start::<Import>(&mut tx, Start::new("file-1", ROWS)).await?.id;
    tx.commit().await?;
    println!("{ROWS} children and their parent started in {:.1?}", begun.elapsed());

    let import =
        engine.wait_for_end(id, Duration::from_secs(600)).await?.ok_or("it was started")?;
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
