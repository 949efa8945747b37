//! Stories of an address that is proved, or not.

use std::time::Duration;

use stepwise_engine::{Answer, Status, StepTable as _, testing::walk};
use uuid::Uuid;

use super::{Event as E, Input, Proof, RegisterCustomer, Signal, Step, mailing::MAILING};

const HOUR: Duration = Duration::from_secs(3_600);

fn registered() -> Input {
    Input::Registered(Uuid::nil())
}

fn sent() -> E {
    E::Sent { remind_after: 20 * HOUR, expires_after: 24 * HOUR }
}

#[test]
fn a_customer_who_verifies_gets_one_mail() {
    let mut saga = walk::<RegisterCustomer>(registered());
    saga.answers(sent()).signal(Signal::Verified);
    assert_eq!((saga.status(), saga.steps()), (Status::Completed, vec!["Send"]));
}

#[test]
fn a_customer_who_does_nothing_is_reminded_once_and_the_token_expires_quietly() {
    let mut saga = walk::<RegisterCustomer>(registered());
    saga.answers(sent()).time_passes();
    saga.answers(E::Reminded { expires_after: 4 * HOUR }).time_passes();
    assert_eq!((saga.status(), saga.steps()), (Status::Completed, vec!["Send", "Remind"]));
}

#[test]
fn a_verification_that_comes_while_the_mail_is_being_sent_is_not_forgotten() {
    let mut saga = walk::<RegisterCustomer>(registered());
    assert_eq!(saga.signal(Signal::Verified), Answer::Kept);
    saga.answers(sent());
    assert_eq!((saga.status(), saga.steps()), (Status::Completed, vec!["Send"]));
}

#[test]
fn a_reminder_that_would_come_after_the_token_has_expired_is_not_sent() {
    let mut saga = walk::<RegisterCustomer>(registered());
    saga.answers(E::Sent { remind_after: 24 * HOUR, expires_after: 24 * HOUR }).time_passes();
    assert_eq!((saga.status(), saga.steps()), (Status::Completed, vec!["Send"]));
}

#[test]
fn a_token_that_would_soon_expire_is_prolonged_before_the_mail_goes_out() {
    let mut saga = walk::<RegisterCustomer>(registered());
    saga.answers(E::TokenExpires).answers(E::TokenProlonged).answers(sent());
    assert_eq!((saga.status(), saga.steps()), (Status::Running, vec!["Send", "Prolong", "Send"]));
}

#[test]
fn who_asks_for_another_mail_gets_a_new_token_and_who_has_no_account_gets_nothing() {
    let again = || Input::AskedAgain(Proof { customer: Uuid::nil(), token: Uuid::max() });
    let mut known = walk::<RegisterCustomer>(again());
    known.time_passes().answers(E::Issued).answers(sent());
    assert_eq!((known.status(), known.steps()), (Status::Running, vec!["Issue", "Send"]));
    let mut unknown = walk::<RegisterCustomer>(again());
    unknown.time_passes().answers(E::NotNeeded);
    assert_eq!((unknown.status(), unknown.steps()), (Status::Completed, vec!["Issue"]));
}

#[test]
fn a_mail_that_cannot_be_sent_for_a_week_needs_a_person() {
    let mut saga = walk::<RegisterCustomer>(registered());
    saga.is_given_up();
    assert_eq!(saga.status(), Status::Stuck);
}

#[test]
fn an_attempt_to_send_lasts_longer_than_a_mailer_may_take() {
    let proof = Proof { customer: Uuid::nil(), token: Uuid::nil() };
    for step in [Step::Send(proof), Step::Remind(proof)] {
        assert!(step.terms().timeout > MAILING, "{step:?}");
    }
}
