//! Signals to all about a subject, what an instance remembers, starts that may be repeated, and who is claimed first.

use stepwise_engine::{Answer, Once, Priority, Start, Status};
use uuid::Uuid;

use crate::{
    counter::{Counter, Signal, State},
    plain::{At, Five},
    world::{World, quick},
};

#[tokio::test]
async fn a_signal_reaches_every_open_instance_about_a_subject_once() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut ids = Vec::new();
    let mut tx = world.engine.begin().await.expect("the database is there");
    for key in ["a", "b", "c"] {
        let start = Start::new("meter", 0).key(key);
        ids.push(world.engine.start::<Counter>(&mut tx, start).await.expect("it starts").id);
    }
    let other = world.engine.start::<Counter>(&mut tx, Start::new("other", 0)).await;
    let other = other.expect("it starts").id;
    tx.commit().await.expect("the database is there");
    for expected in [Answer::Applied, Answer::Duplicate] {
        let mut tx = world.pool.begin().await.expect("the database is there");
        let answers =
            world.engine.signal_all::<Counter>(&mut tx, "meter", "tick", Signal::Counted).await;
        tx.commit().await.expect("the database is there");
        let answers = answers.expect("they can be signalled");
        assert_eq!(answers, ids.iter().map(|id| (*id, expected)).collect::<Vec<_>>());
    }
    for (id, since) in ids.iter().map(|id| (*id, 1)).chain([(other, 0)]) {
        let state = world.engine.state::<Counter>(id).await.expect("it can be read");
        assert_eq!(state, Some((Status::Running, State::Counting { before: 0, since })));
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_an_instance_remembers_is_told_also_after_its_end_and_only_of_its_own_saga() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = world.start::<Five>("one", ()).await;
    world.ended(id).await;
    let state = world.engine.state::<Five>(id).await.expect("it can be read");
    assert_eq!(state, Some((Status::Completed, At(6))));
    assert_eq!(world.engine.state::<Counter>(id).await.expect("it can be asked"), None);
    assert_eq!(world.engine.state::<Five>(Uuid::nil()).await.expect("it can be asked"), None);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn of_starts_that_are_repeated_at_the_same_time_and_after_the_end_there_is_one() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let start = async || {
        let mut tx = world.engine.begin().await.expect("the database is there");
        let once = world.engine.start_once::<Five>(&mut tx, Start::new("one", ())).await;
        tx.commit().await.expect("the database is there");
        match once.expect("it can be started") {
            Once::Now(started) => {
                let id = started.id;
                (true, id)
            }
            Once::Before(id) => (false, id),
        }
    };
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    let all = [a, b, c, d];
    assert_eq!(all.iter().filter(|(started, _)| *started).count(), 1, "{all:?}");
    assert!(all.iter().all(|(_, id)| *id == a.1), "{all:?}");
    assert_eq!(world.ended(a.1).await.status, "completed");
    assert_eq!(start().await, (false, a.1));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_is_urgent_overtakes_a_backlog_and_what_is_not_is_not_starved() {
    let world = World::new().await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    // Due for longer than a class is ahead of the next.
    let old =
        world.engine.start::<Five>(&mut tx, Start::new("old", ()).priority(Priority::Low)).await;
    let old = old.expect("it starts").id;
    let starts = (0..40).map(|n| Start::new(format!("normal-{n}"), ())).collect();
    world.engine.start_many::<Five>(&mut tx, starts).await.expect("they start");
    let urgent = Start::new("urgent", ()).priority(Priority::High);
    let urgent = world.engine.start::<Five>(&mut tx, urgent).await.expect("it starts").id;
    tx.commit().await.expect("the database is there");
    sqlx::query(
        "-- name: test age
        update saga.instance set wake_at = wake_at - 3 * $2 * interval '1 second' where saga_id = $1",
    )
    .bind(old)
    .bind(i32::try_from(Priority::HEAD_START.as_secs()).expect("a minute"))
    .execute(&world.pool)
    .await
    .expect("the database is there");
    // One at a time, so that the order of claims is the order of the journals.
    let worker = world.worker(stepwise_engine::WorkerConfig { room: 1, ..quick() }).await;
    world.asked("do-5", 42).await;
    let begun = world.provider.requests("do-1");
    let first = begun.iter().take(2).map(|request| request.key.clone()).collect::<Vec<_>>();
    assert_eq!(first, [format!("{old}-1"), format!("{urgent}-1")]);
    worker.stop().await;
    world.close().await;
}
