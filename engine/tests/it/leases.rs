//! The instances that are taken over: those of the dead and of owners without a lease; never those of a worker that had no time to renew.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use stepwise_engine::{HandOver, Start, Transaction, WorkerConfig};
use uuid::Uuid;

use crate::{
    job::{Input, Job},
    world::{Mortal, World, eventually, quick},
};

const LEASE: Duration = Duration::from_secs(2);

/// An instance as a worker left it that drove it.
async fn owned_by(world: &World, owner: Uuid) -> Uuid {
    let mut tx = world.pool.begin().await.expect("the database is there");
    let id = begun(world, &mut tx, &Uuid::now_v7().to_string()).await.0;
    sqlx::query(
        "-- name: test own\nupdate saga.instance set owner = $2, wake_at = null where saga_id = $1",
    )
    .bind(id)
    .bind(owner)
    .execute(&mut *tx)
    .await
    .expect("the row is this transaction's");
    tx.commit().await.expect("the database is there");
    id
}

/// An instance that is started in a transaction which its caller commits.
async fn begun(world: &World, tx: &mut PgConnection, subject: &str) -> (Uuid, HandOver) {
    let mut joined = Transaction::over(tx);
    let start = Start::new(subject, Input::Work);
    let started = world.engine.start::<Job>(&mut joined, start).await.expect("it can be started");
    (started.id, joined.hand_over_later())
}

/// The lease of another worker, which runs out after that many seconds.
async fn lease(pool: &PgPool, worker: Uuid, seconds: f64, signed_off: bool) {
    sqlx::query(
        "-- name: test lease
        insert into saga.worker (worker_id, name, kinds, lease_until, signed_off)
        values ($1, 'another', '[]', clock_timestamp() + $2 * interval '1 second', $3)
        on conflict (worker_id) do update set lease_until = excluded.lease_until",
    )
    .bind(worker)
    .bind(seconds)
    .bind(signed_off)
    .execute(pool)
    .await
    .expect("the database is there");
}

/// The database lets nobody in for so long.
async fn outage(world: &World, lasts: Duration) {
    let server = world.db.options().database("postgres");
    let mut admin = PgConnection::connect_with(&server).await.expect("the server is there");
    let name: String = sqlx::query_scalar("-- name: test name\nselect current_database()")
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
    let allow = |allowed: bool| {
        AssertSqlSafe(format!("alter database {name} with allow_connections {allowed}"))
    };
    sqlx::raw_sql(allow(false)).execute(&mut admin).await.expect("it is the test's own");
    sqlx::query(
        "-- name: test cut
        select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
    )
    .bind(&name)
    .execute(&mut admin)
    .await
    .expect("sessions can be ended");
    tokio::time::sleep(lasts).await;
    sqlx::raw_sql(allow(true)).execute(&mut admin).await.expect("it is the test's own");
    admin.close().await.expect("the server is there");
}

async fn epoch(world: &World, id: Uuid) -> i32 {
    let row = sqlx::query_scalar(
        "-- name: test epoch\nselect epoch from saga.instance where saga_id = $1",
    );
    // The pool may still hold connections that were cut.
    row.bind(id).fetch_one(&world.pool).await.unwrap_or(1)
}

