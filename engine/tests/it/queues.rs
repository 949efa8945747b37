//! Queues: who waits its turn is driven when a quota lets it, never before, and never not at all.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use stepwise_engine::{
    Answer, Priority, Quota, Scope, Start,
    testing::{Clock, Seed},
};
use uuid::Uuid;

use crate::{
    job::{Input, Job, Signal},
    world::{Mortal, PATIENCE, World, eventually, quick},
};

async fn quota(world: &World, scope: Scope<'_>, quota: Quota) {
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.set_quota(&mut tx, "job", scope, quota).await.expect("it is allowed");
    tx.commit().await.expect("the database is there");
}

async fn queue(world: &World, subject: &str, key: &str, input: Input) -> Uuid {
    world.start_with::<Job>(Start::new(subject, input).queued(key)).await
}

/// The instances that were admitted and have not ended.
async fn admitted(world: &World) -> HashSet<Uuid> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "-- name: test admitted
        select saga_id from saga.instance where queue_key is not null and not queued and ended_at is null",
    )
    .fetch_all(&world.pool)
    .await
    .expect("the database is there");
    ids.into_iter().collect()
}

async fn is_queued(world: &World, id: Uuid) -> bool {
    sqlx::query_scalar("-- name: test queued\nselect queued from saga.instance where saga_id = $1")
        .bind(id)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
}

/// Waits for so many to be admitted, and for rounds that admit no more.
async fn admitted_are(world: &World, count: usize) -> HashSet<Uuid> {
    eventually(&format!("{count} admitted"), async || admitted(world).await.len() >= count).await;
    let until = Instant::now() + 3 * quick().poll;
    eventually("three rounds", async || Instant::now() > until).await;
    let now = admitted(world).await;
    assert_eq!(now.len(), count, "not one more");
    now
}

