//! A provider that acts after it was given up: found, and taken back.

use std::{sync::Arc, time::Duration};

use stepwise_engine::{
    Answer, Start,
    operate::{Outside, Verb},
    testing::Clock,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    plain::{Five, Signal, WATCH},
    provider::Behaviour,
    world::{World, ann, applied, engine, eventually, quick},
};

async fn watches(world: &World) -> i64 {
    sqlx::query_scalar("-- name: test watches\nselect count(*) from saga.watch")
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
}

/// Its second step is given up when nobody has answered by its deadline; the provider has not acted.
async fn given_up(world: &World, subject: &str) -> Uuid {
    world.provider.script("do-2", [Behaviour::SilentBefore]);
    world.silence("probe-2");
    let id = world.start::<Five>(subject, ()).await;
    world.given_up(id, "probe-2").await;
    assert_eq!(world.effects(id).await[1].1, "refuted", "the undo found nothing");
    assert_eq!(watches(world).await, 1);
    id
}

/// The provider acts on the first request for the second step, which was given up long ago.
fn act_late(world: &World) {
    let key = world.provider.requests("do-2").remove(0).key;
    let refused = world.provider.act_late("do-2", &key, "late");
    assert!(!refused, "nothing keeps this provider from acting late");
}

async fn is_taken_back(world: &World, id: Uuid) {
    Clock::of(&world.pool).advance(Duration::from_secs(3_600)).await;
    eventually("the late effect to be taken back", async || {
        let effects = world.effects(id).await;
        effects.iter().any(|(step, status, _)| *step == 2 && status == "undone")
    })
    .await;
    assert_eq!(world.ended(id).await.status, "unwound");
    let journal = world.journal(id).await;
    let late = journal.iter().filter(|(kind, ..)| kind == "late effect").collect::<Vec<_>>();
    assert_eq!(late, [&("late effect".to_owned(), Some(2), Some("\"late\"".to_owned()))]);
    assert_eq!(watches(world).await, 1, "it is watched as long as the provider may act");
    Clock::of(&world.pool).advance(WATCH).await;
    eventually("the end of the watch", async || watches(world).await == 0).await;
}

