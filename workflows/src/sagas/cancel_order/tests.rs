//! Stories of a cancellation, and its whole graph.

use stepwise_engine::{
    Answer, Status, Step,
    testing::{Asks, Sample, Samples, explore, walk},
};
use uuid::Uuid;

use super::{Activity, CancelOrder, Event as E, GiveBack, Input, Tx};
use crate::{
    money::{Currency, Money},
    payment::gateway::Reference,
};

fn amount() -> Money {
    Money::from_minor(4_200, Currency::USD).expect("an amount")
}

fn back(captured: bool) -> Input {
    let reference = Reference("pi_1".to_owned());
    Input::GiveBack(amount(), GiveBack { order: Uuid::nil(), reference, captured })
}

fn given_back() -> E {
    E::GivenBack(amount(), "void_1".to_owned(), "key".to_owned())
}

#[test]
fn reserved_money_is_released_and_the_refund_told() {
    let mut order = walk::<CancelOrder>(back(false));
    order.answers(given_back()).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Void", "RecordRefund"]);
}

#[test]
fn money_that_was_taken_meanwhile_is_refunded() {
    let mut order = walk::<CancelOrder>(back(false));
    order.refuses(E::Captured);
    assert!(matches!(order.asks(), Asks::Call(Activity::Refund(..))));
    order.answers(given_back()).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
}

#[test]
fn a_refund_that_cannot_be_done_needs_a_person_and_the_order_stays_cancelled() {
    let mut order = walk::<CancelOrder>(back(true));
    order.is_given_up();
    assert_eq!(order.status(), Status::Stuck);
}

#[test]
fn a_cancellation_of_a_placement_ends_with_its_unwinding() {
    let mut order = walk::<CancelOrder>(Input::PlacementUnwinds(Uuid::nil()));
    assert!(matches!(order.asks(), Asks::Wait(None)));
    assert_eq!(order.signal(E::PlacementUnwound), Answer::Applied);
    assert_eq!(order.status(), Status::Completed);
}

impl Samples for CancelOrder {
    fn inputs() -> Vec<Input> {
        vec![
            back(false),
            back(true),
            Input::NothingToGiveBack(Uuid::nil()),
            Input::PlacementUnwinds(Uuid::nil()),
        ]
    }

    fn outcomes(step: &Step<Self>) -> Vec<Sample<E>> {
        match step {
            Step::Activity(Activity::Void(..)) => {
                vec![Sample::done(given_back()), Sample::refused(E::Captured)]
            }
            Step::Activity(Activity::Refund(..)) => vec![Sample::done(given_back())],
            Step::Tx(Tx::RecordRefund { .. }) => vec![Sample::done(E::Recorded)],
            Step::Tx(Tx::Cancel(_)) => Vec::new(),
        }
    }

    fn signals() -> Vec<E> {
        vec![E::PlacementUnwound]
    }
}

#[test]
fn exploring_finds_every_way_sound_and_draws_them() {
    let map = explore::<CancelOrder>();
    map.assert_sound();
    map.assert_drawn_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sagas/cancel-order.md"));
}