/// Of three workers whose leases have run out one has signed off, one is dead, and one renews as soon as it can.
async fn nobody_is_robbed(away: Option<Duration>) {
    let world = World::new().await;
    let config = || WorkerConfig { lease: LEASE, ..quick() };
    let [signed_off, dead, slow] = [(); 3].map(|()| Uuid::now_v7());
    let left = if away.is_some() { 1.0 } else { -1.0 };
    for (worker, is) in [(signed_off, true), (dead, false), (slow, false)] {
        lease(&world.pool, worker, left, is).await;
    }
    let [of_signed_off, of_dead, of_slow] = [
        owned_by(&world, signed_off).await,
        owned_by(&world, dead).await,
        owned_by(&world, slow).await,
    ];
    let worker = world.worker(config()).await;
    if let Some(away) = away {
        outage(&world, away).await;
    }
    let back = Instant::now();
    eventually("what a worker that signed off left", async || {
        epoch(&world, of_signed_off).await > 1
    })
    .await;
    assert!(back.elapsed() < LEASE, "that needs no grace");
    assert_eq!(epoch(&world, of_slow).await, 1, "nobody takes over from who could not renew yet");
    assert_eq!(epoch(&world, of_dead).await, 1);
    lease(&world.pool, slow, 3_600.0, false).await;
    eventually("what the dead one left", async || epoch(&world, of_dead).await > 1).await;
    assert!(back.elapsed() < 2 * LEASE + Duration::from_secs(2), "after a lease of contact");
    assert_eq!(world.ended(of_dead).await.status, "completed");
    assert_eq!(epoch(&world, of_slow).await, 1, "it has renewed");
    let told: i64 = sqlx::query_scalar("-- name: test notices\nselect count(*) from saga.notice")
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
    assert_eq!(told, 0, "and nobody is told anything");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_has_just_begun_takes_nothing_over_before_others_could_renew() {
    nobody_is_robbed(None).await;
}

/// Fault: database: it is away for longer than a worker's lease
/// Customer: sagas wait until it is back
/// Operator: nothing beside the database's own line
/// Within: at once
/// Ends: by itself: each worker renews and goes on; a dead one's sagas are taken over one lease later
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_longer_than_a_lease_nobody_is_robbed_who_had_no_time_to_renew() {
    nobody_is_robbed(Some(LEASE + Duration::from_secs(1))).await;
}

/// As when a process stands still for so long, between a start's statement and its commit, that its lease is forgotten.
///
/// Fault: saga: it is owned by a worker that has no row of its own any more
/// Customer: the saga pauses for at most a lease (30 s)
/// Operator: one line in the log
/// Within: 30 s
/// Ends: by itself: another worker takes it over
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_a_lease_is_found_like_a_dead_one_within_a_lease() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { lease: LEASE, ..quick() }).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let id = begun(&world, &mut tx, "forgotten").await.0;
    sqlx::query("-- name: test forget\ndelete from saga.worker")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    tx.commit().await.expect("the database is there");
    let committed = Instant::now();
    assert_eq!(world.ended(id).await.status, "completed");
    // Its own worker finds out that its lease is gone by its next renewal, and the next look is a third of a lease after that.
    assert!(committed.elapsed() < LEASE + Duration::from_secs(2), "{:?}", committed.elapsed());
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_and_an_owner_without_a_lease_holds_waits_for_its_version() {
    let world = World::new().await;
    let id = owned_by(&world, Uuid::now_v7()).await;
    sqlx::query(
        "-- name: test strange\nupdate saga.instance set name = 'strange' where saga_id = $1",
    )
    .bind(id)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let worker = world.worker(quick()).await;
    let seen = world.until(id, "its mark", |seen| seen.owner.is_none()).await;
    assert_eq!(seen.waiting_on.as_deref(), Some("version"));
    worker.stop().await;
    world.close().await;
}

/// A transaction that starts an instance may be open for longer than the sweep leaves alone what nobody drives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_handed_over_late_is_driven_once() {
    let world = World::new().await;
    let gate = world.provider.hold("work");
    gate.add_permits(1);
    let worker = world.worker(quick()).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let (id, late) = begun(&world, &mut tx, "late").await;
    let (other, dropped) = begun(&world, &mut tx, "dropped").await;
    tx.commit().await.expect("the database is there");
    drop(dropped);
    assert_eq!(world.ended(other).await.status, "completed", "the sweep has found it");
    let calls = |id: Uuid| {
        let calls = world.provider.requests("work");
        calls.into_iter().filter(|call| call.key.starts_with(&id.to_string())).count()
    };
    assert_eq!(calls(id), 0, "it is still its caller's");
    late.after_commit();
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!((calls(id), world.see(id).await.epoch), (1, 1));
    worker.stop().await;
    world.close().await;
}

