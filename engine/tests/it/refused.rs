//! A commit that the database refuses although the saga's decision is good: nothing of it is lost, nothing is made up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use stepwise_engine::{
    WorkerConfig,
    hooks::Hooks,
    operate::{Operated, Verb},
};

use crate::{
    tasks::{Root, Todo},
    world::{World, ann, quick},
};

/// Refuses the first commit of a transaction of a transition's own.
fn once() -> (Arc<AtomicBool>, WorkerConfig) {
    let refused = Arc::new(AtomicBool::new(false));
    let told = refused.clone();
    let refuses = move || !told.swap(true, Relaxed);
    let hooks = Hooks { refuses_commit: Some(Arc::new(refuses)), ..Hooks::default() };
    (refused, WorkerConfig { hooks, ..quick() })
}

async fn children(world: &World) -> i64 {
    sqlx::query_scalar(
        "-- name: test children\nselect count(*) from saga.instance where parent_id is not null",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

#[tokio::test]
async fn children_whose_start_was_refused_once_are_started_and_waited_for() {
    let world = World::new().await;
    let (refused, config) = once();
    let worker = world.worker(config).await;
    let parts = (0..3).map(|n| Todo::new(format!("part-{n}")));
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts)).await;
    assert_eq!(world.ended(id).await.status, "completed");
    assert!(refused.load(Relaxed), "vacuous: nothing was refused");
    assert_eq!(children(&world).await, 3);
    for part in ["do-part-0", "do-part-1", "do-part-2", "do-whole"] {
        assert_eq!(world.provider.requests(part).len(), 1, "{part}");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_parent_whose_children_can_never_be_born_is_stuck_again_when_it_is_retried() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let twins = [Todo::new("twin"), Todo::new("twin")];
    let id = world.start::<Root>("whole", Todo::new("whole").with(twins)).await;
    let first = world.ended(id).await;
    assert_eq!(first.status, "stuck", "{first:?}");
    assert!(matches!(world.operate(id, &ann(Verb::Retry)).await, Operated::Applied(_)));
    let second = world
        .until(id, "the second try", |seen| seen.seq > first.seq + 1 && seen.status != "running")
        .await;
    assert_eq!(second.status, "stuck", "a parent never goes on without its children: {second:?}");
    assert_eq!(children(&world).await, 0);
    assert_eq!(world.provider.requests("do-whole").len(), 1, "what was done is known");
    worker.stop().await;
    world.close().await;
}
