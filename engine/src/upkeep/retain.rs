//! Retention: old journal partitions are dropped whole, instances that ended long ago are deleted in small batches.
//!
//! An instance that can still change does not need its old journal: its position is in its row. A finished instance is kept while one of its effects
//! is watched, while its parent is open (which may count it), and while one of its children is open.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    base::id::SHARDS,
    database::{self, Failure, Waits, trouble::Trouble, within},
    store::notice,
    worker::{config::Retention, connection::PLANNER, engine::Engine, state::Worker},
};

/// How much was removed.
///
/// ```
/// use stepwise_engine::{Engine, Retained, Retention};
///
/// # async fn f(engine: &Engine) -> Result<(), sqlx::Error> {
/// let Retained { partitions, instances } = engine.retain(Retention::default()).await?;
/// println!("{partitions} days of the journal and {instances} instances were removed");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Partitions of the journal.
    pub partitions: u64,
    /// Finished instances.
    pub instances: u64,
}

/// How often a worker looks.
const EVERY: Duration = Duration::from_secs(3_600);

/// How long this side waits for one statement.
const STATEMENT: Duration = Duration::from_secs(62);

/// Looks every hour until aborted, first an hour after the start.
pub(crate) async fn run(worker: Arc<Worker>, retention: Retention) {
    let trouble = Trouble::new("old instances and partitions cannot be removed; trying every hour");
    loop {
        tokio::time::sleep(EVERY).await;
        match keep(&worker.pool, retention).await {
            Ok(gone) => {
                trouble.end();
                if gone != Retained::default() {
                    let Retained { partitions, instances } = gone;
                    tracing::info!(
                        partitions,
                        instances,
                        "old instances and partitions of the journal were removed"
                    );
                }
            }
            Err(error) => trouble.begin_with(&error),
        }
    }
}

/// Notices have a retention of their own.
async fn keep(pool: &PgPool, retention: Retention) -> Result<Retained, sqlx::Error> {
    while within(STATEMENT, notice::forget_old(pool)).await? {}
    retain(pool, retention).await
}

impl Engine {
    /// Removes everything that is older than the retention. One process does so at a time; another one does nothing meanwhile. It waits 200 ms at
    /// most for the lock of the whole journal; a partition that could not be dropped is dropped the next time.
    ///
    /// # Errors
    /// The database's.
    pub async fn retain(&self, retention: Retention) -> Result<Retained, sqlx::Error> {
        retain(self.pool(), retention).await
    }
}

/// [`Engine::retain`].
async fn retain(pool: &PgPool, retention: Retention) -> Result<Retained, sqlx::Error> {
    let options = pool.connect_options().as_ref().clone();
    let mut connection = database::connect(options, Waits::HOUSEKEEPING).await?;
    within(STATEMENT, connection.execute(PLANNER)).await?;
    let asking = sqlx::query_as(
        "-- name: one keeper of retention
        select pg_try_advisory_lock(hashtext('saga.retain')), clock_timestamp()",
    )
    .fetch_one(&mut connection);
    let (mine, now): (bool, DateTime<Utc>) = within(STATEMENT, asking).await?;
    let mut gone = Retained::default();
    if mine {
        let before = |age: Duration| now - chrono::TimeDelta::from_std(age).unwrap_or_default();
        gone.partitions = drop_journal(&mut connection, before(retention.journal)).await?;
        while delete_stray(&mut connection, before(retention.journal)).await? {}
        for shard in 0..SHARDS {
            let before = before(retention.finished);
            gone.instances += delete_finished(&mut connection, shard, before).await?;
        }
        let before = before(retention.finished);
        while within(STATEMENT, delete_bulk(&mut connection, before)).await? {}
    }
    // The lock ends with the session.
    connection.close().await?;
    Ok(gone)
}

