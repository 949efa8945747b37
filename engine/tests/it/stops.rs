//! Processes that stop, connections that break, notes that get lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, postgres::PgPoolOptions};
use stepwise_engine::{Start, WorkerConfig};
use tokio::sync::Semaphore;

use crate::{
    order::{Input, Order},
    plain::Five,
    provider::Behaviour,
    world::{World, engine, eventually, quick},
};

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_in_flight_and_releases_the_rest_without_using_up_attempts()
 {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Behaviour::Held(gate.clone(), Box::new(Behaviour::Acts));
    world.provider.script("do-2", vec![held; 20]);
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(world.start::<Five>(&format!("stop {n}"), ()).await);
    }
    world.asked("do-2", 20).await;
    let stopping = tokio::spawn(worker.stop());
    eventually("the worker to take nothing more", async || world.engine.room() == 0).await;
    gate.add_permits(20);
    stopping.await.expect("it stops in time");
    for id in &ids {
        let seen = world.see(*id).await;
        assert_eq!(
            (seen.status.as_str(), seen.owner, seen.attempt, seen.waiting_on.as_deref()),
            ("running", None, 0, Some("worker")),
            "{seen:?}"
        );
        assert_eq!(seen.state, "3", "the attempt in flight was finished and written down");
    }
    assert!(world.provider.requests("do-3").is_empty(), "nothing new was begun");
    let worker = world.worker(quick()).await;
    for id in &ids {
        assert_eq!(world.ended(*id).await.status, "completed");
    }
    assert!(!world.provider.operations().iter().any(|op| op.starts_with("probe")), "no suspicion");
    assert_eq!(world.provider.operations().len(), 100, "each step was called once");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_start_in_a_transaction_that_outlives_its_worker_is_found_by_the_next() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    let started = world
        .engine
        .start::<Five>(&mut tx, Start::new("outlives", ()))
        .await
        .expect("it can be started");
    worker.stop().await;
    tx.commit().await.expect("the database is there");
    let id = started.id;
    assert!(world.see(id).await.owner.is_some(), "it names the worker that has gone");
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_instances_end_exactly_once_while_backends_are_terminated_20_times_a_second() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { lease: Duration::from_secs(10), ..quick() }).await;
    let mut admin =
        PgConnection::connect_with(&world.db.options()).await.expect("the database is there");
    let mut ids = Vec::new();
    for batch in 0..10 {
        // A start whose answer was lost is told by its subject, as a command would do by its key.
        let subjects = (0..50).map(|n| format!("{batch}-{n}")).collect::<Vec<_>>();
        loop {
            let born: Option<Vec<_>> = async {
                let mut tx = world.engine.begin().await.ok()?;
                let starts = subjects
                    .iter()
                    .map(|order| {
                        let input = Input { order: order.clone(), notify: true };
                        Start::new(order.clone(), input)
                    })
                    .collect();
                let started = world.engine.start_many::<Order>(&mut tx, starts).await.ok()?;
                tx.commit().await.ok()?;
                Some(started)
            }
            .await;
            terminate_one(&mut admin).await;
            if let Some(started) = born {
                ids.extend(started.iter().map(|started| started.id));
                break;
            }
            let there: i64 = sqlx::query_scalar(
                "-- name: test there\nselect count(*) from saga.instance where subject = $1",
            )
            .bind(&subjects[0])
            .fetch_one(&mut admin)
            .await
            .expect("this session is spared");
            assert_eq!(there, 0, "all or nothing, and here nothing");
        }
    }
    let begun = Instant::now();
    let mut terminated = 0;
    loop {
        let open: i64 = sqlx::query_scalar(
            "-- name: test open\nselect count(*) from saga.instance where status <> 'completed'",
        )
        .fetch_one(&mut admin)
        .await
        .expect("this session is spared");
        if open == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{open} are open yet");
        if begun.elapsed() < Duration::from_secs(3) {
            terminated += terminate_one(&mut admin).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("{terminated} backends terminated, done after {:?}", begun.elapsed());
    assert_eq!(ids.len(), 500);
    let lines = world.provider.lines();
    for op in ["create", "confirm", "notify"] {
        assert_eq!(lines.iter().filter(|line| line.op == op).count(), 500, "{op}");
    }
    assert_eq!(world.provider.live().len(), 500);
    let (reserved, placed): (i32, i64) = sqlx::query_as(
        "-- name: test stock
        select reserved, (select count(*) from test.orders where status = 'placed') from test.stock",
    )
    .fetch_one(&mut admin)
    .await
    .expect("this session is spared");
    assert_eq!((reserved, placed), (500, 500));
    let twice: i64 = sqlx::query_scalar(
        "-- name: test twice
        select count(*) from (select from saga.journal where kind in ('outcome', 'tx')
            group by saga_id, step_no, kind having count(*) > 1) t",
    )
    .fetch_one(&mut admin)
    .await
    .expect("this session is spared");
    assert_eq!(twice, 0, "one outcome a step");
    worker.stop().await;
    world.close().await;
}

/// Ends one session of the engine, any.
async fn terminate_one(admin: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "-- name: test terminate
        select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() order by random() limit 1) one",
    )
    .fetch_one(admin)
    .await
    .expect("this session is spared")
}

