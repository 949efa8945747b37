//! No accepted decision is lost: kept signals are offered or refused, every end is told, and a person's end gives back what was held.

mod ends;
mod given_back;

use stepwise_engine::{Answer, operate::Verb};
use uuid::Uuid;

use crate::{
    order::{Input, Order, Signal},
    provider::Behaviour,
    tasks::{Leaf, Root, Signal as TaskSignal, Todo},
    world::{World, ann, applied, eventually, quick},
};

/// The answer to a signal, and how many the row says are still kept.
async fn answer(world: &World, id: Uuid, signal: &str) -> (String, i16) {
    sqlx::query_as(
        "-- name: test answer
        select s.answer, i.kept from saga.signal s join saga.instance i using (shard, saga_id)
        where saga_id = $1 and signal_id = $2",
    )
    .bind(id)
    .bind(signal)
    .fetch_one(&world.pool)
    .await
    .expect("the signal is there")
}

/// The order's status and how many pieces are reserved for all orders.
async fn books(world: &World, order: &str) -> (String, i32) {
    sqlx::query_as(
        "-- name: test books
        select o.status, s.reserved from test.orders o, test.stock s where o.id = $1",
    )
    .bind(order)
    .fetch_one(&world.pool)
    .await
    .expect("the order is there")
}

async fn order(world: &World, order: &str) -> Uuid {
    world.start::<Order>(order, Input { order: order.to_owned(), notify: false }).await
}

#[tokio::test]
async fn a_kept_cancellation_unwinds_a_paused_instance_that_was_calling_when_it_is_resumed() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("confirm");
    let id = order(&world, "calling").await;
    world.asked("confirm", 1).await;
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    gate.add_permits(1);
    let kept = world.signal::<Order>(id, "cancel", Signal::CancelRequested).await;
    assert_eq!(kept, Answer::Kept);
    applied(&world.operate(id, &ann(Verb::Resume)).await);
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.reason.as_deref()), ("unwound", Some("\"Cancelled\"")));
    assert_eq!(books(&world, "calling").await, ("cancelled".to_owned(), 0));
    assert_eq!(answer(&world, id, "cancel").await, ("applied".to_owned(), 0));
    assert!(world.provider.live().is_empty(), "no money is held");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_stuck_instance_takes_a_kept_cancellation_before_it_goes_on_or_refuses_it_at_its_end() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // Stuck at an event that the saga did not expect; and where the saga does not take a cancellation any more.
    for (stumbles, by, ends, reserved, answered) in [
        ("create", Behaviour::Babbles, ("unwound", "cancelled"), 0, "applied"),
        ("place", Behaviour::Panics, ("completed", "placed"), 1, "refused"),
    ] {
        world.provider.script(stumbles, [by]);
        let id = order(&world, stumbles).await;
        assert_eq!(world.ended(id).await.status, "stuck");
        let kept = world.signal::<Order>(id, "cancel", Signal::CancelRequested).await;
        assert_eq!(kept, Answer::Kept);
        applied(&world.operate(id, &ann(Verb::Retry)).await);
        assert_eq!(world.ended(id).await.status, ends.0, "{stumbles}");
        assert_eq!(books(&world, stumbles).await, (ends.1.to_owned(), reserved));
        assert_eq!(answer(&world, id, "cancel").await, (answered.to_owned(), 0));
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn signals_kept_by_an_instance_that_unwinds_for_another_reason_are_refused() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("confirm", [Behaviour::Declines]);
    world.provider.script("cancel", [Behaviour::Declines]);
    let id = order(&world, "declined").await;
    assert_eq!(world.ended(id).await.status, "stuck");
    let kept = world.signal::<Order>(id, "cancel", Signal::CancelRequested).await;
    assert_eq!((kept, answer(&world, id, "cancel").await.1), (Answer::Kept, 1));
    applied(&world.operate(id, &ann(Verb::Skip)).await);
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.reason.as_deref()), ("unwound", Some("\"Declined\"")));
    assert_eq!(answer(&world, id, "cancel").await, ("refused".to_owned(), 0));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_ended_child_that_waits_for_its_parent_takes_no_kept_signal() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let (child, sibling) = (world.provider.hold("do-part-0"), world.provider.hold("do-part-1"));
    let parts = (0..2).map(|n| Todo::new(format!("part-{n}")));
    let parent = world.start::<Root>("parent", Todo::new("parent").with(parts)).await;
    world.asked("do-part-0", 1).await;
    let id: Uuid = sqlx::query_scalar(
        "-- name: test child\nselect saga_id from saga.instance where parent_id = $1 and subject = 'part-0'",
    )
    .bind(parent)
    .fetch_one(&world.pool)
    .await
    .expect("the child is there");
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    assert_eq!(world.signal::<Leaf>(id, "note", TaskSignal::Note).await, Answer::Kept);
    child.add_permits(1);
    applied(&world.operate(id, &ann(Verb::Resume)).await);
    let at_its_end = |seen: &crate::world::Seen| seen.waiting_on.as_deref() == Some("parent");
    world.until(id, "its end", at_its_end).await;
    assert_eq!(answer(&world, id, "note").await, ("refused".to_owned(), 0));
    sibling.add_permits(1);
    assert_eq!(world.ended(parent).await.status, "completed");
    eventually("the child to become final", async || world.see(id).await.status == "completed")
        .await;
    worker.stop().await;
    world.close().await;
}
