//! Messages for others, published at least once and in order per subject.
//!
//! [`publish`] writes a message in the caller's transaction: it exists exactly if the fact does.
//! The [`Relay`] hands each to a [`Publisher`] (a broker, or [`Embedded`] where there is none) and
//! moves it to the feed once that has confirmed it. The broker being away stops nothing here: rows
//! wait, [`lag`] grows, and they drain on its return.
//!
//! Order comes from `sequence`, a counter on the subject's own row raised under the lock that the
//! caller holds anyway, never from ids or commit times, which are not commit order. A subject has
//! at most one unconfirmed message, so a message that fails holds back its own subject and nobody
//! else. A crash between confirmation and bookkeeping publishes once more, under the same id.
//!
//! Deliberately absent: exactly-once delivery, which no broker gives; consumers drop ids they know.

mod feed;
mod lease;
mod message;
mod publisher;
mod relay;
mod store;

use std::sync::LazyLock;

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

pub use feed::{Feed, FeedError, Position, Published};
pub use message::{Message, Outgoing};
pub use publisher::{Embedded, Publisher, PublisherState, Rejection};
pub use relay::{Relay, RelaySettings};

/// Raised when this process has committed something to publish: latency only, polling finds it.
static WRITTEN: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Writes one message in the caller's transaction. 1 row operation, 1 round trip.
///
/// # Errors
/// The database's; a sequence that the subject has used already is one, too.
pub async fn publish(tx: &mut PgConnection, message: &Message) -> Result<(), sqlx::Error> {
    publish_all(tx, std::slice::from_ref(message)).await
}

/// Writes messages in the caller's transaction. 1 row operation each, 1 round trip together.
///
/// # Errors
/// As for [`publish`].
pub async fn publish_all(tx: &mut PgConnection, messages: &[Message]) -> Result<(), sqlx::Error> {
    if messages.is_empty() {
        return Ok(());
    }
    store::insert(tx, messages).await
}

/// To be called after the commit of a transaction that published: relays of this process look at
/// once instead of at their next poll (at most 1 s later). Losing the hint changes nothing.
pub fn hint() {
    WRITTEN.send_modify(|count| *count = count.wrapping_add(1));
}

/// What waits to be published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Messages waiting, counted up to 10,000.
    pub messages: i64,
    /// Age in seconds of the oldest among those counted; 0 when nothing waits.
    pub oldest_s: f64,
    /// How many of those counted were refused or timed out at least once.
    pub failing: i64,
}

/// Measures what waits to be published. Reads at most 10,000 rows, oldest pages first.
///
/// # Errors
/// The database's.
pub async fn lag(pool: &PgPool) -> Result<Lag, sqlx::Error> {
    store::lag(pool).await
}

#[cfg(test)]
mod tests;
