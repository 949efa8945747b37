//! An instance that waits for the end of another one is told, however that one ends.

use std::time::Duration;

use stepwise_engine::{
    Gate, Mismatch, Start, new_id, notice, operate::Verb, shard_of, testing::Clock,
};
use uuid::Uuid;

use crate::{
    job::{Input, Job, Signal},
    plain::Five,
    provider::Behaviour,
    world::{World, ann, applied, eventually, quick},
};

/// A job that waits until `awaited` has ended.
async fn waiter(world: &World, name: &str, awaited: Uuid) -> Uuid {
    let mut tx = world.engine.begin().await.expect("the database is there");
    let start = Start::new(format!("waiter of {name}"), Input::Wait);
    let started = world.engine.start::<Job>(&mut tx, start).await.expect("it can be started");
    world
        .engine
        .signal_at_end::<Job>(&mut tx, awaited, started.id, "ended", &Signal::Go)
        .await
        .expect("the database is there");
    tx.commit().await.expect("the database is there");
    started.id
}

async fn waits(world: &World) -> i64 {
    sqlx::query_scalar("-- name: test waits\nselect count(*) from saga.end_wait")
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
}

/// Stores another signal for the wait that there is.
async fn store(world: &World, event: &str) {
    sqlx::query("-- name: test misfit\nupdate saga.end_wait set event = $1::jsonb, next_at = null")
        .bind(event)
        .execute(&world.pool)
        .await
        .expect("the database is there");
}

async fn misfits(world: &World) -> Vec<Mismatch> {
    Gate::new().knows::<Job>().check(&world.pool).await.expect("the database is there")
}

