//! The port to the mail system. Text only: nothing to render, nothing to track.

use std::fmt;

use async_trait::async_trait;

/// Hands a mail to whoever delivers it.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Accepts the mail for delivery. Repeating it under the same `key` (visible ASCII, at most
    /// 255 characters) sends no second one where the implementation can tell.
    async fn send(&self, key: &str, mail: &Mail) -> Result<(), MailError>;

    /// Deletes what is kept of mails to this address, and answers how many mails that were. Repeating it is harmless. A mail system that keeps
    /// nothing has nothing to delete.
    async fn forget(&self, _address: &str) -> Result<u64, MailError> {
        Ok(0)
    }
}

/// One mail. Wholly personal data: it goes to the mailer and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// One address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The body, plain text.
    pub text: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mail(***)")
    }
}

/// Why a mail was not accepted, or not deleted. Mail is sent at least once, so all but a refusal are simply repeated.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Nobody can be reached at this address, and it is of no use to try again.
    #[error("mail cannot be sent to this address: {0}")]
    Refused(#[source] std::io::Error),
    /// Surely not accepted.
    #[error("the mail was not accepted: {0}")]
    NotDone(#[source] std::io::Error),
    /// It may have been accepted.
    #[error("whether the mail was accepted is unknown: {0}")]
    Unknown(#[source] std::io::Error),
    /// An earlier mail is still there.
    #[error("a mail cannot be deleted: {0}")]
    NotDeleted(#[source] std::io::Error),
}
