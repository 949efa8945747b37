//! Stories of a payment method at the gateway.

use stepwise_engine::{Status, testing::walk};
use uuid::Uuid;

use super::{Event as E, Input, KeepPaymentMethod, samples::account};

#[test]
fn a_saved_method_is_attached_to_the_account_of_its_customer() {
    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.answers(E::Opened(account())).answers(E::Kept(account()));
    method.answers(E::Attached).answers(E::Noted);
    assert_eq!(method.status(), Status::Completed);
    assert_eq!(method.steps(), ["Open", "Keep", "Attach", "Note"]);
}

#[test]
fn a_method_that_the_gateway_refuses_is_used_as_its_token_came() {
    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.answers(E::NotAttached).answers(E::Noted);
    assert_eq!((method.status(), method.steps()), (Status::Completed, vec!["Open", "Note"]));

    let mut method = walk::<KeepPaymentMethod>(Input::Attach(Uuid::nil()));
    method.is_given_up().takes_all_back();
    assert_eq!((method.status(), method.steps()), (Status::Unwound, vec!["leave"]));
}

#[test]
fn a_removed_method_is_detached_however_long_that_takes() {
    let mut method = walk::<KeepPaymentMethod>(Input::Detach(Uuid::nil()));
    method.answers(E::Detached).answers(E::Noted);
    assert_eq!((method.status(), method.steps()), (Status::Completed, vec!["Detach", "Forget"]));

    let mut method = walk::<KeepPaymentMethod>(Input::Detach(Uuid::nil()));
    method.is_given_up();
    assert_eq!(method.status(), Status::Stuck);
}
