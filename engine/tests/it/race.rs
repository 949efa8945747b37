//! Cancel against placement, decided under the order's row lock; and a provider that acts too late.

use std::sync::Arc;

use stepwise_engine::{
    Answer, Engine,
    testing::{Race, Seed},
};
use uuid::Uuid;

use crate::{
    order::{Input, Order, Signal},
    provider::Behaviour,
    world::{World, quick},
};

/// The answer to the customer.
#[derive(Debug, PartialEq)]
enum Told {
    Cancelling,
    PlacedAlready,
    CancelledAlready,
}

/// The command: domain row first, instance last.
async fn cancel(engine: &Engine, order: &str, id: Uuid) -> Told {
    let mut tx = engine.begin().await.expect("the database is there");
    let status: String = sqlx::query_scalar(
        "-- name: test cancel\nselect status from test.orders where id = $1 for update",
    )
    .bind(order)
    .fetch_one(&mut *tx)
    .await
    .expect("the order is there");
    let told = match status.as_str() {
        "placing" => {
            match engine
                .signal::<Order>(&mut tx, id, "cancel", Signal::CancelRequested)
                .await
                .expect("it can be signalled")
            {
                Answer::Applied => Told::Cancelling,
                other => panic!("a placement that is placing takes a cancel, not {other:?}"),
            }
        }
        "placed" => Told::PlacedAlready,
        _ => Told::CancelledAlready,
    };
    tx.commit().await.expect("the database is there");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_raced_200_times_against_the_placement_is_either_told_placed_or_leaves_nothing() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut race = Race::new(Seed::new().rng());
    for round in 0..8 {
        let mut racing = tokio::task::JoinSet::new();
        for n in 0..25 {
            let order = format!("order-{round}-{n}");
            let input = Input { order: order.clone(), notify: false };
            let id = world.start::<Order>(&order, input).await;
            let head_start = race.head_start();
            let engine = world.engine.clone();
            racing.spawn(async move {
                tokio::time::sleep(head_start).await;
                let told = cancel(&engine, &order, id).await;
                (order, id, told)
            });
        }
        for (order, id, told) in racing.join_all().await {
            let seen = world.ended(id).await;
            let status: String = sqlx::query_scalar(
                "-- name: test order status\nselect status from test.orders where id = $1",
            )
            .bind(&order)
            .fetch_one(&world.pool)
            .await
            .expect("the order is there");
            let live = world.provider.live().iter().filter(|r| r.contains(&id.to_string())).count();
            race.ended(told == Told::PlacedAlready);
            match told {
                Told::PlacedAlready => {
                    assert_eq!(
                        (seen.status.as_str(), status.as_str(), live),
                        ("completed", "placed", 1),
                        "{seen:?}"
                    );
                }
                Told::Cancelling => {
                    assert_eq!(
                        (seen.status.as_str(), status.as_str(), live),
                        ("unwound", "cancelled", 0),
                        "{seen:?}"
                    );
                }
                Told::CancelledAlready => panic!("nobody else cancels"),
            }
        }
    }
    let (placed, cancelled) = race.close();
    println!("{placed} placed, {cancelled} cancelled");
    let reserved: i32 =
        sqlx::query_scalar("-- name: test reserved\nselect reserved from test.stock")
            .fetch_one(&world.pool)
            .await
            .expect("the stock is there");
    assert_eq!(
        reserved.cast_unsigned(),
        placed,
        "stock is reserved for what was placed and nothing else"
    );
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_provider_that_confirms_after_the_unwinding_finds_its_reference_cancelled() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // The confirm never answers and acts late: its request is kept for the end of this test.
    world.provider.script("confirm", [Behaviour::SilentBefore]);
    world.silence("probe-confirm");
    let input = Input { order: "late".into(), notify: false };
    let id = world.start::<Order>("late", input).await;
    let seen = world.given_up(id, "probe-confirm").await;
    assert_eq!(seen.status, "unwound", "{seen:?}");
    let late = world.provider.requests("confirm").remove(0);
    let provider = Arc::clone(&world.provider);
    let created = provider.lines().into_iter().find(|line| line.op == "create").expect("created");
    let refused = provider.act_late("confirm", &late.key, &created.reference);
    assert!(refused, "a cancelled reference kills a late confirm");
    assert_eq!(provider.live(), Vec::<String>::new());
    worker.stop().await;
    world.close().await;
}
