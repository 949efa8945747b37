//! The saga in memory, its whole graph, and every crash on a real Postgres.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{
    Answer, Engine, Start, Status, Step, Steps, signal,
    testing::{
        Sample, Samples, Trial, explore, survives_every_crash, unwinds_from_every_step, walk,
    },
};
use uuid::Uuid;

use super::{
    saga::{Activity, Event as E, Reason, Seat, Tx},
    steps::{Bank, SeatSteps, TABLES},
};

#[test]
fn a_seat_that_the_host_declines_is_refunded_and_released() {
    let mut seat = walk::<Seat>("guest".to_owned());
    seat.answers(E::Held);
    assert_eq!(seat.signal(E::HostDeclines), Answer::Kept, "nobody waits for it yet");
    seat.stays_unknown().answers(E::Paid);
    assert_eq!(seat.reason(), Some(&Reason::HostDeclined));
    seat.takes_all_back();
    assert_eq!(seat.status(), Status::Unwound);
    assert_eq!(seat.steps(), ["Hold", "Charge", "Refund", "Release"]);
}

/// What may happen, by samples.
impl Samples for Seat {
    fn inputs() -> Vec<String> {
        vec!["guest".to_owned()]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<E>> {
        match step {
            Step::Tx(Tx::Hold(_)) => vec![Sample::done(E::Held), Sample::refused(E::Full)],
            Step::Tx(Tx::Admit(_)) => vec![Sample::done(E::Admitted)],
            Step::Activity(Activity::Charge) => {
                vec![Sample::done(E::Paid), Sample::refused(E::Declined)]
            }
            Step::Tx(Tx::Release(_)) | Step::Activity(Activity::Refund) => Vec::new(),
        }
    }

    fn signals() -> Vec<E> {
        vec![E::HostConfirms, E::HostDeclines]
    }
}

#[test]
fn the_whole_graph_is_sound_and_drawn() {
    let map = explore::<Seat>();
    map.assert_sound();
    map.assert_drawn_in("docs/seat.md");
}

/// A seat with its bank; the host confirms.
struct Booked {
    bank: Arc<Bank>,
}

impl Trial for Booked {
    type Saga = Seat;

    async fn prepare(&self, pool: &PgPool) {
        sqlx::raw_sql(TABLES).execute(pool).await.expect("the tables are new");
        let many = "insert into workshop.seat (no) select * from generate_series(3, 200)";
        sqlx::raw_sql(many).execute(pool).await.expect("a seat for each run");
    }

    fn steps(&self, _: PgPool) -> impl Steps<Seat> {
        SeatSteps { bank: self.bank.clone() }
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let guest = format!("guest-{run}");
        let mut tx = engine.pool().begin().await.expect("the database is there");
        let start = Start::new(&guest, guest.clone());
        let started = engine.start::<Seat>(&mut tx, start).await.expect("it can be started");
        tx.commit().await.expect("the database is there");
        let id = started.id;
        started.hand_over();
        id
    }

    /// Done again after the crash: the signal's id is fixed.
    async fn play(&self, engine: &Engine, id: Uuid) {
        let mut tx = engine.pool().begin().await.expect("the database is there");
        signal::<Seat>(&mut tx, id, "host-1", E::HostConfirms).await.expect("it can be signalled");
        tx.commit().await.expect("the database is there");
    }

    async fn balances(&self, _: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let expected = if status == Status::Completed { 2_500 } else { 0 };
        let found = self.bank.balance(id);
        if found == expected { Ok(()) } else { Err(format!("{found} cents, not {expected}")) }
    }
}

#[test]
fn a_seat_survives_every_crash() {
    let survived = survives_every_crash(&Booked { bank: Arc::default() });
    assert!(survived.at.len() >= 5, "{:?}", survived.at);
}

#[test]
fn a_seat_unwinds_from_every_step() {
    let unwound = unwinds_from_every_step(&Booked { bank: Arc::default() });
    println!("{:#?}", unwound.points);
}
