//! The feed: published messages, which can be read again from any position that is still kept.
//!
//! A position is one counter per shard. The transaction that publishes raises its shard's counter
//! under the lock of the shard's row, so a reader of position n has read everything before it. One
//! counter for all shards would make every publisher wait for every other.

use std::{collections::VecDeque, fmt, str::FromStr, sync::LazyLock, time::Duration};

use futures::Stream;
use sqlx::{FromRow, PgPool};
use thiserror::Error;
use tokio::sync::watch;

use super::Outgoing;
use crate::{base::id::SHARDS, database::in_time};

const POLL: Duration = Duration::from_secs(1);

/// Raised when a relay of this process has published: latency only, polling finds it.
static PUBLISHED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

pub(super) fn hint() {
    PUBLISHED.send_modify(|count| *count = count.wrapping_add(1));
}

/// The published messages of an installation. Cheap to clone.
///
/// ```
/// use stepwise_engine::outbox::{Feed, FeedError, Position, Published};
///
/// /// Shows the next messages, and returns the position to go on from.
/// async fn show(feed: &Feed, mut from: Position) -> Result<Position, FeedError> {
///     for Published { message, position } in feed.after(&from).await? {
///         println!("{} of {}: {}", message.kind, message.subject, message.data);
///         from = position;
///     }
///     Ok(from)
/// }
///
/// # async fn f(pool: sqlx::PgPool) -> Result<(), FeedError> {
/// let feed = Feed::new(pool);
/// let read = show(&feed, feed.oldest().await?).await?;
/// println!("go on from {read}");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Feed {
    pool: PgPool,
}

/// One published message and the position after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The message.
    pub message: Outgoing,
    /// The position to go on from after it.
    pub position: Position,
}

/// How far a reader has read. Opaque text for others: letters, digits and dots.
///
/// ```
/// use stepwise_engine::outbox::{Feed, FeedError, Position};
///
/// /// The position that an HTTP client gives as `Last-Event-ID`; without one it sees only what comes from now on.
/// async fn resume(feed: &Feed, last_event_id: Option<&str>) -> Result<Position, FeedError> {
///     match last_event_id {
///         Some(text) => text.parse(),
///         None => feed.newest().await,
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position([i64; SHARDS as usize]);

/// Why the feed cannot be read from there.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The text is not a position of this feed.
    #[error("not a position of this feed")]
    NotAPosition,
    /// Messages after this position are no longer kept.
    #[error("messages after this position are no longer kept")]
    Forgotten,
    /// The database could not be asked.
    #[error("the feed could not be read: {0}")]
    Database(#[from] sqlx::Error),
}

impl Position {
    fn of(&self, shard: i16) -> i64 {
        self.0[usize::from(shard.unsigned_abs())]
    }
}

#[derive(FromRow)]
struct Row {
    n: i64,
    #[sqlx(flatten)]
    message: Outgoing,
}

impl Feed {
    /// The feed in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The position after everything published so far.
    pub async fn newest(&self) -> Result<Position, FeedError> {
        Ok(self.bounds().await?.1)
    }

    /// The position before everything still kept.
    pub async fn oldest(&self) -> Result<Position, FeedError> {
        Ok(self.bounds().await?.0)
    }

    /// The messages that were published after a position, at most 16 a shard; empty: none yet.
    /// In order per subject; subjects of different shards are not ordered among each other.
    pub async fn after(&self, position: &Position) -> Result<Vec<Published>, FeedError> {
        let reading = sqlx::query_as(
            "-- feed: after
             select next.*
             from unnest($1::smallint[], $2::bigint[]) as seen (shard, n)
             join saga.outbox_shard lease on lease.shard = seen.shard and lease.feed_n > seen.n
             cross join lateral (
                 select shard, n, subject, sequence, type_sequence, message_id, kind, routing_key, source,
                     data::text as data, sealed_for, correlation, causation, traceparent,
                     happened_at
                 from saga.feed
                 where shard = seen.shard and n > seen.n
                 order by n
                 limit 16
             ) next
             order by next.shard, next.n",
        )
        .bind((0..SHARDS).collect::<Vec<_>>())
        .bind(&position.0[..])
        .fetch_all(&self.pool);
        let rows: Vec<Row> = in_time(reading).await?;
        // Checked after reading, so that messages that were deleted meanwhile are noticed.
        let (oldest, newest) = self.bounds().await?;
        for ((seen, oldest), newest) in position.0.iter().zip(oldest.0).zip(newest.0) {
            if *seen > newest {
                return Err(FeedError::NotAPosition);
            }
            if *seen < oldest {
                return Err(FeedError::Forgotten);
            }
        }
        let mut at = position.clone();
        let published = rows.into_iter().map(|row| {
            at.0[usize::from(row.message.shard.unsigned_abs())] = row.n;
            Published { message: row.message, position: at.clone() }
        });
        Ok(published.collect())
    }

