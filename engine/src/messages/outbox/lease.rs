//! The right to publish a shard: a row with owner and epoch.
//!
//! The living relays share the shards evenly. A new relay waits until the others release the shards
//! above their part. The shards of a dead relay are taken when their leases have run out. Every
//! statement that marks messages tests owner and epoch. So a relay that was paused beyond its lease
//! cannot mark anything, and the messages that it sent meanwhile are copies with the same ids.
//!
//! Several shards are always locked in the same order, so that two relays never deadlock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tracing::info;
use uuid::Uuid;

use super::health::RelayHealth;
use crate::{
    base::id::SHARDS,
    database::{trouble::Trouble, within},
};

/// The shards of a relay, each with the epoch of its lease.
#[derive(Debug, Clone, Default)]
pub(super) struct Epochs(BTreeMap<i16, i64>);

impl Epochs {
    /// The epoch of a shard. A shard that this relay does not have has -1, which is in no row.
    pub(super) fn of(&self, shard: i16) -> i64 {
        self.0.get(&shard).copied().unwrap_or(-1)
    }

    #[cfg(test)]
    pub(super) fn shards(&self) -> Vec<i16> {
        self.0.keys().copied().collect()
    }
}

/// The result of a renewal.
pub(super) struct Share {
    pub(super) epochs: Epochs,
    /// How many shards this relay should have.
    pub(super) fair: usize,
}

/// The shards of a relay, shared by its tasks.
#[derive(Default)]
pub(super) struct Holding(Mutex<Held>);

#[derive(Default)]
struct Held {
    epochs: Epochs,
    /// When the leases run out, and with them the right to send.
    until: Option<Instant>,
    /// Shards to be released as soon as none of their messages is under way.
    leaving: BTreeSet<i16>,
    /// The number of messages under way, for each shard.
    busy: BTreeMap<i16, usize>,
}

impl Holding {
    /// The shards whose messages may be sent now.
    pub(super) fn shards(&self) -> Vec<i16> {
        let held = self.held();
        held.epochs.0.keys().copied().filter(|shard| held.may_send(*shard)).collect()
    }

    pub(super) fn epochs(&self) -> Epochs {
        self.held().epochs.clone()
    }

    /// Whether a message of this shard may be sent; it is under way until [`end`](Self::end).
    pub(super) fn begin(&self, shard: i16) -> bool {
        let mut held = self.held();
        let may = held.may_send(shard);
        if may {
            *held.busy.entry(shard).or_default() += 1;
        }
        may
    }

    /// A message of this shard is no longer under way.
    pub(super) fn end(&self, shard: i16) {
        let mut held = self.held();
        let left = held.busy.get(&shard).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => held.busy.remove(&shard),
            _ => held.busy.insert(shard, left),
        };
    }

    /// Another relay has taken this shard.
    pub(super) fn lose(&self, shard: i16) {
        self.held().epochs.0.remove(&shard);
    }

    /// Applies a renewal. Returns the idle shards above this relay's part: the caller releases them.
    fn renew(&self, share: Share, until: Instant) -> Vec<i16> {
        let mut held = self.held();
        let Held { epochs, until: ends, leaving, busy } = &mut *held;
        (*epochs, *ends) = (share.epochs, Some(until));
        leaving.retain(|shard| epochs.0.contains_key(shard));
        let surplus = epochs.0.len().saturating_sub(share.fair);
        while leaving.len() > surplus {
            leaving.pop_first();
        }
        let others = epochs.0.keys().rev().filter(|shard| !leaving.contains(shard));
        let more: Vec<i16> = others.take(surplus - leaving.len()).copied().collect();
        leaving.extend(more);
        let idle: Vec<i16> =
            leaving.iter().copied().filter(|shard| !busy.contains_key(shard)).collect();
        for shard in &idle {
            leaving.remove(shard);
            epochs.0.remove(shard);
        }
        idle
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn may_send(&self, shard: i16) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
            && self.epochs.0.contains_key(&shard)
            && !self.leaving.contains(&shard)
    }
}

