//! `Trip`: a sound saga into which one bug at a time can be planted. Each bug is one line, named where it is planted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    ActivityKey, CalledOff, Cause, Early, EffectKind, EffectRow, Next, Outcome, Saga, Step,
    StepError, Steps, Terms, Undo, Undone, Unexpected, WhenUnknown, stay,
    testing::{Sample, Samples},
    to, unwind,
};
use uuid::Uuid;

pub(crate) const TRIP_TABLES: &str = "-- name: test tables
create schema test;
create table test.seat (trip text not null);";

/// What can be wrong with a trip.
pub(crate) mod bug {
    pub(crate) const NONE: u8 = 0;
    // Found by exploring.
    pub(crate) const FORGOTTEN_UNDO: u8 = 1;
    pub(crate) const UNDO_OF_AN_UNDO: u8 = 2;
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
    NobodyNods,
    Issued,
    PrinterJammed,
    Stop,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Book(String),
    Unbook(String),
    Issue(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Charge,
    Refund,
}

use Event as E;
use State as S;

impl<const BUG: u8> Saga for Trip<BUG> {
    const NAME: &'static str = "trip";
    const VERSION: u16 = 1;
    type Input = String;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = String;

    fn start(trip: String) -> Next<Self> {
        to(S::Booking(trip.clone())).run(Tx::Book(trip))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(match (state, event) {
            (S::Booking(trip), E::Booked) => to(S::Charging(trip)).call(Activity::Charge),
            (S::Booking(_), E::NoSeat) => unwind("no seat".to_owned()),
            (S::Charging(trip), E::Charged) if BUG == bug::NOTHING_LEAVES => {
                to(S::AwaitingNod(trip)).wait()
            }
            (S::Charging(trip), E::Charged) => {
                to(S::AwaitingNod(trip)).or_after(Duration::from_secs(600), E::NobodyNods)
            }
            (S::Charging(_), E::Declined) => unwind("declined".to_owned()),
            (S::Charging(trip), E::Nod) if BUG == bug::SWALLOWED_SIGNAL => stay(S::Charging(trip)),
            (S::AwaitingNod(trip), E::Nod)
                if BUG != bug::UNHEARD_SIGNAL && BUG != bug::KEPT_FOR_EVER =>
            {
                to(S::Issuing).run(Tx::Issue(trip))
            }
            (S::AwaitingNod(_), E::NobodyNods) => unwind("nobody nodded".to_owned()),
            (S::Booking(_) | S::Charging(_) | S::AwaitingNod(_), E::Stop) => {
                unwind("stopped".to_owned())
            }
            (S::Issuing, E::Issued) if BUG == bug::CIRCLE => {
                to(S::Issuing).run(Tx::Issue("again".to_owned()))
            }
            (S::Issuing, E::Issued) => to(S::Over).done(),
            (S::Issuing, E::PrinterJammed) if BUG == bug::REFUSAL_AFTER_THE_PIVOT => {
                unwind("no ticket".to_owned())
            }
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Book(trip)) => Undo::By(Step::Tx(Tx::Unbook(trip.clone()))),
            Step::Activity(Activity::Charge)
                if BUG == bug::FORGOTTEN_UNDO || BUG == bug::FORGOTTEN_EFFECT =>
            {
                Undo::Nothing
            }
            Step::Activity(Activity::Charge) if BUG == bug::PIVOT_IN_FLIGHT => Undo::Pivot,
            Step::Activity(Activity::Charge) => Undo::By(Step::Activity(Activity::Refund)),
            Step::Activity(Activity::Refund) if BUG == bug::UNDO_OF_AN_UNDO => {
                Undo::By(Step::Activity(Activity::Charge))
            }
            Step::Tx(Tx::Issue(_)) => Undo::Pivot,
            Step::Tx(Tx::Unbook(_)) | Step::Activity(Activity::Refund) => Undo::Nothing,
        }
    }

    fn terms(_: &Activity) -> Terms {
        // The bug that exploring cannot see: what it does outside is not declared.
        let declared = BUG != bug::FORGOTTEN_EFFECT;
        let amount = Some(("10.00".to_owned(), "USD".to_owned()));
        Terms {
            effect: declared.then_some(EffectKind { kind: "charge", amount }),
            unknown: WhenUnknown::Repeat,
            ..Terms::new()
        }
    }

    fn called_off(why: CalledOff<Activity>) -> String {
        format!("{why:?}")
    }

