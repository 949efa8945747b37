//! The right to publish a shard: a row with owner and epoch.
//!
//! A relay takes every shard that nobody holds, so a second relay on the same database stands by.
//! Every mark tests owner and epoch: a relay that was paused beyond its lease finds that it may no
//! longer move anything, and what it sent meanwhile are copies with the same ids.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

/// The shards held, each with the epoch of its lease.
#[derive(Debug, Clone, Default)]
pub(super) struct Epochs(BTreeMap<i16, i64>);

impl Epochs {
    pub(super) fn shards(&self) -> Vec<i16> {
        self.0.keys().copied().collect()
    }

    pub(super) fn holds(&self, shard: i16) -> bool {
        self.0.contains_key(&shard)
    }

    /// The epoch of a shard; one that is not held has -1, which no row carries.
    pub(super) fn of(&self, shard: i16) -> i64 {
        self.0.get(&shard).copied().unwrap_or(-1)
    }

    pub(super) fn lose(&mut self, shard: i16) {
        self.0.remove(&shard);
    }
}

/// Renews what `owner` holds and takes what nobody holds, for `lease`.
pub(super) async fn take(
    pool: &PgPool,
    owner: Uuid,
    lease: Duration,
) -> Result<Epochs, sqlx::Error> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(
        "-- outbox: take leases
         with free as materialized (
             select shard from saga.outbox_shard
             where owner = $1 or leased_until < clock_timestamp()
             order by shard
             for update skip locked
         )
         update saga.outbox_shard lease
         set owner = $1,
             epoch = lease.epoch + case when lease.owner = $1 then 0 else 1 end,
             leased_until = clock_timestamp() + make_interval(secs => $2)
         from free where lease.shard = free.shard
         returning lease.shard, lease.epoch",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await?;
    Ok(Epochs(rows.into_iter().collect()))
}

/// Gives back what `owner` holds.
pub(super) async fn release(pool: &PgPool, owner: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: release leases
         update saga.outbox_shard set owner = null, leased_until = '-infinity' where owner = $1",
    )
    .bind(owner)
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends every lease, whoever holds it. See [`Relay::free_all`](super::Relay::free_all).
pub(super) async fn free_all(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: free all leases
         update saga.outbox_shard set leased_until = '-infinity' where leased_until > '-infinity'",
    )
    .execute(pool)
    .await?;
    Ok(())
}
