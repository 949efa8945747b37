//! Finding work: instances that are due, instances of dead workers, and instances that this process owns but does not drive.
//!
//! Hints and notifications only reduce latency; polling alone finds everything within [`crate::WorkerConfig::poll`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    base::id::shard_in,
    database::{Listener, all_in_time, in_time, trouble::Trouble},
    record::{
        kinds::Kinds,
        row::{Row, row_columns},
    },
    store::{
        family, join, notice,
        wake::{UPKEEP, WAKE_CHANNEL},
    },
    worker::{
        config::Assignment,
        connection,
        due::{self, Frontier},
        state::Worker,
        unknown, watch,
    },
};

/// How often the sweep looks for orphans. A saga whose worker died continues after a lease and this time at most.
const SWEEP: Duration = Duration::from_secs(1);

/// How often in one lease the sweep looks for owners that have no lease row.
const LOOKS_A_LEASE: u32 = 3;

/// How often a worker looks for instances that wait for a version that it knows.
const TAKE_BACK: Duration = Duration::from_secs(5);

// A call that was in flight gets `unsettled`, so that the next driver asks the provider about it first.
macro_rules! orphans {
    ($name:literal, $which:literal, $owner:literal, $suspect:literal) => {
        concat!(
            "-- name: ",
            $name,
            "
with known as (select * from unnest($2::text[], $3::smallint[]) as k(name, version)),
orphan as materialized (
    select i.shard, i.saga_id from saga.instance i
    where ",
            $which,
            " and exists (select from known k where k.name = i.name and k.version >= i.version)
    limit 64
    for no key update skip locked
)
update saga.instance i
set ",
            $owner,
            ", epoch = i.epoch + 1, waiting_on = 'worker', unsettled = i.unsettled or i.pending -> 'call' is not null,
    -- An attempt may have begun after the late effects of an earlier one had been waited for.
    timer_at = case when i.pending -> 'call' is not null then null else i.timer_at end, updated_at = clock_timestamp(),
    suspect = ",
            $suspect,
            "
from orphan o where i.shard = o.shard and i.saga_id = o.saga_id
returning "
        )
    };
}

macro_rules! claim_orphans {
    ($name:literal, $which:literal) => {
        concat!(orphans!($name, $which, "owner = $1", "i.suspect"), row_columns!())
    };
}

/// Makes the instances of dead workers due as of their last commit, so that any worker with room claims them before newer work.
const FREE_FROM_THE_DEAD: &str = concat!(
    orphans!(
        "free from the dead",
        "i.owner = any($1)",
        "owner = null, wake_at = saga.now() - (clock_timestamp() - i.updated_at)",
        // A lease that began before the database did ran out because the database was away.
        "i.suspect or exists (select from saga.worker w where w.worker_id = i.owner and not w.signed_off
        and w.lease_until > pg_postmaster_start_time() + $4 * interval '1 ms')"
    ),
    "i.saga_id, i.epoch"
);

/// Dead workers that still own instances: workers that have signed off, an earlier process of a name ($2) that only one process uses, and, if this
/// worker may judge ($3), all workers whose lease has run out.
const DEAD: &str = "-- name: dead owners
select w.worker_id from saga.worker w
where w.lease_until < clock_timestamp() and w.worker_id <> $1 and (w.signed_off or w.name = $2 or $3)
    and exists (select from saga.instance i where i.owner = w.worker_id)";

/// Owners without a lease row. This happens when the transaction that starts an instance stays open for so long that its worker's lease row is
/// deleted meanwhile. One look into the index for each owner, however many instances it has.
const WITHOUT_LEASE: &str = "-- name: owners without a lease
with recursive owner as (
    (select i.owner as id from saga.instance i where i.owner is not null order by i.owner limit 1)
    union all
    select (select i.owner from saga.instance i where i.owner > o.id order by i.owner limit 1)
    from owner o where o.id is not null
)
select o.id from owner o
where o.id is not null and not exists (select from saga.worker w where w.worker_id = o.id)";

/// Claims instances ($4) that this process owns but does not drive.
const OWN: &str = claim_orphans!("claim own", "i.owner = $1 and i.saga_id = any($4)");

/// Claims for a quarantined worker the instances ($4) of its parent process ($5) that it must drive.
const OF_THE_PARENT: &str =
    claim_orphans!("claim suspects", "i.owner = $5 and i.shard = any($6) and i.saga_id = any($4)");

