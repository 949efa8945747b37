//! Stories of a reconciliation.

use stepwise_engine::{Status, testing::walk};

use super::{
    Event as E, ReconcilePayments,
    samples::{question, truth},
};

#[test]
fn it_asks_about_one_payment_after_the_other_until_none_is_due() {
    let mut tick = walk::<ReconcilePayments>(9);
    tick.answers(E::Due(question())).answers(E::Answered(truth())).answers(E::Applied);
    tick.answers(E::NoneDue);
    assert_eq!(tick.status(), Status::Completed);
    assert_eq!(tick.steps(), ["Choose", "Ask", "Apply", "Choose"]);
}

#[test]
fn it_asks_about_no_more_payments_than_it_may() {
    let mut tick = walk::<ReconcilePayments>(2);
    for _ in 0..2 {
        tick.answers(E::Due(question())).answers(E::Answered(truth())).answers(E::Applied);
    }
    assert_eq!(tick.status(), Status::Completed);
    assert_eq!(tick.steps(), ["Choose", "Ask", "Apply", "Choose", "Ask", "Apply"]);
}

#[test]
fn a_gateway_that_does_not_answer_ends_it_and_nothing_is_taken_back() {
    let mut tick = walk::<ReconcilePayments>(2);
    tick.answers(E::Due(question())).is_given_up();
    assert_eq!(tick.status(), Status::Unwound);
}
