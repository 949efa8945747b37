//! Stories of a mail about a password.

use stepwise_engine::{Status, StepTable as _, testing::walk};
use uuid::Uuid;

use super::{AccountMail, Event as E, Letter, MAILING, Post, Step};

fn post(letter: Letter) -> Post {
    Post { customer: Uuid::nil(), letter }
}

#[test]
fn a_token_is_made_and_then_sent() {
    let mut mail = walk::<AccountMail>(post(Letter::ResetPassword(Uuid::max())));
    mail.time_passes().answers(E::Issued).answers(E::Sent);
    assert_eq!((mail.status(), mail.steps()), (Status::Completed, vec!["Issue", "Send"]));
}

#[test]
fn an_address_without_an_account_gets_nothing() {
    let mut mail = walk::<AccountMail>(post(Letter::ResetPassword(Uuid::max())));
    mail.time_passes().answers(E::NotNeeded);
    assert_eq!((mail.status(), mail.steps()), (Status::Completed, vec!["Issue"]));
}

#[test]
fn the_news_of_a_changed_password_needs_no_token() {
    let mut mail = walk::<AccountMail>(post(Letter::PasswordChanged));
    mail.time_passes().answers(E::Sent);
    assert_eq!((mail.status(), mail.steps()), (Status::Completed, vec!["Send"]));
}

#[test]
fn a_mail_that_cannot_be_sent_for_a_week_needs_a_person() {
    let mut mail = walk::<AccountMail>(post(Letter::PasswordChanged));
    mail.time_passes().is_given_up();
    assert_eq!(mail.status(), Status::Stuck);
}

#[test]
fn an_attempt_to_send_lasts_longer_than_a_mailer_may_take() {
    let send = Step::Send(post(Letter::PasswordChanged));
    assert!(send.terms().timeout > MAILING, "{:?}", send.terms());
}
