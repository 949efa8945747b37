//! Stories of a reconciliation.

use stepwise_engine::{Status, testing::walk};

use super::{
    Answers, Event as E, PAGE, ReconcilePayments,
    samples::{answers, question, truth},
};
use crate::{
    money::Money,
    order::{outside::Truth, reconcile::Question},
    payment::gateway::{Authorization, AuthorizationStatus, Reference},
};

fn page(payments: u16) -> E {
    E::Due(vec![question(); payments.into()])
}

#[test]
fn it_asks_about_one_page_after_the_other_until_none_is_due() {
    let mut tick = walk::<ReconcilePayments>(99);
    tick.answers(page(PAGE)).answers(E::Answered(answers())).answers(E::Applied);
    tick.answers(page(3)).answers(E::Answered(Answers::default())).answers(E::NoneDue);
    assert_eq!(tick.status(), Status::Completed);
    assert_eq!(tick.steps(), ["Choose", "Ask", "Apply", "Choose", "Ask", "Choose"]);
}

#[test]
fn answers_that_say_nothing_new_are_applied_too_because_they_set_the_long_pause() {
    let mut tick = walk::<ReconcilePayments>(PAGE);
    let agreed = vec![question().payment_id];
    tick.answers(page(PAGE)).answers(E::Answered(Answers { agreed, ..Answers::default() }));
    tick.answers(E::Applied);
    assert_eq!(tick.steps(), ["Choose", "Ask", "Apply"]);
}

#[test]
fn earlier_builds_have_stored_answers_without_those_that_agree() {
    let stored = serde_json::json!({ "differ": [], "unanswered": [] });
    assert_eq!(serde_json::to_value(Answers::default()).expect("JSON"), stored);
    assert_eq!(serde_json::from_value::<Answers>(stored).expect("readable"), Answers::default());
}

#[test]
fn it_asks_about_no_more_payments_than_it_may() {
    let mut tick = walk::<ReconcilePayments>(PAGE + 1);
    tick.answers(page(PAGE)).answers(E::Answered(Answers::default()));
    tick.answers(page(1)).answers(E::Answered(answers())).answers(E::Applied);
    assert_eq!(tick.status(), Status::Completed);
    assert_eq!(tick.steps(), ["Choose", "Ask", "Choose", "Ask", "Apply"]);
}

#[test]
fn a_gateway_that_does_not_answer_ends_it_and_nothing_is_taken_back() {
    let mut tick = walk::<ReconcilePayments>(2);
    tick.answers(page(2)).is_given_up();
    assert_eq!(tick.status(), Status::Unwound);
}

#[test]
fn only_an_answer_that_says_what_the_books_say_needs_nothing_more() {
    let amount = truth().authorization.expect("it is there").amount;
    let says = |status| Truth {
        authorization: Some(Authorization {
            reference: Reference("pi_1".to_owned()),
            order_id: None,
            amount,
            status,
        }),
        refunds: Vec::new(),
    };
    let zero = Money::zero(amount.currency());
    let taken = || says(AuthorizationStatus::Captured { captured: amount, refunded: zero });
    let held = || says(AuthorizationStatus::Authorized);
    let gone = || says(AuthorizationStatus::Cancelled);
    let asked = |state: &str| Question { state: state.to_owned(), unanswered: 0, ..question() };
    let unknown = Truth { authorization: None, refunds: Vec::new() };

    assert!(asked("authorized").agrees(&held()) && asked("captured").agrees(&taken()));
    for (state, truth) in [
        ("authorized", taken()),
        ("authorized", gone()),
        ("captured", held()),
        ("captured", gone()),
        ("captured", Truth { refunds: truth().refunds, ..taken() }),
        ("partially_refunded", taken()),
        ("refunded", taken()),
        ("authorized", unknown),
        ("", held()),
    ] {
        assert!(!asked(state).agrees(&truth), "{state}: {truth:?}");
    }
    let again = Question { unanswered: 1, ..asked("authorized") };
    assert!(!again.agrees(&held()), "that it is answered is to be noted");
    let another = Question { reference: Reference("pi_2".to_owned()), ..asked("authorized") };
    assert!(!another.agrees(&held()));
}
