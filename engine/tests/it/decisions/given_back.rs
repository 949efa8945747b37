//! The tx undos of an instance run when a person ends it, so that it leaves nothing reserved in our own database.

use std::time::Duration;

use stepwise_engine::{
    Answer,
    bulk::Stored,
    operate::{Operated, Refusal, Verb},
};
use uuid::Uuid;

use super::{answer, books, order};
use crate::{
    bulk,
    order::{Order, Signal},
    provider::Behaviour,
    world::{World, ann, applied, eventually, quick},
};

fn hand_over() -> Verb {
    Verb::HandOver { to: "finance".to_owned() }
}

/// An order that is paused while its customer should approve.
async fn paused(world: &World, name: &str) -> Uuid {
    world.provider.script("confirm", [Behaviour::Challenges]);
    let id = order(world, name).await;
    world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    id
}

/// An order that is stuck because what it has reserved could not be released.
async fn stuck_release(world: &World, name: &str) -> Uuid {
    world.provider.script("create", [Behaviour::Declines]);
    world.provider.script("release", [Behaviour::Panics]);
    let id = order(world, name).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    assert_eq!(books(world, name).await.0, "placing");
    id
}

/// Waits until a statement waits for a lock.
async fn waits_for_a_lock(world: &World, statement: &str) {
    eventually("a statement to wait for a lock", async || {
        sqlx::query_scalar(
            "-- name: test waiting
            select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like $1)",
        )
        .bind(statement)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    })
    .await;
}

#[tokio::test]
async fn who_is_handed_over_gives_back_what_it_holds_in_the_same_commit() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = paused(&world, "given up").await;
    applied(&world.operate(id, &ann(hand_over())).await);
    assert_eq!(world.see(id).await.status, "abandoned");
    assert_eq!(books(&world, "given up").await, ("gaveup".to_owned(), 0));
    let waived = world.effects(id).await.into_iter().all(|effect| effect.1 == "waived");
    assert!(waived, "what stands outside is somebody else's");

    let id = paused(&world, "cancelled").await;
    let kept = world.signal::<Order>(id, "cancel", Signal::CancelRequested).await;
    assert_eq!(kept, Answer::Kept);
    applied(&world.operate(id, &ann(hand_over())).await);
    assert_eq!(books(&world, "cancelled").await, ("cancelled".to_owned(), 0), "as was asked for");
    assert_eq!(answer(&world, id, "cancel").await, ("applied".to_owned(), 0));

    let ids = [paused(&world, "one of two").await, paused(&world, "two of two").await];
    let plan = bulk::plan(&world, hand_over(), bulk::of("order")).await;
    for item in bulk::items(&world, plan.bulk_id).await {
        let outlook = item.outlook.as_ref().and_then(Stored::known).expect("it can be handed over");
        assert_eq!(outlook.undoes.len(), 1, "the plan says what is given back: {outlook:?}");
    }
    bulk::apply(&world, &plan, 1_000).await;
    assert_eq!(bulk::done(&world, plan.bulk_id).await.applied, 2);
    for (id, name) in ids.into_iter().zip(["one of two", "two of two"]) {
        assert_eq!(world.see(id).await.status, "abandoned");
        assert_eq!(books(&world, name).await, ("gaveup".to_owned(), 0));
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_verb_that_would_leave_something_held_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let done = Verb::MarkDone { evidence: "by hand".to_owned(), event: None, outside: None };
    for (n, verb) in [hand_over(), Verb::Skip, done].into_iter().enumerate() {
        let name = format!("order {n}");
        let id = stuck_release(&world, &name).await;
        let seq = world.see(id).await.seq;
        world.provider.script("release", [Behaviour::Panics]);
        let refused = world.operate(id, &ann(verb.clone())).await;
        assert!(
            matches!(&refused, Operated::Refused(Refusal::StillHeld(_))),
            "{verb:?}: {refused:?}"
        );
        let seen = world.see(id).await;
        assert_eq!((seen.status.as_str(), seen.seq), ("stuck", seq));
        assert_eq!(books(&world, &name).await, ("placing".to_owned(), 1));
        // Whatever it stumbled over is mended.
        let instruction = ann(verb.clone());
        applied(&world.operate(id, &instruction).await);
        assert_eq!(world.operate(id, &instruction).await, Operated::Repeated);
        let ends = if verb == hand_over() { "abandoned" } else { "unwound" };
        assert_eq!(world.ended(id).await.status, ends, "{verb:?}");
        assert_eq!(books(&world, &name).await, ("declined".to_owned(), 0), "{verb:?}");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_verb_takes_the_locks_of_the_domain_before_that_of_the_instance() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = paused(&world, "raced").await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    sqlx::query("-- name: test lock order\nselect from test.orders where id = 'raced' for update")
        .execute(&mut *tx)
        .await
        .expect("the database is there");
    let (engine, pool) = (world.engine.clone(), world.pool.clone());
    let handing_over = tokio::spawn(async move {
        let mut tx = pool.begin().await.expect("the database is there");
        let operated = engine.operate(&mut tx, id, &ann(hand_over())).await;
        tx.commit().await.expect("the database is there");
        operated.expect("nobody waits in a circle")
    });
    waits_for_a_lock(&world, "-- name: test lock order%").await;
    // As the shop does: the order's row first, the instance's last.
    let kept = world.engine.signal::<Order>(&mut tx, id, "cancel", Signal::CancelRequested);
    let kept = tokio::time::timeout(Duration::from_secs(10), kept).await.expect("no circle");
    assert_eq!(kept.expect("it is there"), Answer::Kept);
    tx.commit().await.expect("the database is there");
    applied(&handing_over.await.expect("it does not panic"));
    assert_eq!(books(&world, "raced").await, ("cancelled".to_owned(), 0), "it heard of the signal");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_verb_that_becomes_allowed_while_it_waits_for_the_row_gives_back_what_is_held_too() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("confirm", [Behaviour::Challenges]);
    let id = order(&world, "paused meanwhile").await;
    world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let paused = world.engine.operate(&mut tx, id, &ann(Verb::Pause)).await;
    applied(&paused.expect("the database is there"));
    let (engine, pool) = (world.engine.clone(), world.pool.clone());
    let handing_over = tokio::spawn(async move {
        let mut tx = pool.begin().await.expect("the database is there");
        // It is running as this reads it, and would be refused.
        let operated = engine.operate(&mut tx, id, &ann(hand_over())).await;
        tx.commit().await.expect("the database is there");
        operated.expect("the database is there")
    });
    waits_for_a_lock(&world, "-- name: lock instance%").await;
    tx.commit().await.expect("the database is there");
    applied(&handing_over.await.expect("it does not panic"));
    assert_eq!(world.see(id).await.status, "abandoned");
    assert_eq!(books(&world, "paused meanwhile").await, ("gaveup".to_owned(), 0));
    worker.stop().await;
    world.close().await;
}
