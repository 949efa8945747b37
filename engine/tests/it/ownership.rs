//! An undo writes into the ledger about the step that it takes back, and about nothing else.

use crate::{
    journey::Journey,
    plain::Five,
    provider::Behaviour,
    world::{World, quick},
};

#[tokio::test]
async fn an_activity_that_a_tx_step_takes_back_is_undone_in_the_ledger_by_the_same_commit() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("check", [Behaviour::Declines]);
    let id = world.start::<Journey>("tx undo", ()).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    let statuses = world.effects(id).await.into_iter().map(|e| e.1).collect::<Vec<_>>();
    assert_eq!(statuses, ["undone"; 4]);
    let together: bool = sqlx::query_scalar(
        "-- name: test together
        select bool_and(j.xmin = e.xmin) from saga.effect e
        join saga.journal j on j.saga_id = e.saga_id and j.kind = 'undo' and j.step_no = e.step_no
        where e.saga_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("both are there");
    assert!(together, "the ledger says so with the commit of the undo");
    worker.stop().await;
    world.close().await;
}

/// An undo names only the step that it takes back; whatever the provider answers, no other row of the ledger changes.
#[tokio::test]
async fn an_undo_touches_no_effect_but_its_own() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let other = world.start::<Five>("other", ()).await;
    assert_eq!(world.ended(other).await.status, "completed");
    world.provider.script("do-2", [Behaviour::Declines]);
    world.provider.script("undo-1", [Behaviour::Refers(format!("ref-{other}-1"))]);
    let id = world.start::<Five>("own", ()).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    assert!(world.effects(other).await.iter().all(|effect| effect.1 == "confirmed"));
    assert_eq!(world.effects(id).await[0].2, Some(format!("ref-{id}-1")));
    worker.stop().await;
    world.close().await;
}
