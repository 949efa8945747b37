//! Stories of a cancellation.

use stepwise_engine::{
    Answer, Status, StepTable as _,
    testing::{Asks, walk},
};
use uuid::Uuid;

use super::{
    CancelOrder, Event as E, Input, Signal, Step,
    samples::{back, given_back, left, to_give_back},
};
use crate::payment::gateway::OPERATION;

#[test]
fn reserved_money_is_released_and_the_refund_told() {
    let mut order = walk::<CancelOrder>(back(false));
    order.answers(given_back()).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Void", "RecordRefund"]);
}

#[test]
fn money_that_was_taken_meanwhile_is_refunded_as_far_as_it_is_left() {
    let mut order = walk::<CancelOrder>(back(false));
    order.refuses(E::Captured).answers(left());
    let E::Left(taken, left) = left() else { unreachable!("the sample says how much is left") };
    let Asks::Call(Step::Refund(amount, back)) = order.asks() else { panic!("{:?}", order.asks()) };
    assert_eq!((amount, back.taken), (left, Some(taken)));
    order.answers(given_back()).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Void", "Ask", "Refund", "RecordRefund"]);
}

#[test]
fn a_cancellation_ends_although_somebody_else_has_given_the_money_back() {
    let mut order = walk::<CancelOrder>(back(true));
    order.refuses(E::Captured).answers(E::NothingLeft).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Refund", "Ask", "RecordNothing"]);
}

#[test]
fn a_refund_that_cannot_be_done_needs_a_person_and_the_order_stays_cancelled() {
    let mut order = walk::<CancelOrder>(back(true));
    order.is_given_up();
    assert_eq!(order.status(), Status::Stuck);
}

#[test]
fn a_cancellation_of_a_placement_ends_as_the_order_that_the_placement_has_left() {
    for (became, ends) in [
        (E::OrderCancelled, Status::Completed),
        (E::OrderFailed, Status::Unwound),
        (E::OrderShipped, Status::Unwound),
    ] {
        let mut order = walk::<CancelOrder>(Input::PlacementUnwinds(Uuid::nil()));
        assert!(matches!(order.asks(), Asks::Wait(None)));
        assert_eq!(order.signal(Signal::PlacementEnded), Answer::Applied);
        order.answers(became);
        assert_eq!(order.status(), ends);
    }
}

#[test]
fn an_order_that_was_placed_all_the_same_is_cancelled_and_its_money_given_back() {
    let mut order = walk::<CancelOrder>(Input::PlacementUnwinds(Uuid::nil()));
    order.signal(Signal::PlacementEnded);
    order.answers(E::OrderPlaced).answers(to_give_back());
    order.answers(given_back()).answers(E::Recorded);
    assert_eq!(order.status(), Status::Completed);
    assert_eq!(order.steps(), ["Look", "Cancel", "Void", "RecordRefund"]);
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    let Input::GiveBack(amount, back) = back(true) else { unreachable!("the sample gives back") };
    assert!(Step::Void(amount, back.clone()).terms().timeout > OPERATION);
    // A refund that is refused is followed by a question.
    assert!(Step::Refund(amount, back.clone()).terms().timeout > 2 * OPERATION);
    assert!(Step::Ask(back).terms().timeout > OPERATION);
}
