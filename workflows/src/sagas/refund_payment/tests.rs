//! Stories of a refund.

use stepwise_engine::{Status, StepTable as _, testing::walk};

use super::{
    Event as E, Reason, RefundPayment, Step,
    samples::{given_back, refund, refused},
};
use crate::{
    payment::gateway::OPERATION,
    refusal::{Kind, Refusal as _},
};

#[test]
fn money_that_the_gateway_gives_back_is_booked() {
    let mut refunding = walk::<RefundPayment>(refund());
    refunding.answers(given_back()).answers(E::Recorded);
    assert_eq!(refunding.status(), Status::Completed);
    assert_eq!(refunding.steps(), ["Refund", "Record"]);
}

#[test]
fn a_refund_that_the_gateway_refuses_is_withdrawn() {
    let mut refunding = walk::<RefundPayment>(refund());
    refunding.refuses(refused()).takes_all_back();
    assert_eq!(refunding.status(), Status::Unwound);
    assert_eq!(refunding.steps(), ["Refund", "withdraw"]);
    let Some(reason) = refunding.reason() else { unreachable!("it has unwound") };
    assert_eq!((reason.code(), reason.key()), ("expired_card", Some("key")));
}

#[test]
fn a_refund_without_an_answer_has_failed_like_one_that_is_refused() {
    let mut refunding = walk::<RefundPayment>(refund());
    refunding.is_given_up().takes_all_back();
    assert_eq!(
        (refunding.status(), refunding.reason()),
        (Status::Unwound, Some(&Reason::NoAnswer))
    );
    let refused = Reason::NoAnswer.refused().expect("a client is told");
    assert_eq!((refused.kind, refused.code), (Kind::GatewayFailed, "refund_failed"));
}

#[test]
fn an_attempt_lasts_longer_than_the_gateway_may_take() {
    assert!(Step::Refund(refund()).terms().timeout > OPERATION);
}