/// Renews the leases of `owner` until aborted.
pub(super) async fn keep(
    pool: PgPool,
    owner: Uuid,
    lease: Duration,
    holding: Arc<Holding>,
    health: RelayHealth,
) {
    let trouble = Trouble::new("the relay cannot renew its leases");
    loop {
        let asked = Instant::now();
        match within(lease / 3, take(&pool, owner, lease)).await {
            Ok(share) => {
                trouble.end();
                let surplus = holding.renew(share, asked + lease);
                health.note_renewal(holding.shards().len());
                if !surplus.is_empty() {
                    // A shard that was not released is still this relay's at the next renewal.
                    let given = within(lease / 3, give_up(&pool, owner, &surplus)).await;
                    info!(shards = surplus.len(), done = given.is_ok(), "given to another relay");
                }
                sleep(lease / 4).await;
            }
            Err(error) => {
                trouble.begin_with(&error);
                // An error of the database is an answer. Only silence is a reason to start the tasks again.
                if !is_silence(&error) {
                    health.note_refusal(error.to_string());
                }
                sleep(lease / 10).await;
            }
        }
    }
}

fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// Renews the shards of `owner` and takes free ones, up to its part, for `lease`.
pub(super) async fn take(
    pool: &PgPool,
    owner: Uuid,
    lease: Duration,
) -> Result<Share, sqlx::Error> {
    let rows: Vec<(i16, i64, i64)> = sqlx::query_as(
        "-- outbox: take leases
         with alive as (
             insert into saga.outbox_relay as relay (owner, alive_until)
             values ($1, clock_timestamp() + make_interval(secs => $2))
             on conflict (owner) do update set alive_until = excluded.alive_until
         ), part as materialized (
             select ceil($3::numeric / (1 + count(*)))::bigint as fair
             from saga.outbox_relay
             where owner <> $1 and alive_until > clock_timestamp()
         ), ours as materialized (
             select shard from saga.outbox_shard
             where owner = $1
             order by shard
             for update
         ), free as materialized (
             select shard from saga.outbox_shard
             where owner is distinct from $1 and leased_until < clock_timestamp()
             order by shard
             limit greatest(0, (select fair from part) - (select count(*) from ours))
             for update skip locked
         )
         update saga.outbox_shard lease
         set owner = $1,
             epoch = lease.epoch + case when lease.owner = $1 then 0 else 1 end,
             leased_until = clock_timestamp() + make_interval(secs => $2)
         from (select shard from ours union all select shard from free) held
         where lease.shard = held.shard
         returning lease.shard, lease.epoch, (select fair from part)",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .bind(i64::from(SHARDS))
    .fetch_all(pool)
    .await?;
    let fair = rows.first().map_or(0, |row| usize::try_from(row.2).unwrap_or(0));
    let epochs = rows.into_iter().map(|(shard, epoch, _)| (shard, epoch)).collect();
    Ok(Share { epochs: Epochs(epochs), fair })
}

/// Releases some shards, so that another relay takes them at its next renewal.
async fn give_up(pool: &PgPool, owner: Uuid, shards: &[i16]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: give up shards
         with held as materialized (
             select shard from saga.outbox_shard where owner = $1 and shard = any ($2) order by shard for update
         )
         update saga.outbox_shard lease set owner = null, leased_until = '-infinity'
         from held where lease.shard = held.shard",
    )
    .bind(owner)
    .bind(shards)
    .execute(pool)
    .await?;
    Ok(())
}

/// Releases all shards of `owner`, and removes it from the living relays.
pub(super) async fn release(pool: &PgPool, owner: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: release leases
         with gone as (delete from saga.outbox_relay where owner = $1),
         held as materialized (
             select shard from saga.outbox_shard where owner = $1 order by shard for update
         )
         update saga.outbox_shard lease set owner = null, leased_until = '-infinity'
         from held where lease.shard = held.shard",
    )
    .bind(owner)
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends every lease, of whichever relay. See [`Relay::free_all`](super::Relay::free_all).
pub(super) async fn free_all(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- outbox: free all leases
         with gone as (delete from saga.outbox_relay),
         held as materialized (
             select shard from saga.outbox_shard where leased_until > '-infinity' order by shard for update
         )
         update saga.outbox_shard lease set leased_until = '-infinity'
         from held where lease.shard = held.shard",
    )
    .execute(pool)
    .await?;
    Ok(())
}
