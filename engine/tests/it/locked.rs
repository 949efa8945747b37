//! A row that somebody has locked: its driver waits ever longer between tries, and nobody waits with it.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use stepwise_engine::{Start, WorkerConfig};

use crate::{
    job::{Input, Job},
    plain::Five,
    provider::Behaviour,
    world::{World, eventually, quick},
};

const ROWS: usize = 50;

/// Transactions of this database in a second, over so long.
async fn rate(pool: &PgPool, over: Duration) -> f64 {
    let count = async || -> i64 {
        sqlx::query_scalar(
            "-- name: test transactions
            select xact_commit + xact_rollback from pg_stat_database where datname = current_database()",
        )
        .fetch_one(pool)
        .await
        .expect("the database is there")
    };
    let (before, begun) = (count().await, Instant::now());
    tokio::time::sleep(over).await;
    (count().await - before) as f64 / begun.elapsed().as_secs_f64()
}

/// Fault: saga: somebody holds locks on the rows of running sagas
/// Customer: those sagas wait; all others go on
/// Operator: `pg_locks` says who holds them; no load
/// Within: at once
/// Ends: by itself, within 1 s of the release
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_of_locked_rows_do_not_spin_and_hold_nobody_up() {
    let world = World::new().await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let held = Behaviour::Held(gate.clone(), Box::new(Behaviour::Acts));
    world.provider.script("work", vec![held; ROWS]);
    let worker = world.worker(WorkerConfig { poll: Duration::from_secs(1), ..quick() }).await;
    let mut ids = Vec::new();
    for n in 0..ROWS {
        ids.push(world.start::<Job>(&format!("locked {n}"), Input::Work).await);
    }
    world.asked("work", ROWS).await;
    let quiet = rate(&world.pool, Duration::from_secs(2)).await;

    let mut lock = world.pool.begin().await.expect("the database is there");
    sqlx::query("-- name: test lock\nselect 1 from saga.instance where name = 'job' for update")
        .execute(&mut *lock)
        .await
        .expect("nobody else locks them");
    gate.add_permits(ROWS);
    let begun = Instant::now();
    let other = world.start::<Five>("beside", ()).await;
    assert_eq!(world.ended(other).await.status, "completed");
    assert!(begun.elapsed() < Duration::from_secs(1), "others go on: {:?}", begun.elapsed());
    // The pauses between a driver's tries grow to a second within two seconds. From then on each row is tried once a second, and those who
    // try at the same moment share their transactions: fewer than one for two rows, however fast or slow the machine is.
    let first = rate(&world.pool, Duration::from_secs(2)).await - quiet;
    let later = rate(&world.pool, Duration::from_secs(4)).await - quiet;
    println!("transactions a second: {quiet} quiet, then {first} and {later} more");
    let rows = ROWS as f64;
    assert!(first < 10.0 * rows, "{first} transactions a second more, while the pauses grow");
    assert!(later < 0.5 * rows, "{later} transactions a second more, for {ROWS} locked rows");

    lock.rollback().await.expect("the database is there");
    let freed = Instant::now();
    for id in ids {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    assert!(freed.elapsed() < Duration::from_secs(3), "tried every second: {:?}", freed.elapsed());
    worker.stop().await;
    world.close().await;
}

/// The first try comes soon: most locks are held for a moment only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_locked_for_a_moment_is_written_soon_after() {
    let world = World::new().await;
    let gate = world.provider.hold("work");
    let worker = world.worker(quick()).await;
    let id = world.start::<Job>("moment", Input::Work).await;
    world.asked("work", 1).await;
    let mut lock = world.pool.begin().await.expect("the database is there");
    sqlx::query("-- name: test lock\nselect 1 from saga.instance where name = 'job' for update")
        .execute(&mut *lock)
        .await
        .expect("nobody else locks it");
    gate.add_permits(1);
    eventually("a commit that misses", async || {
        // The driver has read the row again.
        sqlx::query_scalar(
            "-- name: test reads
            select exists (select from pg_stat_activity where datname = current_database() and query like '-- name: read instances%')",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    })
    .await;
    lock.rollback().await.expect("the database is there");
    let freed = Instant::now();
    assert_eq!(world.ended(id).await.status, "completed");
    assert!(freed.elapsed() < Duration::from_millis(500), "{:?}", freed.elapsed());
    worker.stop().await;
    world.close().await;
}

/// Claims leave out what is locked. While that is all that is due, they come ever more rarely.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_find_locked_rows_only_do_not_spin() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { poll: Duration::from_secs(1), ..quick() }).await;
    let over = Duration::from_secs(2);
    let quiet = rate(&world.pool, over).await;
    let mut lock = world.pool.begin().await.expect("the database is there");
    let mut ids = Vec::new();
    let mut tx = world.engine.begin().await.expect("the database is there");
    for n in 0..ROWS {
        let start = Start::new(format!("due {n}"), Input::Sleep);
        ids.push(world.engine.start::<Job>(&mut tx, start).await.expect("it can be started").id);
    }
    tx.commit().await.expect("the database is there");
    sqlx::query(
        "-- name: test due soon
        update saga.instance set wake_at = saga.now() + interval '200 ms' * (1 + random() * 8) where name = 'job'",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    sqlx::query("-- name: test lock\nselect 1 from saga.instance where name = 'job' for update")
        .execute(&mut *lock)
        .await
        .expect("nobody has claimed them");
    let locked = rate(&world.pool, over).await;
    assert!(locked < 10.0 * quiet, "{locked} transactions a second instead of {quiet}");
    lock.rollback().await.expect("the database is there");
    worker.stop().await;
    world.close().await;
}
