//! Pausing a saga: its instances stop at the next step boundary, everywhere, until it is resumed.

use std::time::{Duration, Instant};

use stepwise_engine::{Answer, PauseError, WorkerConfig};

use crate::{
    job::{Input, Job, Signal},
    plain::Five,
    world::{World, engine, eventually, quick, work_on},
};

async fn pause(world: &World, name: &str) -> bool {
    let mut tx = world.pool.begin().await.expect("the database is there");
    let first = world.engine.pause(&mut tx, name, "ada", "the provider is ill").await;
    tx.commit().await.expect("the database is there");
    first.expect("it is registered")
}

async fn resume(world: &World, name: &str) -> bool {
    let mut tx = world.pool.begin().await.expect("the database is there");
    let first = world.engine.resume(&mut tx, name, "bob").await;
    tx.commit().await.expect("the database is there");
    first.expect("it is registered")
}

#[tokio::test]
async fn a_paused_saga_stops_at_the_next_step_boundary_and_goes_on_when_it_is_resumed() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-2");
    let running = world.start::<Five>("running", ()).await;
    world.asked("do-2", 1).await;
    let waiting = world.start::<Job>("another saga", Input::Wait).await;
    assert!(pause(&world, "five").await);
    // The worker has seen it once it starts nothing of that saga any more.
    let mut late = Vec::new();
    eventually("the pause to be seen", async || {
        let id = world.start::<Five>(&format!("late {}", late.len()), ()).await;
        late.push(id);
        world.see(id).await.owner.is_none()
    })
    .await;
    gate.add_permits(1);
    let seen = world.until(running, "its release", |seen| seen.owner.is_none()).await;
    assert_eq!(
        (seen.status.as_str(), seen.waiting_on.as_deref(), seen.state.as_str(), seen.attempt),
        ("running", Some("worker"), "3", 0),
        "the attempt in flight was finished and written down: {seen:?}"
    );
    assert_eq!(world.signal::<Job>(waiting, "go", Signal::Go).await, Answer::Applied);
    assert_eq!(world.ended(waiting).await.status, "completed", "other sagas go on");
    let held = *late.last().expect("there is one");
    assert_eq!(world.see(held).await.state, "1", "starts go in and wait");
    assert!(world.provider.requests("do-3").iter().all(|r| !r.key.contains(&running.to_string())));

    assert!(resume(&world, "five").await);
    assert_eq!(world.ended(running).await.status, "completed");
    for id in late {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_pause_is_seen_by_a_worker_that_begins_later_and_within_a_second_by_one_that_polls() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig::default()).await;
    assert!(pause(&world, "job").await);
    assert!(!pause(&world, "job").await, "who paused it first, and why, stands");
    let elsewhere = engine(world.pool.clone(), &world.provider);
    let other = work_on(&elsewhere, quick()).await;
    let begun = Instant::now();
    eventually("the first worker to see it", async || {
        let id = world.start::<Job>(&format!("{:?}", begun.elapsed()), Input::Work).await;
        world.see(id).await.owner.is_none() && world.see(id).await.status == "running"
    })
    .await;
    assert!(begun.elapsed() < Duration::from_millis(1_200), "{:?}", begun.elapsed());
    let seen = world.engine.paused().await.expect("the database is there");
    assert_eq!(
        seen.iter().map(|p| [&p.name, &p.paused_by, &p.why]).collect::<Vec<_>>(),
        [["job", "ada", "the provider is ill"]]
    );
    // Due instances stay unclaimed by both, through many polls of the second.
    let held = world.start::<Job>("held", Input::Work).await;
    let signalled = world.start::<Job>("signalled", Input::Wait).await;
    assert_eq!(world.signal::<Job>(signalled, "go", Signal::Go).await, Answer::Applied);
    let asked = world.provider.requests("work").len();
    let free = world.start::<Five>("another saga", ()).await;
    assert_eq!(world.ended(free).await.status, "completed");
    assert_eq!(world.see(held).await.seq, 1);
    assert_eq!(world.provider.requests("work").len(), asked);

    assert!(resume(&world, "job").await);
    assert!(!resume(&world, "job").await);
    assert_eq!(world.ended(held).await.status, "completed");
    let past: (String, String, bool) = sqlx::query_as(
        "-- name: test past pauses\nselect paused_by, resumed_by, resumed_at >= paused_at from saga.kind_pause",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(past, ("ada".to_owned(), "bob".to_owned(), true), "it is remembered");
    worker.stop().await;
    other.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_saga_that_the_engine_does_not_know_cannot_be_paused() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let refused = world.engine.pause(&mut tx, "jobs", "ada", "a slip of the pen").await;
    assert!(matches!(refused, Err(PauseError::Unknown(name)) if name == "jobs"));
    drop(tx);
    world.close().await;
}