async fn stuck_undo(world: &World, subject: &str) -> Uuid {
    world.provider.script("do-4", [Behaviour::Declines]);
    world.provider.script("undo-1", [Behaviour::Declines]);
    let id = world.start::<Five>(subject, ()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    id
}

#[tokio::test]
async fn every_end_of_an_instance_is_told_to_who_waits_for_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let hand_over = Verb::HandOver { to: "finance".to_owned() };
    let done =
        Verb::MarkDone { evidence: "bank transfer 7".to_owned(), event: None, outside: None };
    let job = |input| world.start::<Job>("awaited", input);
    // A deadline, which passes when the clock has moved.
    let late = Start::new("late", Input::Wait).within(Duration::from_secs(60));
    let late = world.start_with::<Job>(late).await;
    let waits_for_late = waiter(&world, "late", late).await;

    let awaited = job(Input::Wait).await;
    let waiting = waiter(&world, "completed", awaited).await;
    assert_eq!(world.see(waiting).await.waiting_on.as_deref(), Some("signal"));
    world.signal::<Job>(awaited, "go", Signal::Go).await;
    assert_eq!(world.ended(waiting).await.status, "completed");

    let by_a_person: [(&str, &str, &[Verb]); 5] = [
        ("unwound", "job", &[Verb::Cancel]),
        ("unwound", "job", &[Verb::Pause, Verb::Cancel]),
        ("abandoned", "job", &[Verb::Pause, hand_over.clone()]),
        ("unwound", "five", &[Verb::Skip]),
        ("unwound", "five", &[done]),
    ];
    for (n, (status, kind, verbs)) in by_a_person.into_iter().enumerate() {
        let awaited = match kind {
            "job" => job(Input::Wait).await,
            _ => stuck_undo(&world, &format!("five {n}")).await,
        };
        let waiting = waiter(&world, &format!("{status} {n}"), awaited).await;
        for verb in verbs {
            applied(&world.operate(awaited, &ann(verb.clone())).await);
        }
        assert_eq!(world.ended(awaited).await.status, status, "{verbs:?}");
        assert_eq!(world.ended(waiting).await.status, "completed", "{verbs:?}");
    }

    // It ended long ago, or never was.
    for gone in [awaited, new_id(shard_of("nobody"))] {
        let waiting = waiter(&world, &format!("{gone}"), gone).await;
        assert_eq!(world.ended(waiting).await.status, "completed");
    }
    assert_eq!(
        (world.see(waits_for_late).await.status.as_str(), waits(&world).await),
        ("running", 1)
    );
    Clock::of(&world.pool).advance(Duration::from_secs(61)).await;
    assert_eq!(world.ended(waits_for_late).await.status, "completed");
    eventually("all waits to be over", async || waits(&world).await == 0).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_waiter_that_is_paused_or_has_ended_or_cannot_be_read_holds_up_nobody() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let awaited = world.start::<Job>("awaited", Input::Wait).await;
    let mut waiting = Vec::new();
    for name in ["paused", "ended", "unreadable", "well"] {
        waiting.push(waiter(&world, name, awaited).await);
    }
    let [paused, ended, unreadable, well] = waiting[..] else { unreachable!("four") };
    applied(&world.operate(paused, &ann(Verb::Pause)).await);
    world.signal::<Job>(ended, "go", Signal::Go).await;
    assert_eq!(world.ended(ended).await.status, "completed");
    let spoil =
        "-- name: test spoil\nupdate saga.instance set state = '\"Elsewhere\"' where saga_id = $1";
    sqlx::query(spoil).bind(unreadable).execute(&world.pool).await.expect("it can be spoiled");
    world.signal::<Job>(awaited, "go", Signal::Go).await;
    assert_eq!(world.ended(well).await.status, "completed");
    eventually("all to be told", async || waits(&world).await == 0).await;
    assert_eq!(world.see(paused).await.status, "paused");
    applied(&world.operate(paused, &ann(Verb::Resume)).await);
    assert_eq!(world.ended(paused).await.status, "completed", "it kept the signal");
    assert_eq!(world.ended(unreadable).await.status, "stuck", "a person is told");
    let mend =
        "-- name: test mend\nupdate saga.instance set state = '\"Waiting\"' where saga_id = $1";
    sqlx::query(mend).bind(unreadable).execute(&world.pool).await.expect("it can be mended");
    applied(&world.operate(unreadable, &ann(Verb::Retry)).await);
    assert_eq!(world.ended(unreadable).await.status, "completed", "it kept the signal");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_wait_whose_signal_does_not_fit_any_more_is_named_by_the_gate_and_told_to_operators() {
    let world = World::new().await;
    let awaited = world.start::<Job>("awaited", Input::Wait).await;
    let waiting = waiter(&world, "misfit", awaited).await;
    let store = async |event| store(&world, event).await;
    let check = async || misfits(&world).await;
    assert_eq!(check().await, []);
    store("\"Run\"").await;
    let found = check().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].why.starts_with("a wait for an end: the stored signal does not fit"));
    assert_eq!(found[0].samples, [waiting]);

    let worker = world.worker(quick()).await;
    world.signal::<Job>(awaited, "go", Signal::Go).await;
    let told = async || notice::after(&world.pool, 0, 10).await.expect("the database is there");
    eventually("a notice", async || !told().await.is_empty()).await;
    store("\"Run\"").await;
    let is_put_off = "-- name: test put off\nselect next_at is not null from saga.end_wait";
    eventually("another try", async || {
        sqlx::query_scalar(is_put_off).fetch_one(&world.pool).await.expect("the wait is there")
    })
    .await;
    let told = told().await;
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert_eq!((told[0].saga_id, &told[0].kind), (waiting, &notice::Kind::Failing));
    assert!(told[0].why.contains("does not fit"), "{}", told[0].why);
    store("\"Go\"").await;
    assert_eq!(world.ended(waiting).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_wait_of_a_waiter_that_has_ended_holds_up_no_deploy_and_is_told_to_nobody() {
    let world = World::new().await;
    let awaited = world.start::<Job>("awaited", Input::Wait).await;
    let waiting = waiter(&world, "gone", awaited).await;
    store(&world, "\"Run\"").await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    world.engine.cancel(&mut tx, waiting, "not wanted").await.expect("it can be asked");
    tx.commit().await.expect("the database is there");
    let worker = world.worker(quick()).await;
    assert_eq!(world.ended(waiting).await.status, "unwound");
    assert_eq!(misfits(&world).await, []);
    world.signal::<Job>(awaited, "go", Signal::Go).await;
    eventually("the wait to go", async || waits(&world).await == 0).await;
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    assert!(told.is_empty(), "{told:?}");
    worker.stop().await;
    world.close().await;
}
