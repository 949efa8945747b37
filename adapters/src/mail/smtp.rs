//! A mailer that hands each mail to a mail server by SMTP.

use std::{error::Error as _, io, time::Duration};

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use reqwest::Url;
use sha2::{Digest, Sha256};
use stepwise_workflows::{
    sagas::account_mail::MAILING,
    shop::mail::{Mail, MailError, Mailer},
};

use super::FileMailer;
use crate::tls;

/// How long the server may take to accept a connection and the log-in when nothing is sent. Less than the patience of doctor's checks (8 s).
const LOOK: Duration = Duration::from_secs(5);

/// The enhanced statuses that say that nobody can ever be reached at the recipient's address (RFC 3463, section 3.2, and RFC 7505). Those of a
/// sender's address have other numbers. The status code alone says too little: a server also answers 550 to a sender it does not know, to
/// a client that may not relay, or when it takes the mail for spam.
const NO_MAILBOX: [&str; 5] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"];

/// Why a mail server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpConfigError {
    /// The address is none of a mail server.
    #[error(
        "it is not an address such as smtps://user:password@mail.example or smtp://mail.example:587"
    )]
    Address,
    /// The sender is no address of a person.
    #[error("the sender is not an address such as shop@example.com or Shop <shop@example.com>")]
    Sender,
}

/// Sends each mail over a connection of its own.
///
/// `smtps://` uses TLS from the start (port 465), `smtp://` STARTTLS (port 587): a server that does not offer it is sent nothing. The
/// `Message-ID` is made from the mail's key, so that a mail system can recognise a mail that was sent twice.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Mailbox,
    /// Mails of the time before there was a mail server.
    files: Option<FileMailer>,
}

impl SmtpMailer {
    /// A mailer for the server at `url`, which may contain a user and a password. The mails come from `sender`. With `plain`, a server that offers no
    /// STARTTLS is sent everything unencrypted.
    pub fn new(url: &str, sender: &str, plain: bool) -> Result<Self, SmtpConfigError> {
        tls::install_provider();
        let mut url: Url = url.parse().map_err(|_| SmtpConfigError::Address)?;
        if !url.has_host() || url.query().is_some() {
            return Err(SmtpConfigError::Address);
        }
        if url.scheme() == "smtp" {
            url.set_query(Some(if plain { "tls=opportunistic" } else { "tls=required" }));
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .map_err(|_| SmtpConfigError::Address)?;
        let sender = sender.parse().map_err(|_| SmtpConfigError::Sender)?;
        // A server may take as long over one command as over the whole mail: many answer the end of a mail only when they have examined it.
        Ok(Self { transport: transport.timeout(Some(MAILING)).build(), sender, files: None })
    }

    /// The same mailer, which forgets mails in these files as well.
    #[must_use]
    pub fn with_files(self, files: FileMailer) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Connects to the server, logs in and sends no mail.
    pub async fn look(&self) -> io::Result<()> {
        let looked = tokio::time::timeout(LOOK, self.transport.test_connection()).await;
        let failure = match looked {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => return Err(io::Error::other("the mail server does not answer")),
            Ok(Err(error)) => not_sent(&error),
            Err(_) => late(),
        };
        // No mail was sent, so only the reason counts.
        let (MailError::Refused(reason)
        | MailError::NotDone(reason)
        | MailError::Unknown(reason)
        | MailError::NotDeleted(reason)) = failure;
        Err(reason)
    }

    fn message(&self, key: &str, mail: &Mail) -> Result<Message, MailError> {
        let refused = |_| MailError::Refused(io::Error::other("it has no form of an address"));
        let to = mail.to.parse().map_err(refused)?;
        let id = hex::encode(&Sha256::digest(key)[..16]);
        Message::builder()
            .from(self.sender.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(Some(format!("<{id}@{}>", self.sender.email.domain())))
            // No robot answers a mail of a robot (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .map_err(|_| MailError::NotDone(io::Error::other("it cannot be written as a message")))
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, key: &str, mail: &Mail) -> Result<(), MailError> {
        let message = self.message(key, mail)?;
        match tokio::time::timeout(MAILING, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(not_sent(&error)),
            Err(_) => Err(late()),
        }
    }

    async fn forget(&self, address: &str) -> Result<u64, MailError> {
        match &self.files {
            Some(files) => files.forget(address).await,
            None => Ok(0),
        }
    }
}

fn late() -> MailError {
    MailError::Unknown(io::Error::other("the mail server does not answer in time"))
}

/// The failure without the server's own words, which may contain the address of the recipient.
fn not_sent(error: &lettre::transport::smtp::Error) -> MailError {
    if let Some(code) = error.status() {
        let answered = io::Error::other(format!("the mail server answered {code}"));
        return match is_without_mailbox(error) {
            true => MailError::Refused(answered),
            false => MailError::NotDone(answered),
        };
    }
    if error.is_tls() {
        return MailError::NotDone(io::Error::other("the mail server's TLS is not acceptable"));
    }
    if error.is_client() {
        let what = "the mail server does not offer what is needed: STARTTLS or a way to log in";
        return MailError::NotDone(io::Error::other(what));
    }
    let what = if error.is_timeout() {
        "does not answer in time"
    } else {
        "closed the connection or is away"
    };
    MailError::Unknown(io::Error::other(format!("the mail server {what}")))
}

/// Whether the server has said with an enhanced status that the recipient's address is wrong for good.
fn is_without_mailbox(error: &lettre::transport::smtp::Error) -> bool {
    // The error's source is the text of the answer, which begins with the enhanced status.
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    let status = text.split_whitespace().next().unwrap_or_default();
    error.is_permanent() && NO_MAILBOX.contains(&status)
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    #[tokio::test]
    async fn a_look_at_a_server_that_never_answers_ends_before_doctor_gives_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("smtp://{}", silent.local_addr().expect("bound"));
        let mailer = SmtpMailer::new(&url, "shop@example.org", true).expect("an address");
        let began = Instant::now();
        let late = mailer.look().await.expect_err("nobody answers");
        assert_eq!(late.to_string(), "the mail server does not answer in time");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }
}
