//! Due instances are found wherever their index entry stands, and found cheaply whatever stands before it.

use std::time::{Duration, Instant};

use stepwise_engine::{Engine, Start};

use crate::{
    job::{Input, Job},
    plain::Five,
    world::{World, engine, eventually, quick},
};

/// Started where nobody drives it: it is claimed, and ends.
async fn ends_claimed(world: &World, elsewhere: &Engine, n: usize) {
    let mut tx = elsewhere.begin().await.expect("the database is there");
    let started = elsewhere.start::<Five>(&mut tx, Start::new(format!("{n}"), ())).await;
    let id = started.expect("it can be started").id;
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
}

#[tokio::test]
async fn what_becomes_due_behind_what_was_claimed_is_found_within_about_a_second() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = world.start::<Job>("behind", Input::Sleep).await;
    // Others come after it: what was claimed last is of this moment.
    let elsewhere = engine(world.pool.clone(), &world.provider);
    for n in 0..3 {
        ends_claimed(&world, &elsewhere, n).await;
    }
    // As if a transaction of an hour had written it, without a note.
    let begun = Instant::now();
    sqlx::query(
        "-- name: test due long ago
        update saga.instance set wake_at = now() - interval '1 hour', timer_at = now() - interval '1 hour' where saga_id = $1",
    )
    .bind(id)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    worker.stop().await;
    world.close().await;
}

/// The use of the index of due instances: (scans, entries read).
async fn looked_at(world: &World) -> (i64, i64) {
    sqlx::query_as(
        "-- name: test looked at
        select idx_scan, idx_tup_read from pg_stat_user_indexes where indexrelname = 'instance_due'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

/// 9,000 of the saga `job` are due since an hour.
async fn backlog(world: &World) {
    sqlx::query(
        "-- name: test backlog
        insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq,
            wake_at, created_at, updated_at)
        select n % 64, gen_random_uuid(), 'job', 1, n, 'running', 'worker', '\"Working\"', '\"nothing\"', '[]', 1, 1,
            now() - interval '1 hour', now(), now()
        from generate_series(1, 9000) n",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
}

/// Many claims read few entries of the index, of the 9,000 before what they look for.
async fn claims_are_cheap(world: &World) {
    let worker = world.worker(quick()).await;
    let elsewhere = engine(world.pool.clone(), &world.provider);
    for n in 0..80 {
        ends_claimed(world, &elsewhere, n).await;
    }
    let mut looked = (0, 0);
    eventually("the counters to be told", async || {
        looked = looked_at(world).await;
        looked.0 > 200
    })
    .await;
    let (scans, read) = looked;
    println!("{scans} scans read {read} entries");
    assert!(read / scans < 500, "{scans} scans read {read} entries");
    worker.stop().await;
}

#[tokio::test]
async fn what_is_due_of_a_paused_saga_does_not_stand_in_the_way_of_the_others() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.pause(&mut tx, "job", "ada", "the provider is ill").await.expect("registered");
    tx.commit().await.expect("the database is there");
    backlog(&world).await;
    claims_are_cheap(&world).await;
    world.close().await;
}

#[tokio::test]
async fn what_was_claimed_and_cannot_be_vacuumed_does_not_stand_in_the_way_of_what_is_due() {
    let world = World::new().await;
    backlog(&world).await;
    let mut old = world.pool.begin().await.expect("the database is there");
    sqlx::raw_sql("set transaction isolation level repeatable read; select from saga.clock")
        .execute(&mut *old)
        .await
        .expect("a snapshot that sees all of them due");
    sqlx::query(
        "-- name: test due no more\nupdate saga.instance set wake_at = null, waiting_on = 'signal'",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    claims_are_cheap(&world).await;
    old.rollback().await.expect("it was only read");
    world.close().await;
}
