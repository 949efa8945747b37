//! Sending a mail as a step of a saga.

use stepwise_engine::{Cause, Key, Outcome};

use crate::shop::{
    Shop,
    mail::{Mail, MailError},
};

/// Sends the mail under the step's key. `sent` happens when the mail system has accepted it, or has refused its address for good.
pub(super) async fn send<E>(shop: &Shop, key: &Key, mail: &Mail, sent: E) -> Outcome<E> {
    match shop.mailer.send(&key.to_string(), mail).await {
        Ok(()) => Outcome::event(sent),
        // Somebody has mistyped the address. The saga goes on as if nobody had read the mail.
        Err(error @ MailError::Refused(_)) => {
            tracing::warn!(%error, "a mail is not sent");
            Outcome::event(sent)
        }
        Err(error @ (MailError::NotDone(_) | MailError::NotDeleted(_))) => {
            Outcome::NotDone(Cause::new(error))
        }
        Err(error @ MailError::Unknown(_)) => Outcome::Unknown(Cause::new(error)),
    }
}
