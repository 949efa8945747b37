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
    Engine, Key, Never, Next, Outcome, Saga, Start, StepError, Terms, Undoing, Undone, Unexpected,
    WorkerConfig, amount, inspect, steps, to, unwind, work,
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

// One row a step: what does it, how an unknown outcome is settled, what takes it back. The agency honours our keys, so a call whose outcome is
// unknown is made again under its key.
steps! {
    pub(crate) enum Step done by TripSteps -> Event, undone for String {
        Open(city: City) => tx(open).undo_tx(fail),
        Book(leg: Leg, city: City) => call(book, price(*leg)).repeatable().undo_call(cancel),
        Confirm(city: City) => tx(confirm).pivot(),
    }
}

fn price(leg: Leg) -> Terms {
    match leg {
        Leg::Flight => Terms::effect("flight").amount(amount!(120.00 EUR)),
        Leg::Hotel => Terms::effect("hotel").amount(amount!(340.00 EUR)),
        Leg::Car => Terms::effect("car").amount(amount!(95.00 EUR)),
    }
}

fn book(leg: Leg, city: City) -> Next<Trip> {
    to(State::Booking(leg, city.clone())).run(Step::Book(leg, city))
}

impl Saga for Trip {
    const NAME: &'static str = "trip";
    type Input = City;
    type State = State;
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start(city: City) -> Next<Self> {
        to(State::Opening(city.clone())).run(Step::Open(city))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use State::{Booking, Confirming, Opening};
        Ok(match (state, event) {
            (Opening(city), Event::Noted) => book(Leg::Flight, city),
            (Booking(Leg::Flight, city), Event::Booked) => book(Leg::Hotel, city),
            (Booking(Leg::Hotel, city), Event::Booked) => book(Leg::Car, city),
            (Booking(Leg::Car, city), Event::Booked) => to(Confirming).run(Step::Confirm(city)),
            (Confirming, Event::Noted) => to(State::Booked).done(),
            (Booking(leg, _), Event::SoldOut) => unwind(format!("{leg:?} sold out")),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

// ---- How its steps are done.

/// The outside world, which acts once per key. Cars are sold out in Rome.
#[derive(Clone, Default)]
pub(crate) struct Agency {
    pub(crate) bookings: Arc<Mutex<BTreeMap<String, String>>>,
}

async fn note(tx: &mut PgConnection, city: &str, status: &str) -> Result<Event, StepError> {
    sqlx::query(
        "-- name: note trip
        insert into agency.trip (city, status) values ($1, $2) on conflict (city) do update set status = excluded.status",
    )
    .bind(city)
    .bind(status)
    .execute(tx)
    .await?;
    println!("  our database: the trip to {city} is {status}");
    Ok(Event::Noted)
}

impl TripSteps for Agency {
    /// In the transition's own transaction: the row and the new state are committed together.
    async fn open(&self, tx: &mut PgConnection, city: &City) -> Result<Event, StepError> {
        note(tx, city, "being booked").await
    }

    async fn fail(
        &self,
        tx: &mut PgConnection,
        city: &City,
        undoing: &Undoing<String>,
    ) -> Result<(), StepError> {
        note(tx, city, &format!("not booked: {}", undoing.reason)).await.map(drop)
    }

    /// Outside any transaction, perhaps more than once, always under the same key.
    async fn book(&self, key: &Key, leg: &Leg, city: &City) -> Outcome<Event> {
        if matches!((leg, city.as_str()), (Leg::Car, "Rome")) {
            println!("  agency: no car left in {city}");
            return Outcome::refuted(Event::SoldOut);
        }
        let mut bookings = self.bookings.lock().expect("plain data");
        let next = format!("{leg:?}-{}", bookings.len() + 1);
        let reference = bookings.entry(key.to_string()).or_insert(next).clone();
        println!("  agency: {reference} booked, under the key of step {}", key.step_no());
        Outcome::confirmed(Event::Booked, reference)
    }

    /// It finds the booking by the key under which it was made, for the answer may never have come.
    async fn cancel(&self, _: &Leg, _: &City, undoing: &Undoing<String>) -> Undone {
        let mut bookings = self.bookings.lock().expect("plain data");
        let booked = bookings.remove(&undoing.step_key.to_string());
        let Some(reference) = booked else { return Undone::Nothing };
        println!("  agency: {reference} cancelled, because: {}", undoing.reason);
        Undone::Undone(None)
    }

    async fn confirm(&self, tx: &mut PgConnection, city: &City) -> Result<Event, StepError> {
        note(tx, city, "booked").await
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
        let amount = effect.amount.map(|amount| amount.to_string()).unwrap_or_default();
        let reference = effect.reference.unwrap_or_else(|| "-".to_owned());
        println!("  {:7} {amount:>11}  {:9}  {reference}", effect.kind, effect.status);
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
