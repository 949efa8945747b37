//! A trip of flight, hotel and car. When the car is sold out, hotel and flight are cancelled, last first.
//!
//! `DATABASE_URL=postgres://… cargo run -p stepwise-engine --example trip`, on any database, also an empty one.
//!
//! Three steps with their undos, and all they need, are under 100 lines: a test counts those above the program.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::{
    Amount, Engine, Key, Never, Next, Outcome, Saga, Start, Terms, Undoing, Undone, Unexpected,
    WorkerConfig, amount, inspect, steps, to, unwind, work,
};
use tokio::sync::oneshot;

// ---- What a trip is: a pure function of (state, event).

pub(crate) struct Trip;

type City = String;

// One row a step: what does it, how an unknown outcome is settled, what takes it back. The agency honours our keys, so a call whose outcome is
// unknown is made again under its key.
steps! {
    pub(crate) enum Step done by TripSteps -> Event, undone for String {
        Flight(city: City) => call(book_flight, effect("flight", amount!(120.00 EUR))).repeatable().undo_call(cancel_flight),
        Hotel(city: City) => call(book_hotel, effect("hotel", amount!(340.00 EUR))).repeatable().undo_call(cancel_hotel),
        Car(city: City) => call(book_car, effect("car", amount!(95.00 EUR))).repeatable().undo_call(cancel_car),
    }
}

/// An effect gets a row in the ledger, before it is called.
fn effect(kind: &'static str, price: Amount) -> Terms {
    Terms::effect(kind).amount(price)
}

/// The state of an instance, named after what it waits for.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Flight(City),
    Hotel(City),
    Car(City),
    Booked,
}

/// The events that can happen to it. A refusal is an event like any other.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Booked,
    SoldOut,
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
        to(State::Flight(city.clone())).run(Step::Flight(city))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Flight(city), Event::Booked) => {
                to(State::Hotel(city.clone())).run(Step::Hotel(city))
            }
            (State::Hotel(city), Event::Booked) => {
                to(State::Car(city.clone())).run(Step::Car(city))
            }
            (State::Car(_), Event::Booked) => to(State::Booked).done(),
            (State::Flight(city) | State::Hotel(city) | State::Car(city), Event::SoldOut) => {
                unwind(format!("sold out in {city}"))
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

// ---- How its steps are done: outside any transaction, perhaps more than once, always under the same key.

impl TripSteps for Agency {
    async fn book_flight(&self, key: &Key, city: &City) -> Outcome<Event> {
        self.book("flight", key, city)
    }

    async fn cancel_flight(&self, _: &City, undoing: &Undoing<String>) -> Undone {
        self.cancel(undoing)
    }

    async fn book_hotel(&self, key: &Key, city: &City) -> Outcome<Event> {
        self.book("hotel", key, city)
    }

    async fn cancel_hotel(&self, _: &City, undoing: &Undoing<String>) -> Undone {
        self.cancel(undoing)
    }

    async fn book_car(&self, key: &Key, city: &City) -> Outcome<Event> {
        self.book("car", key, city)
    }

    async fn cancel_car(&self, _: &City, undoing: &Undoing<String>) -> Undone {
        self.cancel(undoing)
    }
}

// ---- A program that uses it, and the provider that it talks to.

/// The outside world, which acts once per key. Cars are sold out in Rome.
#[derive(Clone, Default)]
pub(crate) struct Agency {
    pub(crate) bookings: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Agency {
    fn book(&self, what: &str, key: &Key, city: &str) -> Outcome<Event> {
        if (what, city) == ("car", "Rome") {
            println!("  agency: no car left in {city}");
            return Outcome::refuted(Event::SoldOut);
        }
        let mut bookings = self.bookings.lock().expect("plain data");
        let next = format!("{what}-{}", bookings.len() + 1);
        let reference = bookings.entry(key.to_string()).or_insert(next).clone();
        println!("  agency: {reference} booked, under the key of step {}", key.step_no());
        Outcome::confirmed(Event::Booked, reference)
    }

    /// It finds the booking by the key under which it was made, for the answer may never have come.
    fn cancel(&self, undoing: &Undoing<String>) -> Undone {
        let mut bookings = self.bookings.lock().expect("plain data");
        let booked = bookings.remove(&undoing.step_key.to_string());
        let Some(reference) = booked else { return Undone::Nothing };
        println!("  agency: {reference} cancelled, because: {}", undoing.reason);
        Undone::Undone(None)
    }
}

async fn travel(engine: &Engine, city: &str) -> Result<(), Box<dyn Error>> {
    println!("\nA trip to {city}:");
    // Rows of your own may be written in the same transaction: both happen, or neither.
    let mut tx = engine.begin().await?;
    let id = engine.start::<Trip>(&mut tx, Start::new(city, city.to_owned())).await?.id;
    tx.commit().await?;

    engine.wait_for_end(id, Duration::from_secs(30)).await?;
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
