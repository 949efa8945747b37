//! A worker's lease: one row per process. It is renewed on a connection of its own, so that a full pool never looks like a dead worker.

use std::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::{
    base::build,
    database::{self, Waits, in_time, trouble::Trouble},
    record::kinds::SagaVersion,
    worker::config::WorkerConfig,
};

/// The lease of a worker as its own process sees it: the time of the last renewal, and the time since which renewals had no gap. Both are times of
/// the monotonic clock.
///
/// If a lease has run out, its worker has died. There is one exception: if the database was away for longer than a lease, all leases have run out, and
/// living workers are about to renew theirs. So a worker takes over from others only after it has been in contact with the database for one whole
/// lease, after its start and after each gap in its renewals.
pub(crate) struct Lease {
    pub(crate) worker_id: Uuid,
    lasts: Duration,
    times: RwLock<Times>,
    /// True once its row is gone: other workers have taken over its instances.
    is_lost: AtomicBool,
}

#[derive(Clone, Copy)]
struct Times {
    renewed_at: Instant,
    /// From this time on the worker may take over from others, if it holds its own lease.
    judges_from: Instant,
}

impl Lease {
    /// A lease whose row was written by a statement that was sent at `asked`.
    fn begin(worker_id: Uuid, lasts: Duration, asked: Instant) -> Self {
        let times = Times { renewed_at: asked, judges_from: asked + lasts };
        Self { worker_id, lasts, times: RwLock::new(times), is_lost: AtomicBool::new(false) }
    }

    /// Notes a renewal by a statement that was sent at `asked`. Renewals are a third of a lease apart. If the last one is more than half a lease
    /// ago, the database may have been away for so long that other workers lost their leases: that is a gap.
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

    /// The time for which a renewal holds.
    pub(crate) fn lasts(&self) -> Duration {
        self.lasts
    }

    /// The same in milliseconds, for statements.
    pub(crate) fn lasts_ms(&self) -> i64 {
        i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX)
    }

    /// Notes that the row is gone.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether the worker still holds its lease. A worker that was frozen for longer than its lease starts nothing new. Its commits are fenced in any
    /// case.
    pub(crate) fn is_held(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed)
            && self.times().renewed_at + self.lasts > Instant::now()
    }

    /// Whether this worker may conclude from a lease that ran out that its owner has died. It may not while it has no lease itself: then the database
    /// was away, and the other workers are about to renew their leases as well.
    pub(crate) fn may_judge(&self) -> bool {
        self.is_held() && self.times().judges_from <= Instant::now()
    }
}

/// Writes the lease row of a new worker, and ends the leases of earlier processes of a name that only one process uses.
pub(crate) async fn register(
    pool: &PgPool,
    kinds: &[SagaVersion<&'static str>],
    config: &WorkerConfig,
) -> Result<Lease, sqlx::Error> {
    let lease = Lease::begin(Uuid::now_v7(), config.lease, Instant::now());
    let kinds = kinds.iter().map(|kind| (kind.name, kind.version));
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
    .execute(pool);
    in_time(registered).await?;
    Ok(lease)
}

/// Renews the lease every third of its time, until its row is gone. It does nothing else, so that nothing delays it. It waits for the end of an outage of the
/// database, during which no other worker can take over either.
pub(crate) async fn renew(lease: &Lease, pool: &PgPool) {
    let mut connection: Option<PgConnection> = None;
    let mut ticks = tokio::time::interval(lease.lasts() / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let trouble = Trouble::new("the worker's lease cannot be renewed; trying again");
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match renew_once(lease, pool, &mut connection).await {
            Ok(true) => {
                trouble.end();
                lease.renewed(asked);
            }
            Ok(false) => {
                tracing::warn!(worker_id = %lease.worker_id, "fenced: the lease row is gone, its instances belong to others");
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

/// Renews a lease that has not run out.
///
/// The server may execute a renewal after the end of its process, when the statement was on its way. By then the process' successor under a `sole` name
/// may have ended this lease ([`register`]). Such a renewal changes nothing, so that the successor need not wait for the end of the lease once more. The
/// same holds for a renewal that is executed after [`sign_off`].
const RENEW: &str = "-- name: renew lease
update saga.worker set lease_until = clock_timestamp() + $2 * interval '1 ms'
where worker_id = $1 and lease_until > clock_timestamp() and not signed_off";

/// The same for a lease that has run out, because the database or this process was away. A process sends it only after it has been told that [`RENEW`]
/// changed nothing, so it was alive after its lease had ended.
const RENEW_AFTER_ITS_END: &str = "-- name: renew lease after its end
update saga.worker set lease_until = clock_timestamp() + $2 * interval '1 ms' where worker_id = $1 and not signed_off";

/// Returns false if the row is gone. Round trips: 1, or 2 if the lease had run out.
async fn renew_once(
    lease: &Lease,
    pool: &PgPool,
    connection: &mut Option<PgConnection>,
) -> Result<bool, sqlx::Error> {
    if connection.is_none() {
        let options = pool.connect_options().as_ref().clone();
        *connection = Some(database::connect(options, Waits::USUAL).await?);
    }
    let open = connection.as_mut().expect("it was just filled");
    for renewal in [RENEW, RENEW_AFTER_ITS_END] {
        let renewing =
            sqlx::query(renewal).bind(lease.worker_id).bind(lease.lasts_ms()).execute(&mut *open);
        if in_time(renewing).await?.rows_affected() == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends the lease after a drain, so that other workers take over at once what could not be released. The row stays for a while: a transaction that is
/// still open may have started an instance that names this worker as its owner, and the sweep finds that instance by the row.
pub(crate) async fn sign_off(lease: &Lease, pool: &PgPool) {
    let signing = sqlx::query(
        "-- name: sign worker off
        update saga.worker set lease_until = clock_timestamp(), signed_off = true where worker_id = $1",
    )
    .bind(lease.worker_id)
    .execute(pool);
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
