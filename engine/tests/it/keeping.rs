//! How instances are kept: durable step by step, cheap to update, never forgotten.

use sqlx::{Connection as _, PgConnection};
use stepwise_engine::Start;

use crate::{
    plain::Five,
    world::{World, eventually, quick},
};

/// Runs so many instances to their end, `together` at a time.
async fn run_many(world: &World, count: usize, together: usize) {
    for batch in 0..count.div_ceil(together) {
        let mut tx = world.engine.begin().await.expect("the database is there");
        let starts = (0..together).map(|n| Start::new(format!("{batch}-{n}"), ())).collect();
        let started =
            world.engine.start_many::<Five>(&mut tx, starts).await.expect("they can be started");
        let mut ends = started.iter().map(|one| world.engine.watch(one.id)).collect::<Vec<_>>();
        tx.commit().await.expect("the database is there");
        for end in &mut ends {
            end.changed().await.expect("the engine is there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_five_outcomes_of_an_instance_come_from_five_commits() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    run_many(&world, 100, 100).await;
    let (rows, commits, shared): (i64, i64, i64) = sqlx::query_as(
        "-- name: test commits
        select count(*), count(distinct (saga_id, xmin::text)), count(distinct xmin::text)
        from saga.journal where kind = 'outcome'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!((rows, commits), (500, 500));
    assert!(shared < 500, "and instances share commits: {shared}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_heap_only_updates_and_nothing_scans_the_instances() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // One by one: of a page's instances that move at once not all find room on it, the fewer the busier the machine is.
    run_many(&world, 100, 1).await;
    worker.stop().await;
    let World { db, pool, engine, .. } = world;
    drop(engine);
    // Sessions report their statistics when they end.
    pool.close().await;
    let mut admin = PgConnection::connect_with(&db.options()).await.expect("the database is there");
    let mut seen = (0, 0, 0);
    eventually("the statistics", async || {
        seen = sqlx::query_as(
            "-- name: test statistics
            select n_tup_upd, n_tup_hot_upd, seq_scan from pg_stat_user_tables
            where schemaname = 'saga' and relname = 'instance'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("the database is there");
        seen.0 >= 500
    })
    .await;
    let (updates, hot, scans): (i64, i64, i64) = seen;
    // Four of five commits change no indexed column; the fifth, the end, does: 80%. One step in five that
    // changed an indexed column would make it 60%, an index of what each changes 0.
    assert!(hot * 100 >= updates * 78, "{hot} of {updates} updates are heap-only");
    assert_eq!(scans, 0, "claims, commits and sweeps go by an index");
    let written: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "-- name: test rows written
        select regexp_replace(relname, '_[0-9]{8}$', ''), n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables
        where schemaname = 'saga' and n_tup_ins + n_tup_upd + n_tup_del > 0
            and relname not in ('_migrations', 'worker', 'clock', 'outbox_shard', 'outbox_sleep', 'outbox_relay', 'broker_topology', 'notice_place')
        order by 1",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the database is there");
    // A start, five steps and their effects; nothing for what these instances do not use.
    let of = |table: &str, inserted, updated| (table.to_owned(), inserted, updated, 0);
    let expected = [of("effect", 500, 500), of("instance", 100, 500), of("journal", 600, 0)];
    assert_eq!(written, expected);
    admin.close().await.expect("it ends");
    db.close().await;
}

#[tokio::test]
async fn the_database_refuses_an_open_instance_that_nothing_would_wake() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-1");
    let id = world.start::<Five>("asleep", ()).await;
    world.asked("do-1", 1).await;
    for (forget, why) in [
        (
            "-- name: test forget owner\nupdate saga.instance set owner = null where saga_id = $1",
            "no owner",
        ),
        (
            "-- name: test forget all\nupdate saga.instance set owner = null, waiting_on = null where saga_id = $1",
            "waits for nothing",
        ),
        (
            "-- name: test forget retry\nupdate saga.instance set owner = null, waiting_on = 'retry' where saga_id = $1",
            "a retry without a time",
        ),
        (
            "-- name: test keep owner\nupdate saga.instance set status = 'stuck', waiting_on = 'operator' where saga_id = $1",
            "a person's, but owned",
        ),
        (
            "-- name: test end owned\nupdate saga.instance set status = 'completed' where saga_id = $1",
            "ended, but waiting",
        ),
    ] {
        let refused = sqlx::query(forget).bind(id).execute(&world.pool).await;
        let error = refused.expect_err(why);
        let constraint = error.as_database_error().and_then(|e| e.constraint()).map(str::to_owned);
        assert_eq!(constraint.as_deref(), Some("an_open_instance_has_a_reason_to_wake"), "{why}");
    }
    gate.add_permits(1);
    world.ended(id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_instance_of_an_unknown_kind_is_left_alone_and_does_not_make_the_claimer_spin() {
    let world = World::new().await;
    let id = world.start::<Five>("newer", ()).await;
    sqlx::query("-- name: test newer\nupdate saga.instance set version = 2 where saga_id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let worker = world.worker(quick()).await;
    let known = world.start::<Five>("known", ()).await;
    assert_eq!(world.ended(known).await.status, "completed");
    let before = commits(&world).await;
    // Sessions tell their statistics once a second.
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    let spun = commits(&world).await - before;
    assert!(spun < 300, "{spun} transactions in two seconds of nothing to do");
    assert_eq!(world.see(id).await.status, "running");
    assert_eq!(world.see(id).await.epoch, 1, "nobody claimed it");
    worker.stop().await;
    world.close().await;
}

/// Transactions of this database so far, as far as its sessions have told.
async fn commits(world: &World) -> i64 {
    sqlx::query_scalar(
        "-- name: test transactions
        select xact_commit from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}
