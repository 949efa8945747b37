//! The journal's partitions are made while nobody waits for them.

use sqlx::AssertSqlSafe;
use stepwise_engine::{Start, StartError, database::Failure};

use crate::{
    plain::Five,
    world::{World, eventually, quick},
};

/// The name of the partition of a day, so many days from today.
async fn partition(world: &World, days: i32) -> String {
    sqlx::query_scalar(
        "-- name: test partition
        select format('journal_%s', to_char((clock_timestamp() at time zone 'UTC')::date + $1, 'YYYYMMDD'))",
    )
    .bind(days)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

async fn run(world: &World, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&world.pool).await.expect(&statement);
}

/// How many rows a partition holds; `None`: there is none.
async fn rows(world: &World, partition: &str) -> Option<i64> {
    let count = format!("-- name: test rows\nselect count(*) from saga.{partition}");
    match sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&world.pool).await {
        Ok(rows) => Some(rows),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => None,
        Err(error) => panic!("the database is there: {error}"),
    }
}

#[tokio::test]
async fn a_reader_of_the_whole_journal_stops_neither_a_start_nor_commits_nor_leases() {
    let world = World::new().await;
    let last = partition(&world, 7).await;
    run(&world, format!("drop table saga.{last}")).await;
    let mut reading = world.pool.begin().await.expect("the database is there");
    sqlx::raw_sql("-- name: test read\nlock table saga.journal in access share mode")
        .execute(&mut *reading)
        .await
        .expect("nobody else has locked it");
    let worker = world.worker(quick()).await;
    for n in 0..10 {
        let id = world.start::<Five>(&format!("read {n}"), ()).await;
        assert_eq!(world.ended(id).await.status, "completed");
    }
    let lease = async || -> f64 {
        sqlx::query_scalar("-- name: test lease\nselect extract(epoch from max(lease_until))::float8 from saga.worker")
            .fetch_one(&world.pool)
            .await
            .expect("the database is there")
    };
    let before = lease().await;
    eventually("the lease to be renewed", async || lease().await > before).await;
    assert_eq!(rows(&world, &last).await, None, "it cannot be attached yet");
    reading.rollback().await.expect("ours");
    eventually("the partition", async || rows(&world, &last).await.is_some()).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn rows_of_the_default_partition_end_in_the_partition_of_their_day() {
    let world = World::new().await;
    let (today, later) = (partition(&world, 0).await, partition(&world, 30).await);
    // As after a week without any worker: no partition for today.
    run(&world, format!("drop table saga.{today}")).await;
    let id = world.start::<Five>("astray", ()).await;
    run(
        &world,
        "insert into saga.journal (shard, saga_id, seq, at, kind, epoch)
         values (0, gen_random_uuid(), 1, clock_timestamp() + interval '30 days', 'start', 1)"
            .to_owned(),
    )
    .await;
    assert_eq!(rows(&world, "journal_default").await, Some(2));
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    eventually("the default partition to be empty", async || {
        rows(&world, "journal_default").await == Some(0)
    })
    .await;
    assert!(rows(&world, &today).await.expect("it was made") >= 2, "with what came meanwhile");
    assert_eq!(rows(&world, &later).await, Some(1));
    let parts: i64 = sqlx::query_scalar(
        "-- name: test attached\nselect count(*) from pg_inherits where inhparent = 'saga.journal'::regclass",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(parts, 1 + 8 + 1, "the default, a week, a day in a month");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_default_partition_with_too_many_rows_is_left_and_a_release_before_this_one_starts() {
    let world = World::new().await;
    let last = partition(&world, 7).await;
    run(&world, format!("drop table saga.{last}")).await;
    run(
        &world,
        "insert into saga.journal (shard, saga_id, seq, at, kind, epoch)
         select 0, gen_random_uuid(), 1, clock_timestamp() + interval '30 days', 'start', 1
         from generate_series(1, 20001)"
            .to_owned(),
    )
    .await;
    let made: i32 = sqlx::query_scalar("-- name: test old release\nselect saga.extend_journal(7)")
        .fetch_one(&world.pool)
        .await
        .expect("it does not fail");
    assert_eq!((made, rows(&world, &last).await), (0, None));
    let worker = world.worker(quick()).await;
    let id = world.start::<Five>("full", ()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    run(&world, "truncate saga.journal_default".to_owned()).await;
    worker.stop().await;
    let worker = world.worker(quick()).await;
    eventually("the partition", async || rows(&world, &last).await.is_some()).await;
    worker.stop().await;
    world.close().await;
}

/// Makes today's partition in a transaction that the caller ends. A row of today that is written meanwhile waits for the default partition.
async fn make_today(world: &World) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut making = world.pool.begin().await.expect("the database is there");
    let made: String = sqlx::query_scalar(
        "-- name: test make
        select saga.make_journal_partition((clock_timestamp() at time zone 'UTC')::date)",
    )
    .fetch_one(&mut *making)
    .await
    .expect("nobody else makes one");
    assert_eq!(made, "made");
    making
}

/// Waits until a statement of that name waits for the default partition.
async fn waits_for_default(world: &World, name: &str) {
    eventually(&format!("{name} to wait for the default partition"), async || {
        let waiting: i64 = sqlx::query_scalar(
            "-- name: test waiting
            select count(*) from pg_locks l join pg_stat_activity a using (pid)
            where not l.granted and l.relation = 'saga.journal_default'::regclass and starts_with(a.query, '-- name: ' || $1)",
        )
        .bind(name)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
        waiting > 0
    })
    .await;
}

/// Postgres refuses to write a row into the default partition once another partition should hold it.
#[tokio::test]
async fn a_commit_that_waits_while_the_partition_of_its_rows_is_attached_is_written_again() {
    let world = World::new().await;
    let today = partition(&world, 0).await;
    run(&world, format!("drop table saga.{today}")).await;
    let id = world.start::<Five>("waits", ()).await;
    let making = make_today(&world).await;
    let worker = world.worker(quick()).await;
    waits_for_default(&world, "commit transitions").await;
    making.commit().await.expect("ours");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_start_that_waits_while_the_partition_of_its_rows_is_attached_may_be_run_again() {
    let world = World::new().await;
    let today = partition(&world, 0).await;
    run(&world, format!("drop table saga.{today}")).await;
    let making = make_today(&world).await;
    let starting = async {
        let mut tx = world.engine.begin().await.expect("the database is there");
        let start = Start::new("waits", ());
        world.engine.start::<Five>(&mut tx, start).await.map(|started| started.id)
    };
    let ending = async {
        waits_for_default(&world, "start instances").await;
        making.commit().await.expect("ours");
    };
    let (started, ()) = tokio::join!(starting, ending);
    let Err(StartError::Database(refused)) = started else {
        panic!("it waited in vain: {started:?}");
    };
    assert!(Failure::of(&refused) == Failure::LostRace, "{refused:?}");
    world.start::<Five>("waits", ()).await;
    world.close().await;
}
