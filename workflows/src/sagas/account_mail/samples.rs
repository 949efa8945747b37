//! Samples of everything that may happen to a mail about a password, for exploring the saga and for trying it.

use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{AccountMail, Event as E, Letter, Post, Step};

impl Samples for AccountMail {
    fn inputs() -> Vec<Post> {
        let post = |letter| Post { customer: Uuid::nil(), letter };
        vec![post(Letter::ResetPassword(Uuid::max())), post(Letter::PasswordChanged)]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Issue(..) => vec![Sample::done(E::Issued), Sample::done(E::NotNeeded)],
            Step::Send(_) => vec![Sample::done(E::Sent), Sample::done(E::NotNeeded)],
        }
    }
}
