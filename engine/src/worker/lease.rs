//! A worker's lease: one row per process, renewed on a connection of its own so that a full pool never looks like a death.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    base::build,
    database::{self, Waits, in_time, trouble::Trouble},
    worker::{config::WorkerConfig, engine::Engine, shift::Shift},
};

/// The lease of a worker as its own process sees it: when it was last renewed, and since when without a gap. By the monotonic clock.
///
/// A lease that ran out means that its worker has died, unless the database was away for longer than a lease: then every lease has run out, and
/// the others are about to renew theirs. A worker therefore judges nobody until it has itself been in contact with the database for
/// one whole lease: after its start, and again after each gap in its renewals.
pub(crate) struct Lease {
    pub(crate) worker_id: Uuid,
    lasts: Duration,
    times: RwLock<Times>,
    /// Its row is gone: others have taken everything over.
    is_lost: AtomicBool,
}

#[derive(Clone, Copy)]
struct Times {
    renewed_at: Instant,
    judges_from: Instant,
}

impl Lease {
    /// The lease was taken by a statement that was sent at `asked`.
    fn begin(worker_id: Uuid, lasts: Duration, asked: Instant) -> Self {
        let times = Times { renewed_at: asked, judges_from: asked + lasts };
        Self { worker_id, lasts, times: RwLock::new(times), is_lost: AtomicBool::new(false) }
    }

    /// The lease was renewed by a statement that was sent at `asked`. Renewals are a third of a lease apart; where it was more than half of one,
    /// the database may have been away for so long that others lost their leases.
    fn renewed(&self, asked: Instant) {
        let mut times = self.times.write().unwrap_or_else(PoisonError::into_inner);
        if asked.duration_since(times.renewed_at) > self.lasts / 2 {
            times.judges_from = Instant::now() + self.lasts;
        }
        times.renewed_at = asked;
    }

    fn times(&self) -> Times {
        *self.times.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it lasts after a renewal.
    pub(crate) fn lasts(&self) -> Duration {
        self.lasts
    }

    /// The same in milliseconds, for statements.
    pub(crate) fn lasts_ms(&self) -> i64 {
        i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX)
    }

    /// The row is gone.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Does the worker still hold it? One that slept through its lease starts nothing new; commits are fenced in any case.
    pub(crate) fn is_held(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed)
            && self.times().renewed_at + self.lasts > Instant::now()
    }

    /// May this worker take a lease that ran out for a death? Not while it has no lease itself: then the database was away, and the others
    /// are about to renew as well.
    pub(crate) fn may_judge(&self) -> bool {
        self.is_held() && self.times().judges_from <= Instant::now()
    }
}

/// Writes the lease row of a new worker.
pub(crate) async fn register(engine: &Engine, config: &WorkerConfig) -> Result<Lease, sqlx::Error> {
    let lease = Lease::begin(Uuid::now_v7(), config.lease, Instant::now());
    let kinds = engine.kinds().into_iter().map(|kind| (kind.name, kind.version));
    let registered = sqlx::query(
        "-- name: register worker
        with freed as (
            update saga.worker set lease_until = clock_timestamp() where $4 and name = $2
        )
        insert into saga.worker (worker_id, name, kinds, lease_until, build)
        values ($1, $2, $3, clock_timestamp() + $5 * interval '1 ms', $6)",
    )
    .bind(lease.worker_id)
    .bind(&config.name)
    .bind(Json(kinds.collect::<Vec<_>>()))
    .bind(config.sole)
    .bind(lease.lasts_ms())
    .bind(build::made_at())
    .execute(engine.pool());
    in_time(registered).await?;
    Ok(lease)
}

/// Renews every third of the lease until aborted, and does nothing else: nothing may hold it up. An outage is waited out: while it lasts
/// nobody else can take over either.
pub(crate) async fn renew(shift: Arc<Shift>) {
    let mut connection: Option<PgConnection> = None;
    let mut ticks = tokio::time::interval(shift.lease.lasts() / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let trouble = Trouble::new("the worker's lease cannot be renewed; trying again");
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match renew_once(&shift, &mut connection).await {
            Ok(true) => {
                trouble.end();
                shift.lease.renewed(asked);
            }
            Ok(false) => {
                tracing::warn!(worker_id = %shift.lease.worker_id, "fenced: the lease row is gone, its instances belong to others");
                shift.lost();
                return;
            }
            Err(error) => {
                connection = None;
                trouble.begin_with(&error);
                ticks.reset_after(Duration::from_millis(500));
            }
        }
    }
}

async fn renew_once(
    shift: &Shift,
    connection: &mut Option<PgConnection>,
) -> Result<bool, sqlx::Error> {
    if connection.is_none() {
        let options = shift.pool.connect_options().as_ref().clone();
        *connection = Some(database::connect(options, Waits::USUAL).await?);
    }
    let open = connection.as_mut().expect("it was just filled");
    let renewing = sqlx::query(
        "-- name: renew lease
        update saga.worker set lease_until = clock_timestamp() + $2 * interval '1 ms' where worker_id = $1",
    )
    .bind(shift.lease.worker_id)
    .bind(shift.lease.lasts_ms())
    .execute(open);
    Ok(in_time(renewing).await?.rows_affected() == 1)
}

/// After a drain: whatever could not be released is free at once. The row stays for a while: a start in a transaction still open
/// may name this worker as its owner, and is found by the row.
pub(crate) async fn sign_off(shift: &Shift) {
    let signing = sqlx::query(
        "-- name: sign worker off
        update saga.worker set lease_until = clock_timestamp(), signed_off = true where worker_id = $1",
    )
    .bind(shift.lease.worker_id)
    .execute(&shift.pool);
    if let Err(error) = in_time(signing).await {
        tracing::warn!(%error, "could not sign off; the lease runs out by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn begun_at(asked: Instant) -> Lease {
        Lease::begin(Uuid::nil(), LEASE, asked)
    }

    #[test]
    fn a_worker_judges_nobody_until_it_has_renewed_without_a_gap_for_a_whole_lease() {
        let begun = Instant::now().checked_sub(3 * LEASE).expect("the machine runs for longer");
        let lease = begun_at(begun);
        for thirds in 1..=9 {
            lease.renewed(begun + thirds * LEASE / 3);
        }
        assert!(lease.is_held() && lease.may_judge());
        lease.renewed(Instant::now() + 2 * LEASE);
        assert!(lease.is_held() && !lease.may_judge(), "the database was away");
    }

    #[test]
    fn a_worker_that_has_lost_its_own_lease_judges_nobody() {
        let begun = Instant::now().checked_sub(3 * LEASE).expect("the machine runs for longer");
        let lease = begun_at(begun);
        assert!(!lease.is_held() && !lease.may_judge(), "nobody could renew");
    }

    #[test]
    fn a_worker_that_has_just_begun_judges_nobody() {
        assert!(!begun_at(Instant::now()).may_judge());
    }
}
