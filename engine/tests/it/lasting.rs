//! Errors of the database that pass by themselves, and those that do not.

use std::time::Duration;

use stepwise_engine::{
    StepError, Terms,
    notice::{self, Kind},
    operate::{Operated, Verb},
    testing::Clock,
};
use uuid::Uuid;

use crate::{
    order::{Input, Order},
    plain::Five,
    provider::Behaviour,
    world::{World, ann, eventually, quick},
};

/// The longest wait between two attempts.
const CAP: Duration = Duration::from_secs(60);

/// A missing column.
const LASTS: Behaviour = Behaviour::Raises("42703");

/// A statement that was ended because it took too long.
const PASSES: Behaviour = Behaviour::Raises("57014");

async fn start(world: &World, order: &str) -> Uuid {
    world.start::<Order>(order, Input { order: order.to_owned(), notify: false }).await
}

/// Waits for so many failed attempts, and has the next one come.
async fn failed(world: &World, id: Uuid, attempts: i16) {
    world.until(id, &format!("attempt {attempts}"), |seen| seen.attempt >= attempts).await;
    Clock::of(&world.pool).advance(CAP).await;
}

async fn told(world: &World, id: Uuid) -> Vec<(Kind, String)> {
    let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
    told.into_iter().filter(|one| one.saga_id == id).map(|one| (one.kind, one.why)).collect()
}

/// Fault: saga: a tx step needs a column that is not there (its release is deployed before the migration)
/// Customer: the operation goes on as soon as the column is there
/// Operator: a notice `failing` with the error's words, at the first attempt; `stuck` at its last good position after 10 min
/// Within: at once
/// Ends: by itself within a minute, if the column comes within 10 min; else with `retry`
#[tokio::test]
async fn an_error_that_does_not_pass_is_told_at_once_and_waits_for_a_person_after_minutes() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", vec![LASTS; 100]);
    let id = start(&world, "column").await;
    failed(&world, id, 1).await;
    let notices = told(&world, id).await;
    let [(Kind::Failing, why)] = &notices[..] else { panic!("it is told once: {notices:?}") };
    assert!(why.contains("scripted"), "{why}");
    let minutes = i16::try_from(StepError::PATIENCE.as_secs() / 60).expect("few");
    for attempt in 2..minutes {
        failed(&world, id, attempt).await;
    }
    assert_eq!(world.see(id).await.status, "running", "a minute is left");
    eventually("its end", async || {
        // An attempt that had begun before has still a minute.
        Clock::of(&world.pool).advance(CAP).await;
        world.see(id).await.status != "running"
    })
    .await;
    let seen = world.see(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    assert!(seen.last_error.as_deref().is_some_and(|why| why.contains("scripted")), "{seen:?}");
    let kinds = told(&world, id).await.into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(kinds, [Kind::Failing, Kind::Stuck]);
    assert!(world.effects(id).await.iter().all(|effect| effect.1 == "confirmed"));
    world.provider.forget_script();
    assert!(matches!(world.operate(id, &ann(Verb::Retry)).await, Operated::Applied(_)));
    assert_eq!(world.ended(id).await.status, "completed", "from its last good position");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_column_that_comes_a_minute_later_needs_nobody() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", vec![LASTS; 8]);
    let id = start(&world, "late column").await;
    for attempt in 1..=8 {
        failed(&world, id, attempt).await;
    }
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_error_that_passes_is_outlasted_for_a_day_and_told_after_an_hour() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", vec![PASSES; 100]);
    let id = start(&world, "slow").await;
    for attempt in 1..=6 {
        failed(&world, id, attempt).await;
    }
    assert_eq!(told(&world, id).await, []);
    Clock::of(&world.pool).advance(Terms::SLOW_AFTER).await;
    failed(&world, id, 8).await;
    let kinds = told(&world, id).await.into_iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!((kinds, world.see(id).await.status.as_str()), (vec![Kind::Slow], "running"));
    world.provider.forget_script();
    eventually("its end", async || {
        // An attempt that had begun before may fail once more.
        Clock::of(&world.pool).advance(CAP).await;
        world.see(id).await.status == "completed"
    })
    .await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_outage_uses_up_nothing_of_the_patience_with_a_deploy_that_follows_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", [vec![PASSES; 4], vec![LASTS; 4]].concat());
    let id = start(&world, "outage").await;
    for attempt in 1..=3 {
        failed(&world, id, attempt).await;
    }
    Clock::of(&world.pool).advance(2 * StepError::PATIENCE).await;
    for attempt in 4..=8 {
        failed(&world, id, attempt).await;
    }
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

/// A table of the engine itself is not as this build expects it: no instance is to blame.
#[tokio::test]
async fn a_schema_that_does_not_fit_the_engine_gets_nobody_stuck() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    sqlx::raw_sql(
        "-- name: test other schema
        create sequence test.misfits;
        create function test.misfit() returns trigger language plpgsql as $$
        begin
            perform nextval('test.misfits');
            raise exception 'no such column' using errcode = 'undefined_column';
        end $$;
        create trigger misfit before insert on saga.journal for each row when (new.kind <> 'start')
            execute function test.misfit();",
    )
    .execute(&world.pool)
    .await
    .expect("the trigger is new");
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(world.start::<Five>(&format!("misfit {n}"), ()).await);
    }
    let misfits = "-- name: test misfits\nselect case when is_called then last_value else 0 end from test.misfits";
    eventually("attempts to commit", async || {
        let tried: i64 =
            sqlx::query_scalar(misfits).fetch_one(&world.pool).await.expect("it is there");
        tried > 30
    })
    .await;
    for id in &ids {
        assert_eq!(world.see(*id).await.status, "running");
    }
    sqlx::raw_sql("-- name: test schema fits\ndrop trigger misfit on saga.journal")
        .execute(&world.pool)
        .await
        .expect("it is there");
    for id in ids {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}