/// Claims the instances that dead workers of that name ($4) owned.
const OF_CHILDREN: &str = claim_orphans!(
    "take suspects back",
    "i.owner = any(select w.worker_id from saga.worker w where w.name = $4)"
);

/// Claims until the worker stops.
pub(crate) async fn run(worker: Arc<Worker>, poll: Duration) {
    let mut connection: Option<PgConnection> = None;
    let mut swept: Option<Instant> = None;
    let mut looked: Option<Instant> = None;
    let mut joined: Option<Instant> = None;
    let mut taken_back: Option<Instant> = None;
    let mut frontier = Frontier::start();
    let trouble = Trouble::new("claiming fails; trying again");
    while !worker.is_stopping() {
        let claiming = async {
            let open = connection::connect(&worker.pool, &mut connection).await?;
            if taken_back.is_none_or(|at| at.elapsed() >= TAKE_BACK) {
                let known = worker.engine.known();
                unknown::take_back(open, &known).await?;
                taken_back = Some(Instant::now());
            }
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                let every = worker.lease.lasts() / LOOKS_A_LEASE;
                let looks = looked.is_none_or(|at| at.elapsed() >= every);
                sweep(&worker, open, looks).await?;
                swept = Some(Instant::now());
                looked = if looks { swept } else { looked };
                frontier.restart();
            }
            let child_ended = worker.child_ended.swap(false, Ordering::Relaxed);
            if child_ended || joined.is_none_or(|at| at.elapsed() >= poll) {
                wake_joined(open).await?;
                joined = Some(Instant::now());
            }
            due::claim(&worker, open, poll, &mut frontier).await
        };
        let rest = match all_in_time(claiming).await {
            Ok(rest) => {
                trouble.end();
                rest.min(swept.map_or(SWEEP, |at| SWEEP.saturating_sub(at.elapsed())))
            }
            Err(error) => {
                connection = None;
                trouble.begin_with(&error);
                Duration::from_millis(500)
            }
        };
        tokio::select! {
            () = worker.hint.notified() => {}
            () = tokio::time::sleep(rest) => {}
            () = worker.stop.cancelled() => return,
        }
    }
}

