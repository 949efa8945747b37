//! The figures of an installation, read from the database at the moment somebody asks.
//!
//! A figure that a loop sets while it is healthy says nothing once the loop hangs. These do not depend on any process
//! of ours but the one that asks.

use sqlx::{FromRow, PgPool};

/// How an installation is. Counts end at 10,000.
///
/// ```
/// use stepwise_engine::figures::Figures;
///
/// # async fn f(pool: &sqlx::PgPool) -> Result<bool, sqlx::Error> {
/// let Figures { stuck, workers, oldest_due_s, .. } = Figures::read(pool).await?;
/// let is_well = stuck == 0 && workers > 0 && oldest_due_s < 60.0;
/// # Ok(is_well) }
/// ```
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Figures {
    /// Instances that need a person.
    pub stuck: i64,
    /// Instances that a person paused.
    pub paused: i64,
    /// Instances that take back what they did.
    pub unwinding: i64,
    /// Time in seconds since which the oldest due instance waits for a worker; 0: none waits.
    pub oldest_due_s: f64,
    /// Instances owned by a process whose lease has run out.
    pub orphaned: i64,
    /// Instances that were taken over from a dead process, are owned by a worker, and have committed nothing for 60 s. Counted up to 100.
    pub suspect: i64,
    /// Workers whose lease runs.
    pub workers: i64,
    /// Messages that are not published yet.
    pub outbox_messages: i64,
    /// Time in seconds since the oldest of them was written.
    pub outbox_oldest_s: f64,
    /// Those that were tried and not taken.
    pub outbox_failing: i64,
    /// Shards in which messages wait and that no living relay holds.
    pub outbox_shards_without_relay: i64,
    /// Published messages, of those still kept, that were set aside because nobody can be shown them.
    pub feed_set_aside: i64,
    /// Published messages, of those still kept, of which a partner's queue refused its copy.
    pub feed_refused: i64,
}

impl Figures {
    /// Reads them all. 1 round trip; every count is found by an index or ends at 10,000 rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn read(pool: &PgPool) -> Result<Self, sqlx::Error> {
        sqlx::query_as(
            "-- name: figures
            with waiting as (select shard, recorded_at, tries from saga.outbox limit 10000),
            troubles as (select kind from saga.feed_trouble limit 10000),
            owned as (select owner, suspect, shard, saga_id from saga.instance where owner is not null limit 10000),
            suspect as materialized (select shard, saga_id from owned where suspect limit 100),
            due as (
                select w.wake_at from unnest(array[0, 1, 2]::smallint[]) p (priority) cross join lateral (
                    select i.wake_at from saga.instance i
                    where i.priority = p.priority and i.wake_at is not null order by i.wake_at limit 1) w)
            select
                (select count(*) from (select from saga.instance where status = 'stuck' limit 10000) s) as stuck,
                (select count(*) from (select from saga.instance where status = 'paused' limit 10000) s) as paused,
                (select count(*) from (select from saga.instance where status = 'unwinding' limit 10000) s) as unwinding,
                (select greatest(coalesce(extract(epoch from saga.now() - min(wake_at)), 0), 0)::float8 from due) as oldest_due_s,
                (select count(*) from owned where not exists (
                    select from saga.worker w where w.worker_id = owned.owner and w.lease_until > clock_timestamp())) as orphaned,
                -- A take-over changes the instance, so the last commit is found in the journal. An aggregate keeps it one look into the index each.
                (select count(*) from suspect s where (
                    select max(j.at) from saga.journal j where j.shard = s.shard and j.saga_id = s.saga_id
                        and j.at > now() - interval '60 seconds') is null) as suspect,
                (select count(*) from saga.worker where lease_until > clock_timestamp() and not signed_off) as workers,
                (select count(*) from waiting) as outbox_messages,
                (select coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8 from waiting) as outbox_oldest_s,
                (select count(*) from waiting where tries > 0) as outbox_failing,
                (select count(distinct shard) from waiting where shard in (
                    select s.shard from saga.outbox_shard s where s.leased_until <= clock_timestamp())) as outbox_shards_without_relay,
                (select count(*) from troubles where kind = 'unreadable') as feed_set_aside,
                (select count(*) from troubles where kind = 'refused') as feed_refused",
        )
        .fetch_one(pool)
        .await
    }

    /// Each with the name of its gauge and what it says.
    #[must_use]
    pub fn gauges(&self) -> [(&'static str, &'static str, f64); 13] {
        [
            ("stepwise_sagas_stuck", "Sagas that need a person", self.stuck as f64),
            ("stepwise_sagas_paused", "Sagas that a person paused", self.paused as f64),
            (
                "stepwise_sagas_unwinding",
                "Sagas that take back what they did",
                self.unwinding as f64,
            ),
            ("stepwise_sagas_oldest_due_seconds", "Wait of the oldest due saga", self.oldest_due_s),
            ("stepwise_sagas_orphaned", "Sagas held by a dead process", self.orphaned as f64),
            (
                "stepwise_sagas_suspect",
                "Sagas of dead processes without a commit for 60 s",
                self.suspect as f64,
            ),
            ("stepwise_workers", "Workers whose lease runs", self.workers as f64),
            ("stepwise_outbox_messages", "Messages not published yet", self.outbox_messages as f64),
            ("stepwise_outbox_oldest_seconds", "Age of the oldest of them", self.outbox_oldest_s),
            ("stepwise_outbox_failing", "Messages tried and not taken", self.outbox_failing as f64),
            (
                "stepwise_outbox_shards_without_relay",
                "Shards with messages and without a living relay",
                self.outbox_shards_without_relay as f64,
            ),
            (
                "stepwise_feed_set_aside",
                "Published messages that nobody can be shown",
                self.feed_set_aside as f64,
            ),
            (
                "stepwise_feed_refused",
                "Published messages of which a partner's queue refused its copy",
                self.feed_refused as f64,
            ),
        ]
    }
}