    fn early(signal: &Event) -> Early {
        match signal {
            E::Nod if BUG != bug::UNHEARD_SIGNAL => Early::Keep,
            _ => Early::Refuse,
        }
    }
}

impl<const BUG: u8> Samples for Trip<BUG> {
    fn inputs() -> Vec<String> {
        vec!["trip".to_owned()]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<Event>> {
        let mut samples = match step {
            Step::Tx(Tx::Book(_)) if BUG == bug::REFUSAL_SHOWN_AS_DONE => {
                vec![Sample::done(E::Booked), Sample::done(E::NoSeat)]
            }
            Step::Tx(Tx::Book(_)) => vec![Sample::done(E::Booked), Sample::refused(E::NoSeat)],
            Step::Activity(Activity::Charge) if BUG == bug::NO_OUTCOME => Vec::new(),
            Step::Activity(Activity::Charge) => {
                vec![Sample::done(E::Charged), Sample::refused(E::Declined)]
            }
            Step::Tx(Tx::Issue(_)) if BUG == bug::REFUSAL_AFTER_THE_PIVOT => {
                vec![Sample::done(E::Issued), Sample::refused(E::PrinterJammed)]
            }
            Step::Tx(Tx::Issue(_)) => vec![Sample::done(E::Issued)],
            Step::Tx(Tx::Unbook(_)) | Step::Activity(Activity::Refund) => Vec::new(),
        };
        if BUG == bug::SURPRISE && matches!(step, Step::Tx(Tx::Book(_))) {
            samples.push(Sample::done(E::PrinterJammed));
        }
        samples
    }

    fn signals() -> Vec<Event> {
        match BUG {
            bug::NOTHING_LEAVES => Vec::new(),
            _ => vec![E::Nod, E::Stop],
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

    /// What it holds of an instance's money.
    fn holds(&self, id: Uuid) -> i64 {
        let book = self.0.lock().expect("plain data");
        book.iter().filter(|(key, _)| key.contains(&id.to_string())).map(|(_, moved)| moved).sum()
    }
}

pub(crate) struct TripSteps {
    pub(crate) bank: Arc<Bank>,
    pub(crate) pool: PgPool,
}

async fn book_seat(tx: &mut PgConnection, trip: &str) -> Result<(), sqlx::Error> {
    let seat = sqlx::query("-- name: test book\ninsert into test.seat values ($1)");
    seat.bind(trip).execute(tx).await.map(|_| ())
}

impl<const BUG: u8> Steps<Trip<BUG>> for TripSteps {
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        match step {
            Tx::Book(trip) if BUG == bug::OWN_TRANSACTION => {
                book_seat(&mut *self.pool.acquire().await?, trip).await?;
                Ok(E::Booked)
            }
            Tx::Book(trip) => {
                book_seat(tx, trip).await?;
                Ok(E::Booked)
            }
            Tx::Issue(_) => Ok(E::Issued),
            Tx::Unbook(_) => Err(StepError::Broken("an undo".to_owned())),
        }
    }

    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        step: &Tx,
        _: &String,
    ) -> Result<(), StepError> {
        let Tx::Unbook(trip) = step else { return Err(StepError::Broken("no undo".to_owned())) };
        let unbooked = sqlx::query("-- name: test unbook\ndelete from test.seat where trip = $1")
            .bind(trip)
            .execute(tx)
            .await?;
        if BUG == bug::UNDO_NEEDS_THE_STEP && unbooked.rows_affected() == 0 {
            return Err(StepError::Broken("there is no seat".to_owned()));
        }
        Ok(())
    }

    async fn call(&self, key: &ActivityKey, _: &Activity) -> Outcome<Event> {
        let key = match BUG {
            bug::NO_KEY => format!("{}-{}", key.saga_id, Uuid::now_v7()),
            _ => key.to_string(),
        };
        let reference = self.bank.move_money(key, 10);
        if BUG == bug::FORGOTTEN_EFFECT {
            return Outcome::event(E::Charged);
        }
        Outcome::confirmed(E::Charged, reference)
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        _: &Activity,
        effect: Option<&EffectRow>,
        _: &String,
    ) -> Undone {
        let known = effect.and_then(|effect| effect.reference.as_ref());
        if BUG == bug::UNDO_NEEDS_THE_REFERENCE && known.is_none() {
            return Undone::Impossible(Cause::new("what is to be given back?"));
        }
        if !self.bank.has_charged(key.saga_id) {
            return Undone::Nothing;
        }
        let refund = match BUG {
            bug::UNDO_ACTS_TWICE => format!("{key}-{}", Uuid::now_v7()),
            _ => key.to_string(),
        };
        Undone::Undone(Some(self.bank.move_money(refund, -10)))
    }
}

/// What remains of a trip: seats, and the bank's balance.
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