    /// Everything after a position, now and as it comes. Ends only with an error, of which it
    /// yields one. Drop it to stop.
    pub fn tail(
        &self,
        position: Position,
    ) -> impl Stream<Item = Result<Published, FeedError>> + Send + 'static {
        let reader = Tail {
            feed: self.clone(),
            position,
            ready: VecDeque::new(),
            hints: PUBLISHED.subscribe(),
        };
        futures::stream::unfold(Some(reader), async |reader| {
            let mut reader = reader?;
            match reader.next().await {
                Ok(published) => Some((Ok(published), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Records that the message before this position cannot be shown to anybody, and logs it once.
    /// Readers continue with the next message. Returns true if this was not known yet.
    pub async fn set_aside(&self, published: &Published, reason: &str) -> Result<bool, FeedError> {
        let message = &published.message;
        let noting = sqlx::query(
            "-- feed: set aside
             insert into saga.feed_trouble (shard, n, kind, reason)
             values ($1, $2, 'unreadable', $3)
             on conflict do nothing",
        )
        .bind(message.shard)
        .bind(published.position.of(message.shard))
        .bind(reason)
        .execute(&self.pool);
        let noted = in_time::<_, sqlx::Error>(noting).await?;
        let is_news = noted.rows_affected() == 1;
        if is_news {
            metrics::counter!("stepwise_feed_unreadable_total").increment(1);
            tracing::error!(
                message_id = %message.message_id, kind = message.kind, reason,
                "a published message cannot be shown; it is set aside and readers go on"
            );
        }
        Ok(is_news)
    }

    /// Deletes messages that were published longer ago than `keep`, at most 200 of each of these
    /// shards. Returns how many.
    pub async fn forget(&self, shards: &[i16], keep: Duration) -> Result<u64, FeedError> {
        let forgotten = sqlx::query(
            "-- feed: forget
             with old as materialized (
                 select first.shard, first.n
                 from unnest($1::smallint[]) as held (shard)
                 cross join lateral (
                     select shard, n, published_at from saga.feed
                     where shard = held.shard order by n limit 200
                 ) first
                 where first.published_at < clock_timestamp() - make_interval(secs => $2)
             ), last as materialized (
                 -- Locked in the order in which those who publish lock these rows.
                 select lease.shard, highest.n
                 from saga.outbox_shard lease
                 join (select shard, max(n) as n from old group by shard) highest
                     on highest.shard = lease.shard
                 order by lease.shard
                 for update of lease
             ), kept as (
                 update saga.outbox_shard lease set feed_kept_from = last.n + 1
                 from last where lease.shard = last.shard
             ), troubles as (
                 delete from saga.feed_trouble using last
                 where feed_trouble.shard = last.shard and feed_trouble.n <= last.n
             )
             delete from saga.feed using old where feed.shard = old.shard and feed.n = old.n",
        )
        .bind(shards)
        .bind(keep.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(forgotten.rows_affected())
    }

    async fn bounds(&self) -> Result<(Position, Position), FeedError> {
        let reading = sqlx::query_as(
            "-- feed: bounds
             select feed_kept_from - 1, feed_n from saga.outbox_shard order by shard",
        )
        .fetch_all(&self.pool);
        let rows: Vec<(i64, i64)> = in_time(reading).await?;
        let (oldest, newest): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
        let position = |counters: Vec<i64>| counters.try_into().map(Position);
        match (position(oldest), position(newest)) {
            (Ok(oldest), Ok(newest)) => Ok((oldest, newest)),
            _ => Err(FeedError::Database(sqlx::Error::RowNotFound)),
        }
    }
}

struct Tail {
    feed: Feed,
    position: Position,
    ready: VecDeque<Published>,
    hints: watch::Receiver<u64>,
}

impl Tail {
    async fn next(&mut self) -> Result<Published, FeedError> {
        loop {
            if let Some(published) = self.ready.pop_front() {
                self.position = published.position.clone();
                return Ok(published);
            }
            self.hints.mark_unchanged();
            self.ready = self.feed.after(&self.position).await?.into();
            if self.ready.is_empty() {
                // Elapsed or hinted: look again either way.
                drop(tokio::time::timeout(POLL, self.hints.changed()).await);
            }
        }
    }
}

impl fmt::Display for Position {
    /// 64 numbers to the base 36, joined by dots; a zero is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shard, counter) in self.0.iter().enumerate() {
            if shard > 0 {
                f.write_str(".")?;
            }
            let (mut rest, mut digits) = (counter.unsigned_abs(), Vec::new());
            while rest > 0 {
                digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize]);
                rest /= 36;
            }
            digits.iter().rev().try_for_each(|digit| write!(f, "{}", char::from(*digit)))?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = FeedError;

    fn from_str(text: &str) -> Result<Self, FeedError> {
        let counter = |part: &str| match part {
            "" => Ok(0),
            // from_str_radix would take a sign.
            _ if !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Err(FeedError::NotAPosition)
            }
            _ => i64::from_str_radix(part, 36).map_err(|_| FeedError::NotAPosition),
        };
        // Longer text than any position has is not worth splitting.
        if text.len() > 64 * 14 {
            return Err(FeedError::NotAPosition);
        }
        let counters = text.split('.').map(counter).collect::<Result<Vec<i64>, _>>()?;
        counters.try_into().map(Self).map_err(|_| FeedError::NotAPosition)
    }
}
