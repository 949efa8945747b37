//! Undos as an earlier release recorded them: the undo itself instead of the step. And recorded steps that nothing takes back any more.

use stepwise_engine::{Answer, Gate};
use uuid::Uuid;

use crate::{
    parcel::{v1, v2},
    plain::Five,
    versions::Deploy,
    world::{World, quick, see, work_on},
};

async fn record(pool: &sqlx::PgPool, id: Uuid, undos: &str) {
    sqlx::query(
        "-- name: test record\nupdate saga.instance set undos = $2::jsonb where saga_id = $1",
    )
    .bind(id)
    .bind(undos)
    .execute(pool)
    .await
    .expect("the database is there");
}

/// A parcel of version 1 that waits, with the undo of its packing as an earlier release recorded it.
async fn recorded(world: &Deploy, name: &str) -> Uuid {
    let old = work_on(&world.old, quick()).await;
    let id = world.start::<v1::Parcel>(&world.old, name).await;
    world.until(id, "signal").await;
    old.stop().await;
    let undos = see(&world.pool, id).await.undos;
    assert_eq!(undos, r#"[{"no":1,"step":"Pack","back":"outside"}]"#);
    record(&world.pool, id, r#"[{"no":1,"by":{"activity":{"Unpack":"carefully"}}}]"#).await;
    id
}

#[tokio::test]
async fn an_undo_that_an_earlier_release_recorded_is_done_by_its_row_under_the_key_it_had() {
    let world = Deploy::new().await;
    let (same, next) = (recorded(&world, "same").await, recorded(&world, "next").await);
    let gate = Gate::new().knows::<v2::Parcel>();
    let misfits = gate.check(&world.pool).await.expect("the database is there");
    assert!(misfits.is_empty(), "{misfits:?}");

    let old = work_on(&world.old, quick()).await;
    let stopped = world.signal::<v1::Parcel>(same, "stop", v1::Signal::Stop).await;
    assert_eq!(stopped, Answer::Applied);
    world.until(same, "unwound").await;
    old.stop().await;
    let new = work_on(&world.new, quick()).await;
    let stop = v2::Signal::Stop { by: "us".into() };
    assert_eq!(world.signal::<v2::Parcel>(next, "stop", stop).await, Answer::Applied);
    world.until(next, "unwound").await;
    new.stop().await;

    let asked = world.provider.requests("unpack");
    let told = asked.iter().map(|asked| (asked.key.as_str(), asked.note.as_str()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (format!("{same}-1-undo").as_str(), "unpacked carefully, stopped"),
            (format!("{next}-1-undo").as_str(), "unwrapped carefully, stopped by us"),
        ]
    );
    world.close().await;
}

#[tokio::test]
async fn a_step_whose_undo_is_gone_is_named_by_the_gate_and_makes_its_instance_stuck() {
    let world = World::new().await;
    let gate = world.provider.hold("do-1");
    let worker = world.worker(quick()).await;
    let id = world.start::<Five>("gone", ()).await;
    world.until(id, "its call", |seen| seen.waiting_on.as_deref() == Some("activity")).await;
    record(&world.pool, id, r#"[{"no":1,"step":"Poison","back":"outside"}]"#).await;
    let knows = Gate::new().knows::<Five>();
    let misfits = knows.check(&world.pool).await.expect("the database is there");
    let why = "Step(Poison) was to be taken back, and this version has no undo of it";
    assert!(misfits[0].why.contains(why), "{misfits:?}");
    sqlx::query("-- name: test move\nupdate saga.instance set seq = seq + 1 where saga_id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    gate.add_permits(1);
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck");
    assert!(seen.last_error.as_deref().is_some_and(|error| error.contains(why)), "{seen:?}");
    worker.stop().await;
    world.close().await;
}
