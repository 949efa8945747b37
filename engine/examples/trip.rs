//! A trip of flight, hotel and car. When the car is sold out, hotel and flight are cancelled, last first.
//!
//! `DATABASE_URL=postgres://… cargo run -p stepwise-engine --example trip`, on any database, also an empty one.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, EffectKind, EffectRow, Engine, Next, Outcome, Saga, Start, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected, WorkerConfig, inspect, to, unwind, work,
};
use tokio::sync::oneshot;

// ---- What a trip is: a pure function of (state, event).

pub(crate) struct Trip;

type City = String;

#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub(crate) enum Leg {
    Flight,
    Hotel,
    Car,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Opening(City),
    Booking(Leg, City),
    Confirming,
    Booked,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Noted,
    Booked,
    SoldOut,
}

/// In our own database.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Open(City),
    Confirm(City),
    Fail(City),
}

/// Outside.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Book(Leg, City),
    Cancel(Leg),
}

fn book(leg: Leg, city: City) -> Next<Trip> {
    to(State::Booking(leg, city.clone())).call(Activity::Book(leg, city))
}

impl Saga for Trip {
    const NAME: &'static str = "trip";
    const VERSION: u16 = 1;
    type Input = City;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = String;

    fn start(city: City) -> Next<Self> {
        to(State::Opening(city.clone())).run(Tx::Open(city))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use State::{Booking, Confirming, Opening};
        Ok(match (state, event) {
            (Opening(city), Event::Noted) => book(Leg::Flight, city),
            (Booking(Leg::Flight, city), Event::Booked) => book(Leg::Hotel, city),
            (Booking(Leg::Hotel, city), Event::Booked) => book(Leg::Car, city),
            (Booking(Leg::Car, city), Event::Booked) => to(Confirming).run(Tx::Confirm(city)),
            (Confirming, Event::Noted) => to(State::Booked).done(),
            (Booking(leg, _), Event::SoldOut) => unwind(format!("{leg:?} sold out")),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    /// No wildcard: a new step does not compile until its way back is decided.
    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Open(city)) => Undo::By(Step::Tx(Tx::Fail(city.clone()))),
            Step::Activity(Activity::Book(leg, _)) => {
                Undo::By(Step::Activity(Activity::Cancel(*leg)))
            }
            Step::Tx(Tx::Confirm(_)) => Undo::Pivot,
            Step::Tx(Tx::Fail(_)) | Step::Activity(Activity::Cancel(_)) => Undo::Nothing,
        }
    }

    fn terms(activity: &Activity) -> Terms {
        let (kind, euros) = match activity {
            Activity::Book(Leg::Flight, _) => ("flight", "120.00"),
            Activity::Book(Leg::Hotel, _) => ("hotel", "340.00"),
            Activity::Book(Leg::Car, _) => ("car", "95.00"),
            Activity::Cancel(_) => return Terms::new(),
        };
        let effect = Some(EffectKind { kind, amount: Some((euros.to_owned(), "EUR".to_owned())) });
        // An attempt of unknown outcome is repeated under its key, which the agency honours: the default.
        Terms { effect, ..Terms::new() }
    }

    fn called_off(why: CalledOff<Activity>) -> String {
        format!("{why:?}")
    }
}

// ---- How its steps are done.

/// The outside world, which acts once per key. Cars are sold out in Rome.
#[derive(Clone, Default)]
pub(crate) struct Agency {
    pub(crate) bookings: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Agency {
    fn book(&self, key: &ActivityKey, leg: Leg, city: &str) -> Outcome<Event> {
        if matches!((leg, city), (Leg::Car, "Rome")) {
            println!("  agency: no car left in {city}");
            return Outcome::refuted(Event::SoldOut);
        }
        let mut bookings = self.bookings.lock().expect("plain data");
        let next = format!("{leg:?}-{}", bookings.len() + 1);
        let reference = bookings.entry(key.to_string()).or_insert(next).clone();
        println!("  agency: {reference} booked, under the key of step {}", key.step_no);
        Outcome::confirmed(Event::Booked, reference)
    }
}

async fn note(tx: &mut PgConnection, city: &str, status: &str) -> Result<(), StepError> {
    sqlx::query(
        "-- name: note trip
        insert into agency.trip (city, status) values ($1, $2) on conflict (city) do update set status = excluded.status",
    )
    .bind(city)
    .bind(status)
    .execute(tx)
    .await?;
    println!("  our database: the trip to {city} is {status}");
    Ok(())
}

impl Steps<Trip> for Agency {
    /// In the transition's own transaction: the row and the new state are committed together.
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        match step {
            Tx::Open(city) => note(tx, city, "being booked").await?,
            Tx::Confirm(city) => note(tx, city, "booked").await?,
            Tx::Fail(_) => return Err(StepError::Broken("an undo is no step".to_owned())),
        }
        Ok(Event::Noted)
    }

    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        undo: &Tx,
        why: &String,
    ) -> Result<(), StepError> {
        let Tx::Fail(city) = undo else {
            return Err(StepError::Broken("a step is no undo".to_owned()));
        };
        note(tx, city, &format!("not booked: {why}")).await
    }

    /// Outside any transaction, perhaps more than once, always under the same key.
    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        match activity {
            Activity::Book(leg, city) => self.book(key, *leg, city),
            Activity::Cancel(_) => Outcome::NotDone(Cause::new("an undo is no step")),
        }
    }

    /// It asks by the key of what it takes back, for nobody may ever have heard of it. `_effect` is the ledger's row.
    async fn undo_call(
        &self,
        key: &ActivityKey,
        _undo: &Activity,
        _effect: Option<&EffectRow>,
        why: &String,
    ) -> Undone {
        let booked = ActivityKey { undo: false, ..*key };
        let mut bookings = self.bookings.lock().expect("plain data");
        let Some(reference) = bookings.remove(&booked.to_string()) else { return Undone::Nothing };
        println!("  agency: {reference} cancelled, because: {why}");
        Undone::Undone(None)
    }
}

// ---- A program that uses it.

pub(crate) const TABLES: &str = "create schema if not exists agency;
    create table if not exists agency.trip (city text primary key, status text not null);";

async fn travel(engine: &Engine, city: &str) -> Result<(), Box<dyn Error>> {
    println!("\nA trip to {city}:");
    // Rows of your own may be written in the same transaction: both happen, or neither.
    let mut tx = engine.pool().begin().await?;
    let started = engine.start::<Trip>(&mut tx, Start::new(city, city.to_owned())).await?;
    tx.commit().await?;
    let id = started.id;
    started.hand_over();

    engine.settled(id, Duration::from_secs(30)).await?;
    let trip = inspect::details(engine.pool(), id).await?.ok_or("it was started")?;
    println!("it is {}; the ledger of its effects outside:", trip.summary.status);
    for effect in trip.effects {
        let (amount, reference) = (effect.amount.unwrap_or_default(), effect.reference);
        let reference = reference.unwrap_or_else(|| "-".to_owned());
        println!("  {:7} {amount:>7} EUR  {:9}  {reference}", effect.kind, effect.status);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    stepwise_engine::migrate(&pool).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let engine = Engine::builder(pool).saga::<Trip, _>(Agency::default()).build();
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(work(engine.clone(), WorkerConfig::default(), async {
        stopped.await.ok();
    }));

    travel(&engine, "Lisbon").await?;
    travel(&engine, "Rome").await?;

    stop.send(()).ok();
    working.await??;
    Ok(())
}