/// The first of these statements that waits for a lock just now.
async fn who_waits(pool: &PgPool, names: [&str; 2]) -> Option<usize> {
    let queries: Vec<String> = sqlx::query_scalar(
        "-- name: test waiting
        select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .fetch_all(pool)
    .await
    .expect("the database is there");
    names.iter().position(|name| queries.iter().any(|q| q.starts_with(&format!("-- name: {name}"))))
}

/// A worker reads a row, cannot, and wants to mark it; meanwhile somebody else's transition has changed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_has_moved_on_since_it_was_read_is_not_marked_stuck() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = owned_by(&world, Uuid::nil()).await;
    loop {
        // Its mark waits for this lock, as does the sweep, which may come first.
        let mut lock = world.pool.begin().await.expect("the database is there");
        sqlx::raw_sql("lock table saga.escalation in exclusive mode")
            .execute(&mut *lock)
            .await
            .expect("it is free now and then");
        sqlx::query(
            "-- name: test make due
            update saga.instance set state = '\"Nonsense\"', status = 'running', waiting_on = 'worker', owner = null,
                wake_at = saga.now() where saga_id = $1",
        )
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
        sqlx::raw_sql("notify saga_wake").execute(&world.pool).await.expect("it is there");
        let mut first = None;
        eventually("somebody to wait", async || {
            first = who_waits(&world.pool, ["stick unreadable", "escalate"]).await;
            first.is_some()
        })
        .await;
        if first == Some(0) {
            let moved = sqlx::query(
                "-- name: test move on
                update saga.instance set state = '\"Working\"', seq = seq + 1 where saga_id = $1 and owner is not null",
            );
            moved.bind(id).execute(&world.pool).await.expect("the row is not locked");
            lock.rollback().await.expect("the database is there");
            break;
        }
        lock.rollback().await.expect("the database is there");
    }
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.last_error), ("completed", None));
    worker.stop().await;
    world.close().await;
}

/// The server executes a renewal of a killed process after its successor has registered: a trigger delays it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_comes_after_the_successor_has_begun_delays_nothing() {
    let world = World::new().await;
    sqlx::raw_sql(
        "-- name: test slow renewals
        create function test.slow() returns trigger language plpgsql as $$ begin
            if current_query() like '-- name: renew lease%' then perform pg_sleep(2); end if;
            return null;
        end $$;
        create trigger slow before update on saga.worker for each statement execute function test.slow();",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let killed = Mortal::lasting(&world, "alone", Duration::from_secs(3_600));
    let mut renewing = None;
    eventually("its first renewal", async || {
        renewing = first_renewal(&world.pool).await;
        renewing.is_some()
    })
    .await;
    killed.kill();
    let owner: Uuid = sqlx::query_scalar("-- name: test owner\nselect worker_id from saga.worker")
        .fetch_one(&world.pool)
        .await
        .expect("it is the only one");
    let successor = Mortal::lasting(&world, "alone", Duration::from_secs(3_600));
    let registered = async || {
        sqlx::query_scalar::<_, bool>("-- name: test two\nselect count(*) = 2 from saga.worker")
            .fetch_one(&world.pool)
            .await
            .expect("the database is there")
    };
    eventually("its successor", registered).await;
    assert!(first_renewal(&world.pool).await == renewing, "the renewal is still to come");
    eventually("the late renewal", async || first_renewal(&world.pool).await != renewing).await;
    let id = owned_by(&world, owner).await;
    assert_eq!(world.ended(id).await.status, "completed");
    successor.kill();
    world.close().await;
}

/// The session that has been renewing a lease the longest.
async fn first_renewal(pool: &PgPool) -> Option<i32> {
    sqlx::query_scalar(
        "-- name: test renewals
        select pid from pg_stat_activity
        where datname = current_database() and state = 'active' and query like '-- name: renew lease%'
        order by query_start limit 1",
    )
    .fetch_optional(pool)
    .await
    .expect("the database is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_has_run_out_is_renewed_by_a_worker_that_lives() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { lease: LEASE, ..quick() }).await;
    sqlx::query("-- name: test end lease\nupdate saga.worker set lease_until = clock_timestamp()")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    eventually("the next renewal", async || {
        sqlx::query_scalar(
            "-- name: test renewed\nselect bool_and(lease_until > clock_timestamp()) from saga.worker",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    })
    .await;
    let id = world.start_with::<Job>(Start::new("after", Input::Work)).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}
