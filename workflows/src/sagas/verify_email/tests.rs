//! Stories of a verification mail.

use stepwise_engine::{Status, StepTable as _, testing::walk};
use uuid::Uuid;

use super::{Event as E, Step, VerifyEmail, mailing::MAILING};

#[test]
fn the_mail_is_sent_and_that_is_all() {
    let mut mail = walk::<VerifyEmail>(Uuid::nil());
    mail.answers(E::Sent);
    assert_eq!((mail.status(), mail.steps()), (Status::Completed, vec!["Send"]));
}

#[test]
fn a_token_that_would_soon_expire_is_prolonged_before_the_mail_goes_out() {
    let mut mail = walk::<VerifyEmail>(Uuid::nil());
    mail.answers(E::TokenExpires).answers(E::TokenProlonged).answers(E::Sent);
    assert_eq!((mail.status(), mail.steps()), (Status::Completed, vec!["Send", "Prolong", "Send"]));
}

#[test]
fn a_mail_that_cannot_be_sent_for_a_week_needs_a_person() {
    let mut mail = walk::<VerifyEmail>(Uuid::nil());
    mail.is_given_up();
    assert_eq!(mail.status(), Status::Stuck);
}

#[test]
fn an_attempt_to_send_lasts_longer_than_a_mailer_may_take() {
    assert!(Step::Send(Uuid::nil()).terms().timeout > MAILING);
}
