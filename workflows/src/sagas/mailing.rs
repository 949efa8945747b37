//! Sending a mail as a step of a saga.

use std::time::Duration;

use stepwise_engine::{Cause, Key, Outcome, Retry, Terms};

use crate::shop::{
    Shop,
    mail::{Mail, MailError},
};

/// How long a mailer may take to send one mail. A mailer with a limit of its own uses this one, so that its answer comes before the engine
/// gives up the attempt: a mail whose answer nobody heard is sent again.
pub const MAILING: Duration = Duration::from_secs(30);

/// The time in which a step that sends a mail reads what it writes, besides the time of the mailer.
const READING: Duration = Duration::from_secs(10);

/// The terms of a step that sends a mail. It is tried for `within`.
pub(super) fn terms(within: Duration) -> Terms {
    let retry = Retry { cap: Duration::from_secs(300), ..Retry::default() };
    Terms { within, retry, timeout: MAILING + READING, ..Terms::new() }
}

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
