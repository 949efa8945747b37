//! The two questions whose answer is nothing: they find what is planted, and nothing else.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use stepwise_engine::{
    EffectStatus, inspect,
    operate::{Operated, Verb},
};
use uuid::Uuid;

use crate::{
    plain::Five,
    provider::Behaviour,
    world::{World, ann, quick},
};

async fn plant(pool: &PgPool, id: Uuid, how: &str) -> Result<(), sqlx::Error> {
    let statement =
        format!("-- name: test plant\nupdate saga.instance set {how} where saga_id = $1");
    sqlx::query(AssertSqlSafe(statement)).bind(id).execute(pool).await.map(|_| ())
}

/// The words of the watchdog for an orphan, and the row that makes one of a healthy instance.
const ORPHANS: [(&str, &str); 11] = [
    ("no time and no owner", "waiting_on = 'worker'"),
    ("no time and no owner", "waiting_on = 'activity'"),
    ("no time and no owner", "waiting_on = 'retry'"),
    ("no time and no owner", "waiting_on = 'version'"),
    ("its owner has no lease", "waiting_on = 'activity', owner = gen_random_uuid()"),
    ("its timer never fires", "waiting_on = 'timer', pending = '{\"timer\": {}}'"),
    ("nobody wakes it when its children have ended", "waiting_on = 'children'"),
    (
        "its parent has let go without it",
        "waiting_on = 'parent', held = true, parent_id = gen_random_uuid(), ended_at = now()",
    ),
    ("it waits on a person whom nobody tells", "waiting_on = 'operator'"),
    ("it needs a person, and is not said to", "status = 'stuck', waiting_on = 'signal'"),
    ("it waits its turn in no queue", "waiting_on = 'worker', queued = true"),
];

#[tokio::test]
async fn the_watchdog_finds_every_kind_of_orphan_and_no_healthy_instance() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", vec![Behaviour::Babbles; ORPHANS.len()]);
    let mut ids = Vec::new();
    for n in 0..ORPHANS.len() {
        let id = world.start::<Five>(&format!("orphan {n}"), ()).await;
        world.ended(id).await;
        ids.push(id);
    }
    worker.stop().await;
    let forgotten = async || inspect::forgotten(&world.pool).await.expect("the database is there");
    assert_eq!(forgotten().await, [], "stuck instances have a person");
    sqlx::query(
        "-- name: test drop constraint
        alter table saga.instance drop constraint an_open_instance_has_a_reason_to_wake",
    )
    .execute(&world.pool)
    .await
    .expect("it is there");
    for (id, (why, how)) in ids.into_iter().zip(ORPHANS) {
        plant(
            &world.pool,
            id,
            "status = 'running', waiting_on = 'signal', pending = '\"nothing\"'",
        )
        .await
        .expect("the database is there");
        assert_eq!(forgotten().await, [], "who waits for a signal is not forgotten");
        plant(&world.pool, id, how).await.expect("nothing refuses it any more");
        let found = forgotten().await;
        assert_eq!(found.len(), 1, "{how}: {found:?}");
        assert_eq!((found[0].saga_id, found[0].why.as_str()), (id, why), "{how}");
        plant(
            &world.pool,
            id,
            "status = 'abandoned', waiting_on = null, queued = false, ended_at = now()",
        )
        .await
        .expect("the database is there");
    }
    world.close().await;
}

#[tokio::test]
async fn the_database_refuses_what_nothing_would_wake() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::Babbles]);
    let id = world.start::<Five>("refused", ()).await;
    world.ended(id).await;
    worker.stop().await;
    // Those that only a look at other rows, or into the pending step, tells from healthy ones, no constraint of a row can refuse.
    let other_rows = ["its owner has", "its timer", "nobody wakes", "its parent"];
    let refusable =
        ORPHANS.iter().filter(|(why, _)| !other_rows.iter().any(|o| why.starts_with(o)));
    let mut refused = 0;
    for (why, how) in refusable {
        let how = if how.contains("status") {
            (*how).to_owned()
        } else {
            format!("status = 'running', {how}")
        };
        let error = plant(&world.pool, id, &how).await.expect_err(why);
        let constraint = error.as_database_error().and_then(|e| e.constraint()).map(str::to_owned);
        assert_eq!(constraint.as_deref(), Some("an_open_instance_has_a_reason_to_wake"), "{how}");
        refused += 1;
    }
    assert_eq!(refused, 7);
    world.close().await;
}

#[tokio::test]
async fn the_ledger_of_everything_unwound_nets_to_zero_and_an_imbalance_is_seen() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-4", vec![Behaviour::Declines; 2]);
    let clean = world.start::<Five>("clean", ()).await;
    assert_eq!(world.ended(clean).await.status, "unwound");
    world.provider.script("undo-2", [Behaviour::Declines]);
    let waived = world.start::<Five>("waived", ()).await;
    assert_eq!(world.ended(waived).await.status, "stuck");
    let done = world.start::<Five>("done", ()).await;
    assert_eq!(world.ended(done).await.status, "completed");
    let unbalanced =
        async || inspect::unbalanced(&world.pool).await.expect("the database is there");
    assert_eq!(unbalanced().await, [], "what stands of a stuck or completed instance is right to");
    assert!(matches!(world.operate(waived, &ann(Verb::Skip)).await, Operated::Applied(_)));
    assert_eq!(world.ended(waived).await.status, "unwound");
    let found = unbalanced().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].is_answered_for() && found[0].saga_id == waived, "{found:?}");
    sqlx::query(
        "-- name: test plant imbalance
        update saga.effect set status = 'confirmed' where saga_id = $1 and step_no = 3",
    )
    .bind(clean)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let found = unbalanced().await;
    let planted = found.iter().find(|one| !one.is_answered_for()).expect("it is seen");
    assert_eq!(
        (planted.saga_id, planted.step_no, planted.status),
        (clean, 3, EffectStatus::Confirmed)
    );
    assert_eq!(json!(planted.reference), json!(format!("ref-{clean}-3")));
    worker.stop().await;
    world.close().await;
}