#[tokio::test]
async fn at_most_so_many_of_a_key_run_at_once_whatever_they_wait_for() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    quota(&world, Scope::EachKey, Quota::at_once(2)).await;
    quota(&world, Scope::Key("wide"), Quota::at_once(3)).await;
    let mut ids = Vec::new();
    for key in ["narrow", "wide"] {
        for n in 0..5 {
            ids.push(queue(&world, &format!("{key} {n}"), key, Input::Wait).await);
        }
    }
    let free = world.start::<Job>("in no queue", Input::Work).await;
    assert_eq!(world.ended(free).await.status, "completed");
    let first = admitted_are(&world, 5).await;
    let oldest: HashSet<Uuid> = [0, 1, 5, 6, 7].map(|n| ids[n]).into();
    assert_eq!(first, oldest, "the oldest of each key");
    assert_eq!(world.signal::<Job>(ids[0], "go", Signal::Go).await, Answer::Applied);
    let begun = Instant::now();
    eventually("the next one's turn", async || !is_queued(&world, ids[2]).await).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    quota(&world, Scope::EachKey, Quota::default()).await;
    quota(&world, Scope::Key("wide"), Quota::default()).await;
    eventually("all of them, without a quota", async || admitted(&world).await.len() == 9).await;
    for id in &ids[1..] {
        world.signal::<Job>(*id, "go", Signal::Go).await;
    }
    for id in &ids {
        assert_eq!(world.ended(*id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_quota_of_a_saga_holds_for_all_its_keys_together() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    quota(&world, Scope::Saga, Quota::at_once(4)).await;
    quota(&world, Scope::EachKey, Quota::at_once(2)).await;
    for n in 0..9 {
        queue(&world, &format!("{n}"), ["a", "b", "c"][n % 3], Input::Wait).await;
    }
    let now = admitted_are(&world, 4).await;
    let keys: Vec<i64> = sqlx::query_scalar(
        "-- name: test keys\nselect count(*) from saga.instance where saga_id = any($1) group by queue_key",
    )
    .bind(now.into_iter().collect::<Vec<_>>())
    .fetch_all(&world.pool)
    .await
    .expect("the database is there");
    assert!(keys.iter().all(|count| *count <= 2), "{keys:?}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_rate_lets_so_many_start_per_period_of_business_time() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let minute = Duration::from_secs(60);
    quota(&world, Scope::EachKey, Quota::rate(3, minute)).await;
    for n in 0..12 {
        queue(&world, &format!("a {n}"), "a", Input::Wait).await;
    }
    admitted_are(&world, 3).await;
    let clock = Clock::of(&world.pool);
    clock.advance(minute / 3).await;
    admitted_are(&world, 4).await;
    clock.advance(10 * minute).await;
    admitted_are(&world, 7).await;
    quota(&world, Scope::Saga, Quota::rate(1, minute)).await;
    clock.advance(10 * minute).await;
    admitted_are(&world, 8).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_queued_instance_that_unwinds_leaves_the_queue_and_one_that_is_told_something_stays() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    quota(&world, Scope::EachKey, Quota::at_once(0)).await;
    let cancelled = queue(&world, "cancelled", "k", Input::Work).await;
    let told = queue(&world, "told", "k", Input::Wait).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.cancel(&mut tx, cancelled, "not wanted").await.expect("it is there");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(cancelled).await.status, "unwound");
    assert!(!is_queued(&world, cancelled).await);
    assert!(world.provider.operations().is_empty(), "nothing was ever begun");
    assert_eq!(world.signal::<Job>(told, "go", Signal::Go).await, Answer::Applied);
    assert_eq!(world.ended(told).await.status, "completed", "an end needs no turn");
    let charged = queue(&world, "charged", "k", Input::Charge).await;
    assert_eq!(world.signal::<Job>(charged, "go", Signal::Go).await, Answer::Refused);
    let seen = world.see(charged).await;
    assert_eq!((seen.waiting_on.as_deref(), seen.seq), (Some("worker"), 2));
    assert!(is_queued(&world, charged).await, "a signal is no turn");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_higher_priority_goes_first_and_a_lower_one_is_not_starved() {
    let world = World::new().await;
    quota(&world, Scope::EachKey, Quota::at_once(1)).await;
    let of =
        |priority, subject: &str| Start::new(subject, Input::Wait).queued("k").priority(priority);
    let low = world.start_with::<Job>(of(Priority::Low, "low")).await;
    let normal = world.start_with::<Job>(of(Priority::Normal, "normal")).await;
    let old = world.start_with::<Job>(of(Priority::Low, "old")).await;
    let high = world.start_with::<Job>(of(Priority::High, "high")).await;
    // It has waited for longer than its class is behind.
    sqlx::query(
        "-- name: test ages
        update saga.instance set created_at = created_at - interval '121 seconds' where saga_id = $1",
    )
    .bind(old)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let worker = world.worker(quick()).await;
    for id in [old, high, normal, low] {
        eventually("a turn", async || !is_queued(&world, id).await).await;
        assert_eq!(admitted(&world).await, HashSet::from([id]));
        world.signal::<Job>(id, "go", Signal::Go).await;
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn nobody_of_a_paused_saga_is_admitted() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.pause(&mut tx, "job", "ada", "a test").await.expect("it is registered");
    tx.commit().await.expect("the database is there");
    let worker = world.worker(quick()).await;
    let id = queue(&world, "held", "k", Input::Work).await;
    admitted_are(&world, 0).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.resume(&mut tx, "job", "ada").await.expect("it is registered");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_at_once_three_workers_exclude_each_other_even_when_they_die() {
    let world = World::new().await;
    quota(&world, Scope::EachKey, Quota::at_once(1)).await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(queue(&world, &format!("{n}"), &format!("key {}", n % 3), Input::Work).await);
    }
    let mut random = Seed::new().rng();
    let mut mortal =
        |name: usize| Mortal::new(&world, &format!("mortal {name}"), random.random_range(10..40));
    let mut workers = [0, 1, 2].map(&mut mortal);
    let (begun, mut deaths) = (Instant::now(), 0);
    loop {
        let overlaps: Vec<(String, i64)> = sqlx::query_as(
            "-- name: test overlaps
            select queue_key, count(*) from saga.instance
            where queue_key is not null and not queued and ended_at is null group by 1 having count(*) > 1",
        )
        .fetch_all(&world.pool)
        .await
        .expect("the database is there");
        assert_eq!(overlaps, [], "never two of a key");
        let open: i64 = sqlx::query_scalar(
            "-- name: test open\nselect count(*) from saga.instance where ended_at is null",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
        if open == 0 {
            break;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "{open} are open yet");
        for (name, worker) in workers.iter_mut().enumerate() {
            if worker.is_dead() {
                std::mem::replace(worker, mortal(name)).kill();
                deaths += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{deaths} deaths, done after {:?}", begun.elapsed());
    assert!(deaths >= 5, "a run without deaths proves nothing");
    for id in &ids {
        assert_eq!(world.see(*id).await.status, "completed");
    }
    // By the journal: of a key, the next is called after the end of the one before.
    let interleaved: i64 = sqlx::query_scalar(
        "-- name: test interleaved
        with ran as (
            select i.queue_key, i.saga_id, min(j.started_at) as begun, i.ended_at
            from saga.instance i join saga.journal j using (shard, saga_id) where j.kind = 'outcome' group by 1, 2, 4
        )
        select count(*) from ran a join ran b on a.queue_key = b.queue_key and a.saga_id < b.saga_id
        where b.begun < a.ended_at and a.begun < b.ended_at",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(interleaved, 0);
    workers.into_iter().for_each(Mortal::kill);
    world.close().await;
}
