//! `Badge`: a guest is checked by a call, gets a badge printed by a step that is done together, and is handed it by another one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use stepwise_engine::{
    Engine, Key, Next, Outcome, Saga, Start, Status, StepError, StepOf, StepTx, StepsTx, Undoing,
    Unexpected, signals, stay, steps,
    testing::{Sample, Samples, Trial, start},
    to, unwind,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// No badge is unique, so that one that is printed twice is seen.
pub(crate) const TABLES: &str = "-- name: test tables
create schema test;
create table test.badge (guest integer not null constraint not_13 check (guest <> 13), instance uuid not null);
create table test.handed (instance uuid not null);";

/// Guests who are no ordinary ones.
pub(crate) mod guest {
    /// The database refuses the badge.
    pub(crate) const REFUSED: u32 = 13;
    /// Has a badge, which is only to be handed over.
    pub(crate) const KNOWN: u32 = 5;
    pub(crate) const PANICS: u32 = 66;
    /// The method answers no event for this one.
    pub(crate) const FORGOTTEN: u32 = 77;
    /// From here on there is no room.
    pub(crate) const FULL: u32 = 1_000;
}

pub(crate) struct Badge;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Checking { guest: u32, noted: u32 },
    Printing,
    Handing,
    Handed,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Checked,
    Printed,
    Full,
    Handed,
    Noted,
}

signals! { pub(crate) enum Signal as Event { Noted => refuse } }

steps! {
    pub(crate) enum Step done by Badges -> Event, undone for String {
        Check => call(check).repeatable().no_undo(),
        Print { guest: u32 } => tx_together(print).undo_tx(shred),
        Hand => tx_together(hand).pivot(),
    }
}

impl Saga for Badge {
    const NAME: &'static str = "badge";
    type Input = u32;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(guest: u32) -> Next<Self> {
        to(State::Checking { guest, noted: 0 }).run(Step::Check)
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (State::Checking { guest: guest::KNOWN, .. }, Event::Checked) => {
                to(State::Handing).run(Step::Hand)
            }
            (State::Checking { guest, .. }, Event::Checked) => {
                to(State::Printing).run(Step::Print { guest })
            }
            (State::Checking { guest, noted }, Event::Noted) => {
                stay(State::Checking { guest, noted: noted + 1 })
            }
            (State::Printing, Event::Printed) => to(State::Handing).run(Step::Hand),
            (State::Printing, Event::Full) => unwind("there is no room"),
            (State::Handing, Event::Handed) => to(State::Handed).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl Samples for Badge {
    fn inputs() -> Vec<u32> {
        vec![7]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Check => vec![Sample::done(Event::Checked)],
            Step::Print { .. } => vec![Sample::done(Event::Printed), Sample::refused(Event::Full)],
            Step::Hand => vec![Sample::done(Event::Handed)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Noted]
    }

    /// It counts notes and treats all counts alike.
    fn position(state: &State) -> String {
        let text = format!("{state:?}");
        text.split(", noted").next().unwrap_or(&text).to_owned()
    }
}

/// The work of the desk so far, and its obstacles.
pub(crate) struct Book {
    pub(crate) checked: AtomicUsize,
    /// The guests of each call of `print`.
    pub(crate) prints: Mutex<Vec<Vec<u32>>>,
    /// The sizes of the calls of `hand`.
    pub(crate) hands: Mutex<Vec<usize>>,
    /// The next call of `print` with at least so many guests waits for a permit of `press`; 0: none waits.
    pub(crate) held: AtomicUsize,
    pub(crate) press: Semaphore,
}

#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) book: Arc<Book>,
    /// One permit lets one guest be checked.
    pub(crate) door: Arc<Semaphore>,
}

impl Desk {
    /// The number of guests that are checked at once.
    pub(crate) fn new(guests: usize) -> Self {
        let book = Book {
            checked: AtomicUsize::new(0),
            prints: Mutex::default(),
            hands: Mutex::default(),
            held: AtomicUsize::new(0),
            press: Semaphore::new(0),
        };
        Self { book: Arc::new(book), door: Arc::new(Semaphore::new(guests)) }
    }
}

impl Badges for Desk {
    async fn check(&self, _: &Key) -> Outcome<Event> {
        self.door.acquire().await.expect("the door is never closed").forget();
        self.book.checked.fetch_add(1, SeqCst);
        Outcome::event(Event::Checked)
    }

    async fn print(
        &self,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>, &u32)],
    ) -> Result<Vec<Event>, StepError> {
        let (by, guests): (Vec<_>, Vec<_>) =
            all.iter().map(|(of, guest)| (of.instance, **guest)).unzip();
        self.book.prints.lock().expect("nobody panics").push(guests.clone());
        let held = self.book.held.load(SeqCst);
        let waits = held > 0 && guests.len() >= held;
        if waits && self.book.held.compare_exchange(held, 0, SeqCst, SeqCst).is_ok() {
            self.book.press.acquire().await.expect("it is never closed").forget();
        }
        let numbers = guests.iter().map(|guest| guest.cast_signed()).collect::<Vec<_>>();
        sqlx::query("-- name: test print\ninsert into test.badge select * from unnest($1::int[], $2::uuid[])")
            .bind(numbers)
            .bind(by)
            .execute(&mut **tx)
            .await?;
        assert!(!guests.contains(&guest::PANICS), "scripted");
        let known = guests.iter().filter(|guest| **guest != guest::FORGOTTEN);
        Ok(known.map(|g| if *g < guest::FULL { Event::Printed } else { Event::Full }).collect())
    }

    async fn shred(
        &self,
        tx: &mut StepTx<'_>,
        _: &u32,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        let instance = tx.instance();
        sqlx::query("-- name: test shred\ndelete from test.badge where instance = $1")
            .bind(instance)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn hand(
        &self,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>,)],
    ) -> Result<Vec<Event>, StepError> {
        self.book.hands.lock().expect("nobody panics").push(all.len());
        let by = all.iter().map(|(of,)| of.instance).collect::<Vec<_>>();
        sqlx::query("-- name: test hand\ninsert into test.handed select * from unnest($1::uuid[])")
            .bind(by)
            .execute(&mut **tx)
            .await?;
        Ok(vec![Event::Handed; all.len()])
    }
}

impl Trial for Desk {
    type Saga = Badge;
    type Services = Self;

    async fn prepare(&self, pool: &PgPool) {
        sqlx::raw_sql(TABLES).execute(pool).await.expect("the tables are new");
    }

    fn services(&self, _: PgPool) -> Self {
        self.clone()
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        start::<Badge>(engine, Start::new(format!("guest {run}"), 7)).await
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let wanted = if status == Status::Completed { (1, 1) } else { (0, 0) };
        let written = written(engine.pool(), id).await;
        if written == wanted { Ok(()) } else { Err(format!("{written:?} badges")) }
    }
}

/// The badges that are printed for an instance, and those that are handed over.
pub(crate) async fn written(pool: &PgPool, id: Uuid) -> (i64, i64) {
    sqlx::query_as(
        "-- name: test badges
        select (select count(*) from test.badge where instance = $1), (select count(*) from test.handed where instance = $1)",
    )
    .bind(id)
    .fetch_one(pool)
    .await
    .expect("the database is there")
}
