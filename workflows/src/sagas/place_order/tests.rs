//! Stories of a placement.

use stepwise_engine::{
    Answer, Done, Status, StepTable as _,
    testing::{Asks, Walk, walk},
};

use uuid::Uuid;

use super::{
    APPROVAL, CallerStep, Event as E, PlaceOrder, Reason, Signal, Step,
    samples::{approval, confirmed, declined, placement, reference},
};
use crate::payment::{PaymentFailure, gateway::OPERATION};

/// A placement whose authorization is open.
fn created() -> Walk<PlaceOrder> {
    let mut order = walk::<PlaceOrder>(placement());
    order.answers(E::Created(reference()));
    order
}

#[test]
fn a_paid_order_is_placed_and_nothing_can_be_taken_back_any_more() {
    let mut order = created();
    assert_eq!(order.open_undos().len(), 3, "stock, authorization and confirm can be taken back");
    order.answers(confirmed()).answers(E::OrderPlaced);
    assert_eq!(order.status(), Status::Completed);
    assert!(order.open_undos().is_empty());
    assert_eq!(order.steps(), ["Create", "Confirm", "PlaceOrder"]);
}

#[test]
fn a_placement_whose_authorization_is_never_opened_gives_its_stock_back() {
    let mut order = walk::<PlaceOrder>(placement());
    order.refuses(E::Refused(declined())).takes_all_back();
    assert_eq!((order.status(), order.steps()), (Status::Unwound, vec!["Create", "release_stock"]));

    let mut order = walk::<PlaceOrder>(placement());
    assert_eq!(order.signal(Signal::CancelRequested), Answer::Applied);
    order.stays_unknown().takes_all_back();
    assert_eq!((order.status(), order.steps()), (Status::Unwound, vec!["cancel", "release_stock"]));
}

#[test]
fn a_declined_payment_voids_the_authorization_before_it_gives_the_stock_back() {
    let mut order = created();
    order.refuses(E::Refused(declined()));
    assert_eq!(order.reason(), Some(&Reason::PaymentFailed(declined())));
    order.takes_all_back();
    assert_eq!(order.status(), Status::Unwound);
    assert_eq!(order.steps(), ["Create", "Confirm", "cancel", "release_stock"]);
}

#[test]
fn a_cancellation_while_the_gateway_is_asked_waits_for_its_answer_and_voids_it() {
    let mut order = created();
    assert_eq!(order.signal(Signal::CancelRequested), Answer::Applied);
    assert!(
        matches!(order.asks(), Asks::Call(Step::Confirm(..))),
        "what is in flight is settled first"
    );
    order.answers(confirmed());
    assert!(matches!(order.asks(), Asks::Undo(Done::Step(Step::Confirm(..)))));
    order.takes_all_back();
    assert_eq!((order.status(), order.reason()), (Status::Unwound, Some(&Reason::Cancelled)));
}

#[test]
fn a_cancellation_of_a_placed_order_is_refused() {
    let mut order = created();
    order.answers(confirmed()).answers(E::OrderPlaced);
    assert_eq!(order.signal(Signal::CancelRequested), Answer::Refused);
}

#[test]
fn an_approval_in_time_is_asked_for_at_the_gateway_and_places_the_order() {
    let mut order = created();
    order.answers(approval());
    assert!(matches!(order.asks(), Asks::Wait(Some((delay, _))) if delay == APPROVAL));
    assert_eq!(order.signal(Signal::GatewayReported), Answer::Applied);
    assert!(matches!(order.asks(), Asks::Call(Step::Ask(..))));
    order.answers(confirmed()).answers(E::OrderPlaced);
    assert_eq!(order.status(), Status::Completed);
}

#[test]
fn an_approval_that_overtakes_the_answer_is_kept() {
    let mut order = created();
    assert_eq!(order.signal(Signal::GatewayReported), Answer::Kept);
    order.answers(approval());
    assert!(matches!(order.asks(), Asks::Call(Step::Ask(..))), "{:?}", order.asks());
}

#[test]
fn nobody_approves_and_everything_is_taken_back() {
    let mut order = created();
    order.answers(approval()).time_passes();
    assert!(matches!(order.asks(), Asks::Call(Step::Ask(..))), "the gateway is asked a last time");
    order.answers(approval()).takes_all_back();
    assert_eq!(order.reason(), Some(&Reason::PaymentFailed(PaymentFailure::ApprovalExpired)));
    assert_eq!(order.status(), Status::Unwound);
}

#[test]
fn an_approval_whose_event_was_lost_places_the_order_when_its_time_is_over() {
    let mut order = created();
    order.answers(approval()).time_passes().answers(confirmed()).answers(E::OrderPlaced);
    assert_eq!(order.status(), Status::Completed);
}

#[test]
fn a_gateway_that_never_answers_is_asked_and_then_given_up() {
    let mut order = created();
    order.stays_unknown().was_never_seen().is_given_up().takes_all_back();
    assert_eq!(order.reason(), Some(&Reason::PaymentFailed(PaymentFailure::GatewayError)));
    assert_eq!(order.status(), Status::Unwound);
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    let calls = [
        Step::Create(placement()),
        Step::Confirm(placement(), reference()),
        Step::Ask(placement(), reference()),
    ];
    assert!(calls.iter().all(|step| step.terms().timeout > OPERATION));
    // Find the authorization, void it, ask what became of that, ask what is left, refund it.
    assert!(calls[..2].iter().all(|step| step.undo_terms().timeout > 5 * OPERATION));
    let of_version_1 =
        [CallerStep::Cancel(Uuid::nil()), CallerStep::Void(Uuid::nil(), reference())];
    let lasts = |step| Step::caller_undo_terms(step).timeout > 5 * OPERATION;
    assert!(of_version_1.iter().all(lasts));
}
