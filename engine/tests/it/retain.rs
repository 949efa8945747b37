//! Data of instances that ended long ago is removed; no instance that can still change needs that data.

use std::time::Duration;

use stepwise_engine::{Answer, Retained, Retention};
use uuid::Uuid;

use crate::{
    order::{Input, Order, Signal},
    plain::Five,
    provider::Behaviour,
    world::{World, quick},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Nothing is old enough.
const ALL: Retention = Retention { journal: Duration::from_secs(3_600 * 24 * 365), finished: DAY };

async fn exists(world: &World, id: Uuid) -> bool {
    sqlx::query_scalar(
        "-- name: test exists\nselect exists (select from saga.instance where saga_id = $1)",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

async fn awaiting_approval(world: &World, order: &str) -> Uuid {
    world.provider.script("confirm", [Behaviour::Challenges]);
    let input = Input { order: order.into(), notify: false };
    let id = world.start::<Order>(order, input).await;
    world.until(id, "the approval", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
    id
}

#[tokio::test]
async fn an_instance_whose_journal_was_dropped_while_it_slept_still_unwinds_everything() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = awaiting_approval(&world, "old").await;
    sqlx::raw_sql(
        "-- name: test long ago
        create table saga.journal_20260101 partition of saga.journal for values from ('2026-01-01') to ('2026-01-02');
        update saga.journal set at = '2026-01-01 12:00'",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let seq = world.see(id).await.seq;

    // A reader of the journal holds the partition: it is left for the next time, quickly.
    let mut reading = world.pool.begin().await.expect("the database is there");
    let rows: i64 = sqlx::query_scalar("-- name: test read\nselect count(*) from saga.journal")
        .fetch_one(&mut *reading)
        .await
        .expect("the database is there");
    assert!(rows > 3);
    let keep = Retention { journal: DAY * 30, finished: DAY };
    let begun = std::time::Instant::now();
    let gone = world.engine.retain(keep).await.expect("the database is there");
    assert_eq!(gone, Retained::default());
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits long for the whole journal");
    reading.commit().await.expect("the database is there");

    assert_eq!(world.engine.retain(ALL).await.expect("there"), Retained::default());
    let gone = world.engine.retain(keep).await.expect("the database is there");
    assert_eq!(gone, Retained { partitions: 1, instances: 0 });
    assert_eq!(world.journal(id).await, []);

    assert_eq!(world.signal::<Order>(id, "c", Signal::CancelRequested).await, Answer::Applied);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.live(), Vec::<String>::new(), "the payment was cancelled");
    let reserved: i32 =
        sqlx::query_scalar("-- name: test reserved\nselect reserved from test.stock")
            .fetch_one(&world.pool)
            .await
            .expect("the stock is there");
    assert_eq!(reserved, 0, "and the stock given back");
    let first: i32 = sqlx::query_scalar(
        "-- name: test first seq\nselect min(seq) from saga.journal where saga_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(first, seq + 1, "the journal goes on where it was");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn finished_instances_go_with_all_that_is_theirs_unless_somebody_may_still_need_them() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut ended = Vec::new();
    for n in 0..5 {
        ended.push(world.start::<Five>(&format!("ended-{n}"), ()).await);
    }
    for id in &ended {
        assert_eq!(world.ended(*id).await.status, "completed");
    }
    let watched = [ended[2]];
    sqlx::query(
        "-- name: test watch
        insert into saga.watch (shard, saga_id, step_no, version, activity, undo, until, next_at)
        select shard, saga_id, 2, 1, '{}', '{}', 'infinity', 'infinity' from saga.instance where saga_id = $1",
    )
    .bind(watched[0])
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let plain = world.start::<Five>("plain", ()).await;
    let open = awaiting_approval(&world, "open").await;
    let [child, parent] = [
        world.start::<Five>("child of the open one", ()).await,
        world.start::<Five>("parent of the open one", ()).await,
    ];
    for id in [plain, child, parent] {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    for (of, is) in [(child, open), (open, parent)] {
        // Of one shard, as families are.
        sqlx::query(
            "-- name: test family
            update saga.instance c set parent_id = p.saga_id, parent_step = 1
            from saga.instance p where c.saga_id = $1 and p.saga_id = $2",
        )
        .bind(of)
        .bind(is)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    }
    sqlx::query(
        "-- name: test one shard
        update saga.instance set shard = (select shard from saga.instance where saga_id = $1) where saga_id = any($2)",
    )
    .bind(open)
    .bind([child, parent])
    .execute(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(world.engine.retain(ALL).await.expect("there"), Retained::default());
    let keep = Retention { finished: Duration::ZERO, ..ALL };
    let gone = world.engine.retain(keep).await.expect("the database is there");
    let expected = ended.iter().filter(|id| !watched.contains(id)).count() + 1;
    assert_eq!(gone, Retained { partitions: 0, instances: expected as u64 });
    assert!(!exists(&world, plain).await && world.effects(plain).await.is_empty());
    for id in watched.iter().chain([&open, &child, &parent]) {
        assert!(exists(&world, *id).await);
    }
    worker.stop().await;
    world.close().await;
}
