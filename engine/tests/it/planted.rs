//! One bug of each kind, planted in a trip, and the kit that finds it and says what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stepwise_engine::{
    Engine, migrations,
    testing::{Database, explore},
};

use crate::trip::{Bank, Trip, TripSteps, bug};

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
        "Charge leaves its effect `charge` standing when the saga unwinds: its way back is a step (`Undo::By`)",
    );
}

#[test]
fn exploring_finds_an_undo_that_has_an_undo() {
    exploring_finds::<{ bug::UNDO_OF_AN_UNDO }>(
        "Refund is an undo and has an undo itself, which never runs",
    );
}

#[test]
fn exploring_finds_an_undo_of_what_a_tx_step_refused_to_do() {
    exploring_finds::<{ bug::REFUSAL_SHOWN_AS_DONE }>(
        "Book answers NoSeat, which unwinds at once, and Unbook takes Book back although it refused: let Unbook take back only what is there",
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
    exploring_finds::<{ bug::UNHEARD_SIGNAL }>("no state takes the signal Nod");
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

/// Registered in no other test of this process.
const UNEXPLORED: u8 = 99;

#[tokio::test]
async fn a_saga_that_was_not_explored_is_not_registered_in_a_test() {
    let db = Database::fresh(&[migrations::migrations()]).await;
    let register = || {
        let steps = TripSteps { bank: Bank::default().into(), pool: db.pool().clone() };
        drop(Engine::builder(db.pool().clone()).saga::<Trip<UNEXPLORED>, _>(steps));
    };
    let refused = catch_unwind(AssertUnwindSafe(register)).expect_err("it is refused");
    let message = refused.downcast_ref::<String>().expect("a message");
    assert!(message.contains("`EngineBuilder::explored`"), "it says what to do: {message}");
    drop(explore::<Trip<UNEXPLORED>>());
    register();
    db.close().await;
}
