//! `Trip`: a sound saga into which one bug at a time can be planted. Each bug is one line, named where it is planted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    Cause, Key, Next, Outcome, Saga, StepError, StepTx, Terms, Undoing, Undone, Unexpected, amount,
    signals, stay, steps,
    testing::{Sample, Samples},
    to, unwind,
};
use uuid::Uuid;

pub(crate) const TRIP_TABLES: &str = "-- name: test tables
create schema test;
create table test.seat (trip text not null);";

/// The faults that a trip can have.
pub(crate) mod bug {
    pub(crate) const NONE: u8 = 0;
    // Found by exploring.
    pub(crate) const FORGOTTEN_UNDO: u8 = 1;
    pub(crate) const REFUSAL_SHOWN_AS_DONE: u8 = 3;
    pub(crate) const REFUSAL_AFTER_THE_PIVOT: u8 = 4;
    pub(crate) const NOTHING_LEAVES: u8 = 5;
    pub(crate) const UNHEARD_SIGNAL: u8 = 6;
    pub(crate) const SWALLOWED_SIGNAL: u8 = 7;
    pub(crate) const KEPT_FOR_EVER: u8 = 8;
    pub(crate) const CIRCLE: u8 = 9;
    pub(crate) const SURPRISE: u8 = 10;
    pub(crate) const NO_OUTCOME: u8 = 11;
    pub(crate) const PIVOT_IN_FLIGHT: u8 = 12;
    // Found by trying.
    pub(crate) const UNDO_ACTS_TWICE: u8 = 21;
    pub(crate) const NO_KEY: u8 = 22;
    pub(crate) const OWN_TRANSACTION: u8 = 23;
    pub(crate) const UNDO_NEEDS_THE_STEP: u8 = 24;
    pub(crate) const UNDO_NEEDS_THE_REFERENCE: u8 = 25;
    // Found by either.
    pub(crate) const FORGOTTEN_EFFECT: u8 = 26;
}

pub(crate) struct Trip<const BUG: u8>;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum State {
    Booking(String),
    Charging(String),
    AwaitingNod(String),
    Issuing,
    Over,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Booked,
    NoSeat,
    Charged,
    Declined,
    Nod,
    Wink,
    NobodyNods,
    Issued,
    PrinterJammed,
    Stop,
}

steps! {
    pub(crate) enum Step done by Tripping -> Event, undone for String {
        Book(trip: String) => tx(book).undo_tx(unbook),
        Charge => call(charge, Terms::effect("charge").amount(amount!(10.00 USD))).repeatable().undo_call(refund),
        // Three bugs of the table: nothing takes the charge back; nor does the table say that there is one; a signal may unwind while it is in
        // flight as the pivot.
        Keep => call(keep, Terms::effect("charge").amount(amount!(10.00 USD))).repeatable().no_undo(),
        Take => call(take).repeatable().no_undo(),
        Settle => call(settle, Terms::effect("charge").amount(amount!(10.00 USD))).repeatable().pivot(),
        Issue(trip: String) => tx(issue).pivot(),
    }
}

signals! {
    pub(crate) enum Signal as Event { Nod => keep, Wink => refuse, Stop => refuse }
}

/// How a trip with that bug is charged for.
fn charge(bug: u8) -> Step {
    match bug {
        bug::FORGOTTEN_UNDO => Step::Keep,
        bug::FORGOTTEN_EFFECT => Step::Take,
        bug::PIVOT_IN_FLIGHT => Step::Settle,
        _ => Step::Charge,
    }
}

use Event as E;
use State as S;

impl<const BUG: u8> Saga for Trip<BUG> {
    const NAME: &'static str = "trip";
    type Input = String;
    type State = State;
    type Event = Event;
    type Signal = Signal;
    type Step = Step;
    type Reason = String;

    fn start(trip: String) -> Next<Self> {
        to(S::Booking(trip.clone())).run(Step::Book(trip))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Booking(trip), E::Booked) => to(S::Charging(trip)).run(charge(BUG)),
            (S::Booking(_), E::NoSeat) => unwind("no seat".to_owned()),
            (S::Charging(trip), E::Charged) if BUG == bug::NOTHING_LEAVES => {
                to(S::AwaitingNod(trip)).wait()
            }
            (S::Charging(trip), E::Charged) => {
                to(S::AwaitingNod(trip)).or_after(Duration::from_secs(600), E::NobodyNods)
            }
            (S::Charging(_), E::Declined) => unwind("declined".to_owned()),
            (S::Charging(trip), E::Nod) if BUG == bug::SWALLOWED_SIGNAL => stay(S::Charging(trip)),
            (S::AwaitingNod(trip), E::Nod) if BUG != bug::KEPT_FOR_EVER => {
                to(S::Issuing).run(Step::Issue(trip))
            }
            (S::AwaitingNod(_), E::NobodyNods) => unwind("nobody nodded".to_owned()),
            (S::Booking(_) | S::Charging(_) | S::AwaitingNod(_), E::Stop) => {
                unwind("stopped".to_owned())
            }
            (S::Issuing, E::Issued) if BUG == bug::CIRCLE => {
                to(S::Issuing).run(Step::Issue("again".to_owned()))
            }
            (S::Issuing, E::Issued) => to(S::Over).done(),
            (S::Issuing, E::PrinterJammed) if BUG == bug::REFUSAL_AFTER_THE_PIVOT => {
                unwind("no ticket".to_owned())
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }
}

