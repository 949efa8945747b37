//! Stories of an approval.

use std::time::Duration;

use stepwise_engine::{
    Answer, Status, StepTable as _,
    testing::{Asks, Walk, walk},
};
use uuid::Uuid;

use super::{
    Event as E, Input, PayPalApproval, Reason, Signal, Step,
    samples::{TIME, given_back, offered, opened, reference},
};
use crate::payment::gateway::OPERATION;

/// An approval that waits for its customer.
fn offered_approval() -> Walk<PayPalApproval> {
    let mut approval = walk::<PayPalApproval>(Input::Open(Uuid::nil()));
    approval.answers(opened()).answers(offered());
    approval
}

fn must_ask(approval: &Walk<PayPalApproval>) {
    assert!(matches!(approval.asks(), Asks::Call(Step::Ask(..))), "{:?}", approval.asks());
}

#[test]
fn an_approval_that_paypal_reports_is_asked_for_and_makes_the_method_usable() {
    let mut approval = offered_approval();
    assert_eq!(approval.signal(Signal::Reported), Answer::Applied);
    must_ask(&approval);
    approval.answers(E::Approved).answers(E::Usable);
    assert_eq!(approval.status(), Status::Completed);
    assert_eq!(approval.steps(), ["Open", "Offer", "Ask", "Approve"]);
}

#[test]
fn an_approval_whose_webhook_is_lost_is_asked_for_before_it_is_given_up() {
    let mut approval = offered_approval();
    assert!(matches!(approval.asks(), Asks::Wait(Some((left, _))) if left == TIME));
    approval.time_passes();
    must_ask(&approval);
    approval.answers(E::Approved).answers(E::Usable);
    assert_eq!(approval.status(), Status::Completed);
}

#[test]
fn a_report_without_news_leaves_the_customer_the_rest_of_their_time() {
    let mut approval = offered_approval();
    approval.signal(Signal::Reported);
    let rest = Duration::from_secs(7);
    approval.answers(E::StillOpen(rest));
    assert!(matches!(approval.asks(), Asks::Wait(Some((left, _))) if left == rest));
}

#[test]
fn a_report_that_comes_while_paypal_is_asked_is_kept_and_asked_about() {
    let mut approval = offered_approval();
    approval.signal(Signal::Reported);
    assert_eq!(approval.signal(Signal::Reported), Answer::Kept);
    approval.answers(E::StillOpen(TIME));
    must_ask(&approval);
}

#[test]
fn nobody_approves_and_the_method_expires() {
    let mut approval = offered_approval();
    approval.time_passes().answers(E::Gone).takes_all_back();
    assert_eq!((approval.status(), approval.reason()), (Status::Unwound, Some(&Reason::Expired)));
    assert_eq!(approval.steps(), ["Open", "Offer", "Ask", "expire"]);
}

#[test]
fn an_approval_that_paypal_refuses_or_never_opens_is_a_service_error() {
    let mut approval = walk::<PayPalApproval>(Input::Open(Uuid::nil()));
    approval.refuses(E::Refused).takes_all_back();
    assert_eq!(approval.reason(), Some(&Reason::ServiceError));

    let mut approval = walk::<PayPalApproval>(Input::Open(Uuid::nil()));
    approval.is_given_up().takes_all_back();
    assert_eq!(approval.reason(), Some(&Reason::ServiceError));
    assert_eq!(approval.status(), Status::Unwound);
}

#[test]
fn a_method_that_an_order_gives_back_is_usable_only_while_paypal_holds_its_approval() {
    let mut held = walk::<PayPalApproval>(given_back());
    held.answers(E::Approved).answers(E::Usable);
    assert_eq!(held.status(), Status::Completed);
    for answer in [E::StillOpen(TIME), E::Gone] {
        let mut gone = walk::<PayPalApproval>(given_back());
        gone.answers(answer).takes_all_back();
        assert_eq!((gone.status(), gone.reason()), (Status::Unwound, Some(&Reason::Expired)));
    }
}

#[test]
fn an_attempt_lasts_longer_than_paypal_may_take() {
    assert!(Step::Open(Uuid::nil()).terms().timeout > OPERATION);
    assert!(Step::Ask(Uuid::nil(), reference()).terms().timeout > OPERATION);
}
