//! A rolling deploy within one version: what a newer build wrote and an older one cannot read waits for the newer one, and not for a person.

use sqlx::AssertSqlSafe;
use stepwise_engine::{Answer, notice};
use uuid::Uuid;

use crate::{
    job::{Input, Job, Signal},
    world::{World, eventually, quick},
};

async fn execute(world: &World, statement: &str, id: Uuid) {
    let statement = format!("-- name: test change\n{statement}");
    sqlx::query(AssertSqlSafe(statement))
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
}

/// An instance in a state that only a newer build knows, which wrote it last.
async fn of_newer_build(world: &World) -> Uuid {
    let id = world.start::<Job>("newer", Input::Wait).await;
    let change =
        "update saga.instance set state = '\"Resting\"', build = build + 10 where saga_id = $1";
    execute(world, change, id).await;
    id
}

async fn told(world: &World) -> Vec<(notice::Kind, String)> {
    let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
    told.into_iter().map(|notice| (notice.kind, notice.why)).collect()
}

/// Fault: saga: a newer build has written what the living workers cannot read
/// Customer: that saga waits; all others go on
/// Operator: it waits on `version`, with a notice
/// Within: 1 s
/// Ends: by itself, within 5 s of the start of a worker that can read it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_build_wrote_waits_for_one_that_can_read_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = of_newer_build(&world).await;
    assert_eq!(world.signal::<Job>(id, "go", Signal::Go).await, Answer::Kept);
    let seen =
        world.until(id, "its mark", |seen| seen.waiting_on.as_deref() == Some("version")).await;
    assert_eq!((seen.status.as_str(), seen.owner), ("running", None));
    let why = "no worker can read what a newer build of version 1 of job wrote";
    assert_eq!(told(&world).await, [(notice::Kind::Version, why.to_owned())]);
    // A worker of that build comes: one that knows the state, and that no older one has tried before.
    let change = "update saga.instance set state = '\"Waiting\"', unread_by = unread_by - 1 where saga_id = $1";
    execute(&world, change, id).await;
    assert_eq!(world.ended(id).await.status, "completed", "it takes the kept signal");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_worker_of_the_newer_build_lives_nobody_is_told() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = of_newer_build(&world).await;
    execute(
        &world,
        "insert into saga.worker (worker_id, name, kinds, lease_until, build)
        select $1, 'newer', '[[\"job\", 1]]', clock_timestamp() + interval '1 hour', build + 10 from saga.worker",
        Uuid::now_v7(),
    )
    .await;
    world.signal::<Job>(id, "go", Signal::Go).await;
    eventually("the older one to leave it", async || {
        let unread = "-- name: test unread\nselect unread_by is not null and owner is null from saga.instance where saga_id = $1";
        sqlx::query_scalar(unread).bind(id).fetch_one(&world.pool).await.expect("it is there")
    })
    .await;
    // The older one looks for what nobody knows, and finds something else.
    let strange = world.start::<Job>("strange", Input::Wait).await;
    let change = "update saga.instance set name = 'strange', waiting_on = 'worker', wake_at = saga.now() where saga_id = $1";
    execute(&world, change, strange).await;
    world.until(strange, "its mark", |seen| seen.waiting_on.as_deref() == Some("version")).await;
    let seen = world.see(id).await;
    assert_eq!(seen.waiting_on.as_deref(), Some("worker"), "whoever can read it claims it");
    assert!(told(&world).await.iter().all(|(_, why)| why.ends_with("of strange")));
    worker.stop().await;
    world.close().await;
}
