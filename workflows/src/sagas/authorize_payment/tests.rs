//! Stories of an authorization.

use stepwise_engine::{
    Answer, Status, StepTable as _,
    testing::{Asks, Walk, walk},
};

use super::{
    AuthorizePayment, Event as E, Reason, Signal, Step,
    samples::{approval, confirmed, created, declined, request},
};
use crate::{
    payment::{
        PaymentFailure,
        gateway::{OPERATION, Reference},
    },
    refusal::Refusal as _,
};

/// A payment whose authorization is open.
fn opened() -> Walk<AuthorizePayment> {
    let mut payment = walk::<AuthorizePayment>(request());
    payment.answers(created());
    payment
}

#[test]
fn a_payment_whose_money_is_reserved_is_put_in_force() {
    let mut payment = opened();
    payment.answers(confirmed()).answers(E::Booked);
    assert_eq!(payment.status(), Status::Completed);
    assert_eq!(payment.steps(), ["Create", "Confirm", "Book"]);
}

#[test]
fn a_payment_of_an_order_that_was_cancelled_meanwhile_is_released() {
    let mut payment = opened();
    payment.answers(confirmed()).refuses(E::OrderCancelled).takes_all_back();
    assert_eq!(
        (payment.status(), payment.reason()),
        (Status::Unwound, Some(&Reason::OrderCancelled))
    );
    assert_eq!(payment.steps(), ["Create", "Confirm", "Book", "void", "cancel", "give_up"]);

    let mut payment = opened();
    payment.answers(approval());
    assert_eq!(payment.signal(Signal::OrderCancelled), Answer::Applied);
    payment.takes_all_back();
    assert_eq!(
        (payment.status(), payment.reason()),
        (Status::Unwound, Some(&Reason::OrderCancelled))
    );
}

#[test]
fn each_failure_has_the_code_of_the_catalogue() {
    let code = |reason: &Reason| reason.clone().refused().expect("a refusal").code;
    for (failure, expected) in [
        (declined(), "card_declined"),
        (PaymentFailure::Unsupported, "unsupported_card_type"),
        (PaymentFailure::GatewayError, "gateway_error"),
    ] {
        let mut payment = opened();
        payment.refuses(E::Refused(failure.clone())).takes_all_back();
        let reason = payment.reason().expect("it has one");
        assert_eq!((code(reason), reason.failure()), (expected, Some(failure)));
    }
    let mut payment = opened();
    payment.is_given_up().takes_all_back();
    assert_eq!(payment.reason().map(code), Some("gateway_error"));
}

#[test]
fn the_gateway_is_asked_a_last_time_when_the_time_for_the_approval_is_over() {
    let mut payment = opened();
    payment.answers(approval()).time_passes();
    assert!(matches!(payment.asks(), Asks::Call(Step::Ask(..))), "{:?}", payment.asks());
    payment.answers(confirmed()).answers(E::Booked);
    assert_eq!(payment.status(), Status::Completed);

    let mut payment = opened();
    payment.answers(approval()).time_passes().answers(approval()).takes_all_back();
    assert_eq!(payment.reason(), Some(&Reason::ApprovalExpired));
}

#[test]
fn an_approval_in_time_is_asked_for_at_the_gateway() {
    let mut payment = opened();
    assert_eq!(payment.signal(Signal::GatewayReported), Answer::Kept);
    payment.answers(approval());
    assert!(matches!(payment.asks(), Asks::Call(Step::Ask(..))), "{:?}", payment.asks());
    payment.answers(confirmed()).answers(E::Booked);
    assert_eq!(payment.status(), Status::Completed);
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    let reference = Reference("pi_1".to_owned());
    let calls = [
        Step::Create(request()),
        Step::Confirm(request(), reference.clone()),
        Step::Ask(request(), reference),
    ];
    assert!(calls.iter().all(|step| step.terms().timeout > OPERATION));
    // Find the authorization, void it, ask what became of that, ask what is left, refund it.
    assert!(calls[..2].iter().all(|step| step.undo_terms().timeout > 5 * OPERATION));
}