/// Marks instances that no living worker knows, frees instances of dead workers, and claims instances that this process owns but does not drive
/// (a caller in this process started them and never handed them over). With `looks` it also looks for owners without a lease row.
async fn sweep(
    worker: &Arc<Worker>,
    connection: &mut PgConnection,
    looks: bool,
) -> Result<(), sqlx::Error> {
    let known = worker.engine.known();
    let dead = dead_owners(worker, connection, looks).await?;
    if worker.lease.may_judge() {
        unknown::mark(connection, &known, &dead).await?;
    }
    watch::look(worker, connection, &known).await?;
    let driven = worker.driven();
    free_from_the_dead(worker, connection, &driven, &dead).await?;
    finish_children(connection).await?;
    sqlx::query(notice::ESCALATE).execute(&mut *connection).await?;
    let owned: Vec<(Uuid,)> = sqlx::query_as(
        "-- name: owned for a while
        select saga_id from saga.instance where owner = $1 and updated_at < clock_timestamp() - interval '2 seconds'",
    )
    .bind(worker.lease.worker_id)
    .fetch_all(&mut *connection)
    .await?;
    let mut adrift: Vec<_> =
        owned.into_iter().map(|(id,)| id).filter(|id| !worker.drives(*id)).take(64).collect();
    let permits = worker.permits(adrift.len());
    adrift.truncate(permits.len());
    if !adrift.is_empty() {
        let rows: Vec<Row> = sqlx::query_as(OWN)
            .bind(worker.lease.worker_id)
            .bind(&driven.names)
            .bind(&driven.versions)
            .bind(&adrift)
            .fetch_all(&mut *connection)
            .await?;
        for (row, permit) in rows.into_iter().zip(permits) {
            worker.claimed(row, permit);
        }
    }
    sqlx::query(
        "-- name: forget the dead
        delete from saga.worker w where w.lease_until < clock_timestamp() - interval '10 minutes'
            and not exists (select from saga.instance i where i.owner = w.worker_id)",
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// The owners whose process is dead. Round trips: 1, or 2.
async fn dead_owners(
    worker: &Worker,
    connection: &mut PgConnection,
    looks: bool,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let judges = worker.lease.may_judge();
    let mut dead: Vec<Uuid> = sqlx::query_scalar(DEAD)
        .bind(worker.lease.worker_id)
        .bind(&worker.sole_name)
        .bind(judges)
        .fetch_all(&mut *connection)
        .await?;
    if judges && !worker.lease.may_judge() {
        // The answer took so long that others may not have been able to renew. The next sweep asks again.
        return Ok(Vec::new());
    }
    if looks {
        let forgotten: Vec<Uuid> =
            sqlx::query_scalar(WITHOUT_LEASE).fetch_all(&mut *connection).await?;
        dead.extend(forgotten.into_iter().filter(|owner| *owner != worker.lease.worker_id));
    }
    Ok(dead)
}

/// Makes the instances of dead workers due. This worker needs no room for that: any worker that has room claims them. A worker that has lost its own
/// lease does nothing.
///
/// Round trips: 0 if no worker has died, else 1, and 1 more after each batch of 64.
async fn free_from_the_dead(
    worker: &Worker,
    connection: &mut PgConnection,
    driven: &Kinds,
    dead: &[Uuid],
) -> Result<(), sqlx::Error> {
    while !dead.is_empty() && worker.holds_lease() && !worker.is_stopping() {
        let freed: Vec<(Uuid, i32)> = sqlx::query_as(FREE_FROM_THE_DEAD)
            .bind(dead)
            .bind(&driven.names)
            .bind(&driven.versions)
            .bind(worker.lease.lasts_ms())
            .fetch_all(&mut *connection)
            .await?;
        for (saga_id, epoch) in &freed {
            tracing::info!(%saga_id, epoch, "taken over from a dead worker");
        }
        if freed.len() < 64 {
            break;
        }
    }
    Ok(())
}

/// A quarantined worker claims the given instances, drives one step of each and stops.
pub(crate) async fn suspects(worker: Arc<Worker>, assignment: Assignment) {
    let known = worker.engine.known();
    for suspects in assignment.suspects.chunks(64) {
        let claiming = sqlx::query_as(OF_THE_PARENT)
            .bind(worker.lease.worker_id)
            .bind(&known.names)
            .bind(&known.versions)
            .bind(suspects)
            .bind(assignment.parent)
            .bind(suspects.iter().map(|id| shard_in(*id)).collect::<Vec<_>>())
            .fetch_all(&worker.pool);
        let rows: Result<Vec<Row>, sqlx::Error> = in_time(claiming).await;
        match rows {
            Ok(rows) => {
                let permits = worker.permits(rows.len());
                for (row, permit) in rows.into_iter().zip(permits) {
                    worker.claimed(row, permit);
                }
            }
            Err(error) => tracing::warn!(%error, "suspects could not be claimed"),
        }
    }
    while worker.free_permits() < assignment.suspects.len() && !worker.is_stopping() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worker.stop.cancel();
}

/// Takes back the instances of dead workers of that name, and returns those that are still suspects. The others are due at once.
pub(crate) async fn take_back(worker: &Worker, name: &str) -> Result<Vec<Uuid>, sqlx::Error> {
    let known = worker.engine.known();
    let mut open = Vec::new();
    loop {
        let taking = sqlx::query_as(OF_CHILDREN)
            .bind(worker.lease.worker_id)
            .bind(&known.names)
            .bind(&known.versions)
            .bind(name)
            .fetch_all(&worker.pool);
        let rows: Vec<Row> = in_time(taking).await?;
        if rows.is_empty() {
            return Ok(open);
        }
        // The others have committed a step: the sweep claims them, since this process owns them and does not drive them.
        open.extend(rows.iter().filter(|row| row.suspect).map(|row| row.saga_id));
    }
}

/// Makes all parents due whose last child has ended.
async fn wake_joined(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    while sqlx::query(join::WAKE_JOINED).execute(&mut *connection).await?.rows_affected() == 64 {}
    Ok(())
}

/// Makes all children final whose parent has let them go.
async fn finish_children(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        let finished: i64 =
            sqlx::query_scalar(family::FINISH_CHILDREN).fetch_one(&mut *connection).await?;
        if finished == 0 {
            return Ok(());
        }
    }
}

/// Turns notifications into hints until aborted.
pub(crate) async fn listen(worker: Arc<Worker>) {
    let trouble = Trouble::new("the worker does not hear when something is due; it polls instead");
    loop {
        let listened: Result<(), sqlx::Error> = async {
            let mut listener = Listener::open(&worker.pool, WAKE_CHANNEL).await?;
            trouble.end();
            loop {
                if listener.next().await?.payload() == UPKEEP {
                    worker.upkeep.notify_one();
                } else {
                    worker.hint.notify_one();
                }
            }
        }
        .await;
        if let Err(error) = listened {
            trouble.begin_with(&error);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