impl<const BUG: u8> Samples for Trip<BUG> {
    fn inputs() -> Vec<String> {
        vec!["trip".to_owned()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        let mut samples = match step {
            Step::Book(_) if BUG == bug::REFUSAL_SHOWN_AS_DONE => {
                vec![Sample::done(E::Booked), Sample::done(E::NoSeat)]
            }
            Step::Book(_) => vec![Sample::done(E::Booked), Sample::refused(E::NoSeat)],
            _ if BUG == bug::NO_OUTCOME => Vec::new(),
            Step::Charge | Step::Keep | Step::Take | Step::Settle => {
                vec![Sample::done(E::Charged), Sample::refused(E::Declined)]
            }
            Step::Issue(_) if BUG == bug::REFUSAL_AFTER_THE_PIVOT => {
                vec![Sample::done(E::Issued), Sample::refused(E::PrinterJammed)]
            }
            Step::Issue(_) => vec![Sample::done(E::Issued)],
        };
        if BUG == bug::SURPRISE && matches!(step, Step::Book(_)) {
            samples.push(Sample::done(E::PrinterJammed));
        }
        samples
    }

    fn signals() -> Vec<Signal> {
        match BUG {
            bug::NOTHING_LEAVES => Vec::new(),
            bug::UNHEARD_SIGNAL => vec![Signal::Wink, Signal::Nod, Signal::Stop],
            _ => vec![Signal::Nod, Signal::Stop],
        }
    }
}

/// A bank that moves money once per key, and its book.
#[derive(Default)]
pub(crate) struct Bank(Mutex<BTreeMap<String, i64>>);

impl Bank {
    fn move_money(&self, key: String, amount: i64) -> String {
        let reference = format!("move-{key}");
        self.0.lock().expect("plain data").entry(key).or_insert(amount);
        reference
    }

    fn has_charged(&self, id: Uuid) -> bool {
        let book = self.0.lock().expect("plain data");
        book.iter().any(|(key, moved)| key.contains(&id.to_string()) && *moved > 0)
    }

    /// The amount that it holds for an instance.
    fn holds(&self, id: Uuid) -> i64 {
        let book = self.0.lock().expect("plain data");
        book.iter().filter(|(key, _)| key.contains(&id.to_string())).map(|(_, moved)| moved).sum()
    }
}

pub(crate) struct TripSteps {
    pub(crate) bug: u8,
    pub(crate) bank: Arc<Bank>,
    pub(crate) pool: PgPool,
}

async fn book_seat(tx: &mut PgConnection, trip: &str) -> Result<(), sqlx::Error> {
    let seat = sqlx::query("-- name: test book\ninsert into test.seat values ($1)");
    seat.bind(trip).execute(tx).await.map(|_| ())
}

impl Tripping for TripSteps {
    async fn book(&self, tx: &mut StepTx<'_>, trip: &String) -> Result<Event, StepError> {
        if self.bug == bug::OWN_TRANSACTION {
            book_seat(&mut *self.pool.acquire().await?, trip).await?;
        } else {
            book_seat(tx, trip).await?;
        }
        Ok(E::Booked)
    }

    async fn unbook(
        &self,
        tx: &mut StepTx<'_>,
        trip: &String,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        let unbooked = sqlx::query("-- name: test unbook\ndelete from test.seat where trip = $1")
            .bind(trip)
            .execute(&mut **tx)
            .await?;
        if self.bug == bug::UNDO_NEEDS_THE_STEP && unbooked.rows_affected() == 0 {
            return Err(StepError::Broken("there is no seat".to_owned()));
        }
        Ok(())
    }

    async fn charge(&self, key: &Key) -> Outcome<Event> {
        let key = match self.bug {
            bug::NO_KEY => format!("{}-{}", key.saga_id(), Uuid::now_v7()),
            _ => key.to_string(),
        };
        Outcome::confirmed(E::Charged, self.bank.move_money(key, 10))
    }

    async fn refund(&self, undoing: &Undoing<String>) -> Undone {
        if self.bug == bug::UNDO_NEEDS_THE_REFERENCE && undoing.reference.is_none() {
            return Undone::Impossible(Cause::new("what is to be given back?"));
        }
        if !self.bank.has_charged(undoing.key.saga_id()) {
            return Undone::Nothing;
        }
        let refund = match self.bug {
            bug::UNDO_ACTS_TWICE => format!("{}-{}", undoing.key, Uuid::now_v7()),
            _ => undoing.key.to_string(),
        };
        Undone::Undone(Some(self.bank.move_money(refund, -10)))
    }

    async fn keep(&self, key: &Key) -> Outcome<Event> {
        self.charge(key).await
    }

    async fn take(&self, key: &Key) -> Outcome<Event> {
        self.bank.move_money(key.to_string(), 10);
        Outcome::event(E::Charged)
    }

    async fn settle(&self, key: &Key) -> Outcome<Event> {
        self.charge(key).await
    }

    async fn issue(&self, _: &mut StepTx<'_>, _: &String) -> Result<Event, StepError> {
        Ok(E::Issued)
    }
}

/// The remains of a trip: seats, and the bank's balance.
pub(crate) async fn remains(
    pool: &PgPool,
    bank: &Bank,
    id: Uuid,
) -> Result<(i64, i64), sqlx::Error> {
    let seats = sqlx::query_scalar(
        "-- name: test seats
        select count(*) from test.seat s join saga.instance i on i.subject = s.trip where i.saga_id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await?;
    Ok((seats, bank.holds(id)))
}