async fn drop_journal(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let asking = sqlx::query_scalar(
        "-- name: old journal partitions
        select c.relname::text from pg_inherits h join pg_class c on c.oid = h.inhrelid
        where h.inhparent = 'saga.journal'::regclass and c.relname ~ '^journal_[0-9]{8}$'
            and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamptz <= $1
        order by c.relname",
    )
    .bind(before)
    .fetch_all(&mut *connection);
    let old: Vec<String> = within(STATEMENT, asking).await?;
    let mut dropped = 0;
    for partition in old {
        // Only digits follow the prefix.
        let drop = format!("-- name: drop journal partition\ndrop table saga.{partition}");
        let dropping = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection);
        match within(STATEMENT, dropping).await {
            Ok(_) => dropped += 1,
            Err(error) if Failure::of(&error) == Failure::Locked => {
                tracing::info!(partition, "the journal is busy; dropped the next time");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(dropped)
}

/// Deletes 5,000 old rows of the default partition, if it holds any. Returns true if there may be more.
async fn delete_stray(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let deleting = sqlx::query(
        "-- name: delete stray journal
        delete from only saga.journal_default where ctid = any (array(
            select ctid from only saga.journal_default where at < $1 limit 5000))",
    )
    .bind(before)
    .execute(connection);
    Ok(within(STATEMENT, deleting).await?.rows_affected() == 5_000)
}

/// Deletes finished instances. An id carries its time, and an instance that was started later cannot have ended before. Round trips: 1 per 500
/// instances that were started before then.
async fn delete_finished(
    connection: &mut PgConnection,
    shard: i16,
    before: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let ms = u128::try_from(before.timestamp_millis()).unwrap_or(0);
    let made_before = Uuid::from_u128(ms << 80);
    let (mut after, mut deleted) = (Uuid::nil(), 0);
    loop {
        let deleting = sqlx::query_as(DELETE_FINISHED)
            .bind(shard)
            .bind(after)
            .bind(made_before)
            .bind(before)
            .fetch_one(&mut *connection);
        let (last, gone): (Option<Uuid>, i64) = within(STATEMENT, deleting).await?;
        deleted += gone.unsigned_abs();
        match last {
            Some(last) => after = last,
            None => return Ok(deleted),
        }
    }
}

/// Deletes one bulk with its items, or a plan that was never started.
async fn delete_bulk(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query(
        "-- name: delete bulk
        with old as materialized (
            select shard, bulk_id from saga.bulk
            where status <> 'running' and coalesce(ended_at, started_at, created_at) < $1
            limit 1 for update skip locked
        ),
        items as (
            delete from saga.bulk_item m using old o, generate_series(0, 63) as s(shard)
            where m.shard = s.shard and m.bulk_id = o.bulk_id
        )
        delete from saga.bulk b using old o where b.shard = o.shard and b.bulk_id = o.bulk_id",
    )
    .bind(before)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

const DELETE_FINISHED: &str = "-- name: delete finished
with page as materialized (
    select i.shard, i.saga_id, i.parent_id, i.status in ('completed', 'unwound', 'abandoned') and i.ended_at < $4 as old
    from saga.instance i
    where i.shard = $1 and i.saga_id > $2 and i.saga_id < $3
    order by i.saga_id limit 500
),
goes as materialized (
    select p.shard, p.saga_id from page p
    where p.old
        and not exists (select from saga.watch w where w.shard = p.shard and w.saga_id = p.saga_id)
        and not exists (select from saga.instance o where o.shard = p.shard and o.saga_id = p.parent_id
            and o.status not in ('completed', 'unwound', 'abandoned'))
        and not exists (select from saga.instance c where c.shard = p.shard and c.parent_id = p.saga_id
            and c.status not in ('completed', 'unwound', 'abandoned'))
),
signals as (
    delete from saga.signal s using goes g where s.shard = g.shard and s.saga_id = g.saga_id
),
effects as (
    delete from saga.effect e using goes g where e.shard = g.shard and e.saga_id = g.saga_id
),
instances as (
    delete from saga.instance i using goes g where i.shard = g.shard and i.saga_id = g.saga_id
    returning 1
)
select (select saga_id from page order by saga_id desc limit 1), (select count(*) from instances)";