#[tokio::test]
async fn without_notifications_polling_finds_work_within_about_a_second() {
    let world = World::new().await;
    let config = WorkerConfig { poll: Duration::from_secs(1), ..quick() };
    let worker = world.worker(config).await;
    // A process whose notes go nowhere.
    sqlx::raw_sql(
        "-- name: test mute
        create schema mute;
        create function mute.pg_notify(text, text) returns void language sql as 'select null::void';",
    )
    .execute(&world.pool)
    .await
    .expect("the schema is new");
    let mute = world.db.options().options([("search_path", "mute,pg_catalog")]);
    let mute = PgPoolOptions::new().connect_lazy_with(mute);
    let elsewhere = engine(mute.clone(), &world.provider);
    for n in 0..3 {
        let mut tx = elsewhere.begin().await.expect("the database is there");
        let started = elsewhere
            .start::<Five>(&mut tx, Start::new(format!("unheard {n}"), ()))
            .await
            .expect("it can be started");
        tx.commit().await.expect("the database is there");
        let (id, begun) = (started.id, Instant::now());
        assert_eq!(world.ended(id).await.status, "completed");
        assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    }
    mute.close().await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_worker_whose_lease_row_is_gone_is_followed_by_another_one() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let first = workers(&world).await;
    sqlx::query("-- name: test forget\ndelete from saga.worker")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    eventually("another worker", async || {
        let now = workers(&world).await;
        now.len() == 1 && now != first
    })
    .await;
    eventually("room", async || world.engine.room() > 0).await;
    let id = world.start::<Five>("second worker", ()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

async fn workers(world: &World) -> Vec<uuid::Uuid> {
    sqlx::query_scalar("-- name: test workers\nselect worker_id from saga.worker")
        .fetch_all(&world.pool)
        .await
        .expect("the database is there")
}

#[tokio::test]
async fn a_slow_step_longer_than_the_lease_is_not_taken_over_while_its_process_lives() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { lease: Duration::from_millis(600), ..quick() }).await;
    let second = engine(world.pool.clone(), &world.provider);
    let other = crate::world::work_on(&second, quick()).await;
    let gate = world.provider.hold("do-2");
    let id = world.start::<Five>("slow", ()).await;
    world.asked("do-2", 1).await;
    let until = Instant::now() + Duration::from_millis(1_800);
    eventually("three leases to pass", async || Instant::now() > until).await;
    gate.add_permits(1);
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.epoch), ("completed", 1), "nobody took it over");
    worker.stop().await;
    other.stop().await;
    world.close().await;
}