#[tokio::test]
async fn an_effect_that_comes_after_never_seen_and_unwound_is_found_and_taken_back() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // The customer stops it while the call is on its way; the call never answers.
    let gate = Arc::new(Semaphore::new(0));
    world.provider.script("do-2", [Behaviour::Held(gate.clone(), Behaviour::SilentBefore.into())]);
    let id = world.start::<Five>("late", ()).await;
    world.asked("do-2", 1).await;
    assert_eq!(world.signal::<Five>(id, "stop", Signal::Stop).await, Answer::Applied);
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.effects(id).await[1].1, "refuted");
    assert_eq!(watches(&world).await, 1);
    // Looked at in vain first.
    let before = world.provider.requests("probe-2").len();
    Clock::of(&world.pool).advance(Duration::from_secs(31)).await;
    world.asked("probe-2", before + 1).await;
    assert_eq!(world.see(id).await.status, "unwound");

    act_late(&world);
    is_taken_back(&world, id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_effect_of_a_closed_key_whose_undo_found_nothing_is_taken_back_when_it_comes() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::SilentBefore]);
    world.silence("probe-2");
    let id = world.start::<Five>("closed", ()).await;
    assert_eq!(world.given_up(id, "probe-2").await.status, "unwound");
    assert_eq!(world.effects(id).await[1].1, "refuted", "the undo found nothing");
    assert_eq!(watches(&world).await, 1);
    // Meanwhile somebody has begun again about the same subject.
    let gate = world.provider.hold("do-1");
    let again = world.start::<Five>("closed", ()).await;
    act_late(&world);
    is_taken_back(&world, id).await;
    let undos = world.provider.requests("undo-2");
    assert_ne!(undos[0].key, undos[1].key, "the first undo found nothing under its key");
    gate.add_permits(1);
    world.provider.forget_script();
    assert_eq!(world.ended(again).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_effect_is_watched_for_however_long_another_undo_is_stuck() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("undo-1", [Behaviour::Declines]);
    let id = given_up(&world, "stuck meanwhile").await;
    assert_eq!(world.see(id).await.status, "stuck");
    Clock::of(&world.pool).advance(WATCH * 2).await;
    eventually("its time to be found over", async || {
        sqlx::query_scalar(
            "-- name: test looks\nselect coalesce(max(attempt), 1) > 0 from saga.watch",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    })
    .await;
    act_late(&world);
    world.operate(id, &ann(Verb::Skip)).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    is_taken_back(&world, id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_last_look_that_nobody_answers_is_not_the_last() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = given_up(&world, "no answer").await;
    assert_eq!(world.see(id).await.status, "unwound");
    world.provider.script("probe-2", [Behaviour::SilentBefore]);
    let before = world.provider.requests("probe-2").len();
    Clock::of(&world.pool).advance(WATCH).await;
    world.asked("probe-2", before + 1).await;
    act_late(&world);
    is_taken_back(&world, id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_was_tried_is_watched_whether_a_person_or_a_program_cancels_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Behaviour::Held(gate.clone(), Behaviour::NotDone.into());
    world.provider.script("do-2", [held.clone(), held]);
    let by_person = world.start::<Five>("by a person", ()).await;
    let by_program = world.start::<Five>("by a program", ()).await;
    world.asked("do-2", 2).await;
    // The worker leaves after the first try, which was not done.
    let stopping = tokio::spawn(worker.stop());
    eventually("the worker to take nothing more", async || world.engine.room() == 0).await;
    gate.add_permits(2);
    stopping.await.expect("it stops");
    for id in [by_person, by_program] {
        assert_eq!(world.see(id).await.attempt, 1);
    }
    world.operate(by_person, &ann(Verb::Cancel)).await;
    assert_eq!(watches(&world).await, 1);
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.cancel(&mut tx, by_program, "not wanted").await.expect("it can be cancelled");
    tx.commit().await.expect("the database is there");
    assert_eq!(watches(&world).await, 2);
    let worker = world.worker(quick()).await;
    for id in [by_person, by_program] {
        assert_eq!(world.ended(id).await.status, "unwound");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn nothing_is_watched_where_the_provider_said_no_or_no_terms_ask_for_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::Declines]);
    let declined = world.start::<Five>("declined", ()).await;
    assert_eq!(world.ended(declined).await.status, "unwound");
    world.provider.script("do-4", [Behaviour::SilentBefore]);
    world.silence("probe-4");
    let given_up = world.start::<Five>("given up", ()).await;
    assert_eq!(world.given_up(given_up, "probe-4").await.status, "unwound");
    // Cancelled before its first try.
    let elsewhere = engine(world.pool.clone(), &world.provider);
    let mut tx = elsewhere.begin().await.expect("the database is there");
    let started = elsewhere.start::<Five>(&mut tx, Start::new("untried", ())).await;
    let id = started.expect("new").id;
    elsewhere.cancel(&mut tx, id, "changed their mind").await.expect("it can be cancelled");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(watches(&world).await, 0);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_a_person_declares_not_done_is_watched_and_taken_back_if_it_comes() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::SilentBefore]);
    world.silence("probe-2");
    let id = world.start::<Five>("not done", ()).await;
    world.asked("probe-2", 1).await;
    // Nobody asks any more while the person decides.
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    worker.stop().await;
    world.provider.forget_script();
    applied(&world.operate(id, &ann(Verb::Resume)).await);
    let nothing = Verb::MarkDone {
        evidence: "their books".to_owned(),
        event: Some(serde_json::json!("Declined")),
        outside: Some(Outside::Nothing),
    };
    applied(&world.operate(id, &ann(nothing)).await);
    assert_eq!(watches(&world).await, 1);
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    act_late(&world);
    is_taken_back(&world, id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_tried_step_that_a_person_replaces_is_watched() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = Arc::new(Semaphore::new(0));
    world.provider.script("do-2", [Behaviour::Held(gate.clone(), Behaviour::NotDone.into())]);
    let id = world.start::<Five>("replaced", ()).await;
    world.asked("do-2", 1).await;
    let stopping = tokio::spawn(worker.stop());
    eventually("the worker to take nothing more", async || world.engine.room() == 0).await;
    gate.add_permits(1);
    stopping.await.expect("it stops");
    let again = Verb::EditAndRetry(serde_json::json!({ "Step": 2 }));
    applied(&world.operate(id, &ann(again)).await);
    assert_eq!(watches(&world).await, 1);
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}
