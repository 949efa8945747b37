//! A subscription that lives by timers for years: a trial, a charge each month, reminders when a card is empty, a signal that ends it,
//! and a fresh instance each year, so that no journal grows for ever.
//!
//! `DATABASE_URL=postgres://… cargo run -p stepwise-engine --example subscription`, on any database, also an empty one.
//!
//! Timers follow the business clock `saga.now()`. The example moves it with [`Clock`], as tests do, so years pass in a second.

use std::{collections::BTreeSet, error::Error, sync::Mutex, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::{
    Engine, Key, Next, Outcome, Saga, Start, Terms, Unexpected, WaitingOn, WorkerConfig, amount,
    inspect::{self, Filter, Summary},
    signals, steps,
    testing::Clock,
    to, work,
};
use tokio::{sync::oneshot, time::timeout};

// ---- What a subscription is: a pure function of (state, event).

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// After so many refusals of one month's fee it ends.
const TRIES: u8 = 3;

pub(crate) struct Subscription;

/// One month's fee.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) struct Fee {
    year: u32,
    month: u8,
    /// So often it was refused already.
    refusals: u8,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Trial,
    Charging(Fee),
    Paid(Fee),
    Unpaid(Fee),
    YearOver,
    Ended(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    TrialOver,
    Charged,
    Refused,
    MonthOver,
    TryAgain,
    Subscriber(Signal),
}

signals! {
    /// While a charge is in flight a cancellation is kept, for the state after it.
    pub(crate) enum Signal as Event::Subscriber { Cancel => keep }
}

steps! {
    pub(crate) enum Step done by Charging -> Event, undone for String {
        // A month that was paid for is not given back: from the first charge on it only goes forward.
        Charge(fee: Fee) => call(charge, Terms::effect("fee").amount(amount!(9.90 EUR))).repeatable().pivot(),
    }
}

fn charge(fee: Fee) -> Next<Subscription> {
    to(State::Charging(fee)).run(Step::Charge(fee))
}

fn end(why: &str) -> Next<Subscription> {
    to(State::Ended(why.to_owned())).done()
}

impl Saga for Subscription {
    const NAME: &'static str = "subscription";
    /// The year; the first one begins with a trial.
    type Input = u32;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(year: u32) -> Next<Self> {
        match year {
            1 => to(State::Trial).or_after(14 * DAY, Event::TrialOver),
            year => charge(Fee { year, month: 1, refusals: 0 }),
        }
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use State::{Charging, Paid, Trial, Unpaid, YearOver};
        Ok(match (state, event) {
            (Trial, Event::TrialOver) => charge(Fee { year: 1, month: 1, refusals: 0 }),
            (Charging(fee), Event::Charged) => to(Paid(fee)).or_after(30 * DAY, Event::MonthOver),
            (Charging(fee), Event::Refused) if fee.refusals + 1 < TRIES => {
                let fee = Fee { refusals: fee.refusals + 1, ..fee };
                to(Unpaid(fee)).or_after(3 * DAY, Event::TryAgain)
            }
            (Charging(_), Event::Refused) => end("unpaid"),
            (Unpaid(fee), Event::TryAgain) => charge(fee),
            (Paid(fee), Event::MonthOver) if fee.month == 12 => to(YearOver).anew(fee.year + 1),
            (Paid(fee), Event::MonthOver) => {
                charge(Fee { month: fee.month + 1, refusals: 0, ..fee })
            }
            (Trial | Paid(_) | Unpaid(_), Event::Subscriber(Signal::Cancel)) => end("cancelled"),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

// ---- How its steps are done.

/// Charges once per key. The card is empty in the fifth month of the second year, twice.
#[derive(Default)]
struct Bank {
    charged: Mutex<BTreeSet<String>>,
}

impl Charging for Bank {
    async fn charge(&self, key: &Key, fee: &Fee) -> Outcome<Event> {
        if (fee.year, fee.month) == (2, 5) && fee.refusals < 2 {
            return Outcome::refuted(Event::Refused);
        }
        self.charged.lock().expect("plain data").insert(key.to_string());
        Outcome::confirmed(Event::Charged, format!("charge-{key}"))
    }
}

// ---- A program that uses it.

/// The instance that goes on today, once it has nothing to do but to wait, and the time it is.
async fn at_rest(pool: &PgPool) -> Result<(Summary, DateTime<Utc>), Box<dyn Error>> {
    loop {
        let mut connection = pool.acquire().await?;
        let now = sqlx::query_scalar("-- name: business time\nselect saga.now()");
        let now: DateTime<Utc> = now.fetch_one(&mut *connection).await?;
        let latest = inspect::latest_about(&mut connection, Subscription::NAME, "ada").await?;
        let latest = latest.ok_or("it was started")?;
        let waits = latest.waiting_on == Some(WaitingOn::Signal);
        if latest.is_final() || (waits && latest.wake_at.is_some_and(|at| at > now)) {
            return Ok((latest, now));
        }
        drop(connection);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn live(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let (pool, clock) = (engine.pool(), Clock::of(engine.pool()));
    loop {
        let (seen, now) = at_rest(pool).await?;
        let state = inspect::details(pool, seen.saga_id).await?.ok_or("it is there")?.state;
        println!("{}  {state}", now.date_naive());
        if seen.is_final() {
            return Ok(());
        }
        if state.pointer("/Paid/year") == Some(&3.into()) {
            // A signal is deduplicated by its id, and its sender learns at once what became of it.
            let mut tx = pool.begin().await?;
            let answer =
                engine.signal::<Subscription>(&mut tx, seen.saga_id, "ada-1", Signal::Cancel);
            println!("            ada cancels: {:?}", answer.await?);
            tx.commit().await?;
        } else if let Some(at) = seen.wake_at {
            clock.advance((at - now).to_std()? + Duration::from_secs(1)).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    stepwise_engine::migrate(&pool).await?;

    let engine = Engine::builder(pool.clone()).saga::<Subscription, _>(Bank::default()).build();
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(work(engine.clone(), WorkerConfig::default(), async {
        stopped.await.ok();
    }));

    let mut tx = engine.begin().await?;
    engine.start::<Subscription>(&mut tx, Start::new("ada", 1)).await?;
    tx.commit().await?;
    timeout(Duration::from_secs(60), live(&engine)).await??;

    println!("\nOne instance for each year, with a journal of its own:");
    let filter = Filter { subject: Some("ada".to_owned()), limit: 3, ..Filter::default() };
    for year in inspect::list(&pool, &filter).await? {
        let year = inspect::details(&pool, year.saga_id).await?.ok_or("it is there")?;
        println!("  {} after {} transitions", year.summary.status, year.journal.len());
    }
    Clock::of(&pool).reset().await;
    stop.send(()).ok();
    working.await??;
    Ok(())
}
