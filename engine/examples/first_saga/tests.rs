//! The saga in memory, its whole graph, and every crash on a real Postgres.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{
    Answer, Engine, Start, Status,
    testing::{
        self, Sample, Samples, Trial, explore, survives_every_crash, unwinds_from_every_step, walk,
    },
};
use uuid::Uuid;

use super::{
    saga::{Event as E, Seat, Signal, Step},
    steps::{Bank, TABLES, Workshop},
};

#[test]
fn a_seat_that_the_host_declines_is_refunded_and_released() {
    let mut seat = walk::<Seat>("guest".to_owned());
    seat.answers(E::Held);
    assert_eq!(seat.signal(Signal::Declines), Answer::Kept, "nobody waits for it yet");
    seat.stays_unknown().answers(E::Paid);
    assert_eq!(seat.reason().map(String::as_str), Some("the host declines"));
    seat.takes_all_back();
    assert_eq!(seat.status(), Status::Unwound);
    assert_eq!(seat.steps(), ["Hold", "Charge", "refund", "release"]);
}

/// What may happen, by samples.
impl Samples for Seat {
    fn inputs() -> Vec<String> {
        vec!["guest".to_owned()]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Hold(_) => vec![Sample::done(E::Held), Sample::refused(E::Full)],
            Step::Charge => vec![Sample::done(E::Paid), Sample::refused(E::Declined)],
            Step::Admit(_) => vec![Sample::done(E::Admitted)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Confirms, Signal::Declines]
    }
}

#[test]
fn the_whole_graph_is_sound_and_drawn() {
    let map = explore::<Seat>();
    map.assert_sound();
    map.assert_drawn_in("docs/seat.md");
}

/// A seat with its bank; the host confirms.
struct Booked(Arc<Bank>);

impl Trial for Booked {
    type Saga = Seat;
    type Services = Workshop;

    async fn prepare(&self, pool: &PgPool) {
        sqlx::raw_sql(TABLES).execute(pool).await.expect("the tables are new");
        let many = "insert into workshop.seat (no) select * from generate_series(3, 200)";
        sqlx::raw_sql(many).execute(pool).await.expect("a seat for each run");
    }

    fn services(&self, _: PgPool) -> Workshop {
        Workshop(self.0.clone())
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let guest = format!("guest-{run}");
        testing::start::<Seat>(engine, Start::new(&guest, guest.clone())).await
    }

    /// Done again after the crash: the signal's id is fixed.
    async fn play(&self, engine: &Engine, id: Uuid) {
        testing::signal::<Seat>(engine, id, "host-1", Signal::Confirms).await;
    }

    async fn balances(&self, _: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let expected = if status == Status::Completed { 2_500 } else { 0 };
        let found = self.0.balance(id);
        if found == expected { Ok(()) } else { Err(format!("{found} cents, not {expected}")) }
    }
}

#[test]
fn a_seat_survives_every_crash() {
    let survived = survives_every_crash(&Booked(Arc::default()));
    assert!(survived.at.len() >= 5, "{:?}", survived.at);
}

#[test]
fn a_seat_unwinds_from_every_step() {
    let unwound = unwinds_from_every_step(&Booked(Arc::default()));
    println!("{:#?}", unwound.points);
}
