//! One bug of each kind, planted in a trip, and the kit that finds it and says what to do.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use sqlx::PgPool;
use stepwise_engine::{
    Engine, Start, Status, migrations,
    testing::{Database, Trial, explore, unwinds_from_every_step},
};
use uuid::Uuid;

use crate::trip::{Bank, Signal, TRIP_TABLES, Trip, TripSteps, bug, remains};

/// Exploring finds the bug. (What follows from it may be named, too.)
#[track_caller]
fn exploring_finds<const BUG: u8>(expected: &str) {
    let faults = explore::<Trip<BUG>>().faults;
    assert!(
        faults.iter().any(|fault| fault.contains(expected)),
        "{expected:?} is missing in {faults:#?}"
    );
}

#[test]
fn exploring_a_sound_trip_finds_nothing() {
    explore::<Trip<{ bug::NONE }>>().assert_sound();
}

#[test]
fn exploring_finds_an_effect_that_nothing_takes_back() {
    exploring_finds::<{ bug::FORGOTTEN_UNDO }>(
        "Keep leaves its effect `charge` standing when the saga unwinds: its row ends in `.undo_call(method)` or `.undo_tx(method)`",
    );
}

#[test]
fn exploring_finds_an_undo_of_what_a_tx_step_refused_to_do() {
    exploring_finds::<{ bug::REFUSAL_SHOWN_AS_DONE }>(
        "Book answers NoSeat, which unwinds at once, and unbook takes Book back although it refused: let unbook take back only what is there",
    );
}

#[test]
fn exploring_finds_a_refusal_after_the_pivot_that_unwinds() {
    exploring_finds::<{ bug::REFUSAL_AFTER_THE_PIVOT }>(
        "when Issue answers PrinterJammed: a saga cannot unwind after its pivot; go on another way from there",
    );
}

#[test]
fn exploring_finds_a_state_that_nothing_leaves() {
    exploring_finds::<{ bug::NOTHING_LEAVES }>(
        "nothing leaves AwaitingNod: no timer, no signal. Wait with `or_after`",
    );
}

#[test]
fn exploring_finds_a_signal_that_no_state_takes() {
    exploring_finds::<{ bug::UNHEARD_SIGNAL }>("no state takes the signal Wink");
}

#[test]
fn exploring_finds_a_signal_that_a_handler_swallows() {
    exploring_finds::<{ bug::SWALLOWED_SIGNAL }>(
        "Nod is lost in Charging: its sender is told that it was applied, and nothing changes",
    );
}

#[test]
fn exploring_finds_an_early_signal_that_is_kept_for_ever() {
    exploring_finds::<{ bug::KEPT_FOR_EVER }>(
        "Nod is lost when it comes early: it is kept, and no state that waits takes it",
    );
}

#[test]
fn exploring_finds_a_circle_without_an_end() {
    exploring_finds::<{ bug::CIRCLE }>("no end can be reached from running Issuing");
}

#[test]
fn exploring_finds_an_outcome_that_no_state_expects() {
    exploring_finds::<{ bug::SURPRISE }>(
        "when Book answers PrinterJammed: PrinterJammed is not expected in Booking(\"trip\"); add it to `on`",
    );
}

#[test]
fn exploring_finds_a_step_without_an_outcome() {
    exploring_finds::<{ bug::NO_OUTCOME }>(
        "Charge has no sample outcome: say in `Samples::outcomes` how it may turn out",
    );
}

#[test]
fn exploring_finds_a_pivot_that_may_be_done_after_a_signal_unwinds() {
    exploring_finds::<{ bug::PIVOT_IN_FLIGHT }>(
        "let no signal unwind while the pivot may be in flight",
    );
}

/// Trips that end with a ticket.
#[derive(Default)]
struct Trips<const BUG: u8> {
    bank: Arc<Bank>,
}

impl<const BUG: u8> Trial for Trips<BUG> {
    type Saga = Trip<BUG>;
    type Services = TripSteps;

    async fn prepare(&self, pool: &PgPool) {
        sqlx::raw_sql(TRIP_TABLES).execute(pool).await.expect("the tables are new");
    }

