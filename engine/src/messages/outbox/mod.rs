//! Messages for others, published at least once and in order per subject.
//!
//! [`publish`] writes a message in the caller's transaction, so the message exists exactly if the
//! fact does. The [`Relay`] gives each message to a [`Publisher`] (a broker, or [`Embedded`] if there
//! is none), and moves it to the feed when the publisher has confirmed it. A broker that is away
//! stops nothing here: messages wait, [`lag`] grows, and they are sent on its return. Several relays
//! share the work.
//!
//! The order of a subject's messages is their `sequence`, a counter on the subject's own row that is
//! raised under the lock that the caller has anyway. Ids and commit times would not do, because they
//! are not the order of commits. A subject has at most one unconfirmed message, so a message that
//! fails delays only its own subject. A crash between the confirmation and the mark publishes the
//! message once more, under the same id.
//!
//! Deliberately absent: exactly-once delivery, which no broker gives; consumers drop ids they know.

mod feed;
mod health;
mod housekeeping;
mod lease;
mod message;
mod publisher;
mod publishing;
mod relay;
mod store;
mod topology;

use std::sync::LazyLock;

use sqlx::{PgConnection, PgPool};
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{base::json::Unstorable, saga::steps::StepError};

pub use feed::{Feed, FeedError, Position, Published};

pub use health::{RelayHealth, RelayReport, RelayState};

pub use message::{Message, Outgoing};

pub use publisher::{Accepted, Embedded, Publisher, PublisherState, Rejection};

pub use relay::{Relay, RelaySettings};

pub use topology::{DeclaredTopologies, Standing};

/// An AMQP routing key is a short string.
pub const ROUTING_KEY_BYTES: usize = 255;

/// Raised when this process has committed something to publish: latency only, polling finds it.
static WRITTEN: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Why messages were not written.
#[derive(Debug, Error)]
pub enum PublishError {
    /// No broker can route it: an AMQP routing key has at most 255 bytes. Trying again is useless.
    #[error("the routing key of {kind} has {bytes} bytes; {ROUTING_KEY_BYTES} are allowed")]
    RoutingKey {
        /// The kind of the message.
        kind: String,
        /// The length of its routing key.
        bytes: usize,
    },
    /// One of its fields holds NUL. Trying again is useless.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// The database's; a sequence that the subject has used already is one, too.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<PublishError> for StepError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Database(error) => Self::Database(error),
            refused @ (PublishError::RoutingKey { .. } | PublishError::Unstorable(_)) => {
                Self::Broken(refused.to_string())
            }
        }
    }
}

/// Writes one message in the caller's transaction. 1 row operation, 1 round trip.
pub async fn publish(tx: &mut PgConnection, message: &Message) -> Result<(), PublishError> {
    publish_all(tx, std::slice::from_ref(message)).await
}

/// Writes messages in the caller's transaction. 1 row operation each, 1 round trip together.
pub async fn publish_all(tx: &mut PgConnection, messages: &[Message]) -> Result<(), PublishError> {
    if messages.is_empty() {
        return Ok(());
    }
    messages.iter().try_for_each(Message::check)?;
    Ok(store::insert(tx, messages).await?)
}

/// To be called after the commit of a transaction that published: relays of this process look at
/// once instead of at their next poll (at most 1 s later). Losing the hint changes nothing.
pub fn hint() {
    WRITTEN.send_modify(|count| *count = count.wrapping_add(1));
}

/// The messages that wait to be published.
///
/// ```
/// use stepwise_engine::outbox;
///
/// # async fn f(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
/// let outbox::Lag { messages, oldest_s, failing } = outbox::lag(pool).await?;
/// if oldest_s > 60.0 {
///     println!("{messages} messages wait, the oldest for {oldest_s:.0} s; {failing} were refused");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Messages waiting, counted up to 10,000.
    pub messages: i64,
    /// Age in seconds of the oldest among those counted; 0 when nothing waits.
    pub oldest_s: f64,
    /// How many of those counted were refused or timed out at least once.
    pub failing: i64,
}

/// A message that the publisher has not taken. It delays its subject.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Failing {
    /// See [`Message::subject`]. Its later messages wait as well.
    pub subject: String,
    /// See [`Message::sequence`].
    pub sequence: i64,
    /// See [`Message::id`].
    pub message_id: Uuid,
    /// See [`Message::kind`].
    pub kind: String,
    /// How often it was not taken.
    pub tries: i32,
    /// Why it was not taken the last time.
    pub error: String,
    /// Time in seconds since it was written.
    pub age_s: f64,
}

/// The messages that were not taken, oldest first, at most `limit`. Reads at most 10,000 rows.
///
/// # Errors
/// The database's.
pub async fn failing(pool: &PgPool, limit: i64) -> Result<Vec<Failing>, sqlx::Error> {
    store::failing(pool, limit).await
}

/// The published messages that some partner did not get, among those that are still kept.
///
/// ```
/// use stepwise_engine::outbox::{self, FeedTroubles};
///
/// # async fn f(pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
/// let FeedTroubles { refused, refused_reason, .. } = outbox::feed_troubles(pool).await?;
/// if let Some(reason) = refused_reason {
///     println!("{refused} messages did not reach every partner; the last one: {reason}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedTroubles {
    /// Messages of which a partner's queue did not take its copy.
    pub refused: i64,
    /// Time in seconds since the last of them.
    pub refused_s_ago: Option<f64>,
    /// Details of the last of them.
    pub refused_reason: Option<String>,
    /// Messages set aside because they cannot be shown to anybody.
    pub unreadable: i64,
    /// Shard, number and reason of the last of them.
    pub unreadable_reason: Option<String>,
}

/// Counts the messages that some partner did not get.
///
/// # Errors
/// The database's.
pub async fn feed_troubles(pool: &PgPool) -> Result<FeedTroubles, sqlx::Error> {
    store::feed_troubles(pool).await
}

/// How many messages about these subjects wait to be published. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn waiting_about(tx: &mut PgConnection, subjects: &[String]) -> Result<i64, sqlx::Error> {
    store::waiting_about(tx, subjects).await
}

/// Measures the messages that wait to be published. Reads at most 10,000 rows, oldest pages first.
///
/// # Errors
/// The database's.
pub async fn lag(pool: &PgPool) -> Result<Lag, sqlx::Error> {
    store::lag(pool).await
}

#[cfg(test)]
mod tests;