    fn services(&self, pool: PgPool) -> TripSteps {
        TripSteps { bug: BUG, bank: self.bank.clone(), pool }
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let trip = format!("trip-{run}");
        let mut tx = engine.begin().await.expect("the database is there");
        let started = engine
            .start::<Trip<BUG>>(&mut tx, Start::new(trip.clone(), trip))
            .await
            .expect("it can be started");
        tx.commit().await.expect("the database is there");
        started.id
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        let mut tx = engine.pool().begin().await.expect("the database is there");
        // It may come early: it is kept then.
        engine.signal::<Trip<BUG>>(&mut tx, id, "nod", Signal::Nod).await.expect("it is there");
        tx.commit().await.expect("the database is there");
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let expected = if status == Status::Completed { (1, 10) } else { (0, 0) };
        let remains = remains(engine.pool(), &self.bank, id).await.map_err(|e| e.to_string())?;
        if remains == expected {
            return Ok(());
        }
        Err(format!("(seats, money) are {remains:?} and should be {expected:?}"))
    }
}

#[test]
fn a_sound_trip_unwinds_from_every_step() {
    let unwound = unwinds_from_every_step(&Trips::<{ bug::NONE }>::default());
    assert_eq!(
        unwound.points,
        [
            "Book refuses by NoSeat",
            "cancelled after Book",
            "cancelled before Charge",
            "Charge refuses by Declined",
            "Charge not done and never heard of",
            "Charge done and never heard of",
            "cancelled after Charge",
            "cancelled before Issue",
        ]
    );
    assert_eq!(
        unwound.repeated,
        [
            "Book repeated",
            "Charge repeated",
            "Issue repeated",
            "refund repeated, an undo",
            "unbook repeated, an undo",
        ]
    );
}

/// Trying finds the bug, and says at which step by what it was found.
#[track_caller]
fn trying_finds<const BUG: u8>(expected: &[&str]) {
    let trial = Trips::<BUG>::default();
    let panic = catch_unwind(AssertUnwindSafe(|| unwinds_from_every_step(&trial)))
        .expect_err("the bug is found");
    let message = panic.downcast_ref::<String>().expect("a message");
    for words in expected {
        assert!(message.contains(words), "{words:?} is missing in {message:?}");
    }
}

#[test]
fn trying_finds_an_undo_that_is_no_no_op_when_repeated() {
    trying_finds::<{ bug::UNDO_ACTS_TWICE }>(&[
        "refund repeated, an undo: it acted twice under the key",
    ]);
}

#[test]
fn trying_finds_an_effect_without_our_key() {
    trying_finds::<{ bug::NO_KEY }>(&[
        "Charge repeated: it acted twice under the key",
        "give `key.to_string()` to the provider",
    ]);
}

#[test]
fn trying_finds_a_tx_step_that_acts_outside_its_transaction() {
    trying_finds::<{ bug::OWN_TRANSACTION }>(&["Book repeated: (seats, money) are (2, 10)"]);
}

#[test]
fn trying_finds_an_undo_that_needs_a_step_which_refused() {
    trying_finds::<{ bug::UNDO_NEEDS_THE_STEP }>(&["Book refuses by NoSeat: ", "there is no seat"]);
}

#[test]
fn trying_finds_an_undo_that_needs_a_reference_which_nobody_heard() {
    trying_finds::<{ bug::UNDO_NEEDS_THE_REFERENCE }>(&[
        "Charge not done and never heard of: it needs a person",
    ]);
}

#[test]
fn trying_finds_an_effect_that_was_neither_declared_nor_taken_back() {
    trying_finds::<{ bug::FORGOTTEN_EFFECT }>(&["(seats, money) are (0, 10) and should be (0, 0)"]);
}

#[test]
fn trying_refuses_what_exploring_finds_unsound() {
    trying_finds::<{ bug::FORGOTTEN_UNDO }>(&["Keep leaves its effect `charge` standing"]);
    trying_finds::<{ bug::SWALLOWED_SIGNAL }>(&["Nod is lost in Charging"]);
}

/// Registered in no other test of this process.
const UNEXPLORED: u8 = 99;

#[tokio::test]
async fn a_saga_that_was_not_explored_is_not_registered_in_a_test() {
    let db = Database::fresh(&[migrations::migrations()]).await;
    let register = || {
        let steps =
            TripSteps { bug: UNEXPLORED, bank: Bank::default().into(), pool: db.pool().clone() };
        drop(Engine::builder(db.pool().clone()).saga::<Trip<UNEXPLORED>, _>(steps));
    };
    let refused = catch_unwind(AssertUnwindSafe(register)).expect_err("it is refused");
    let message = refused.downcast_ref::<String>().expect("a message");
    assert!(message.contains("`EngineBuilder::explored`"), "it says what to do: {message}");
    drop(explore::<Trip<UNEXPLORED>>());
    register();
    db.close().await;
}
