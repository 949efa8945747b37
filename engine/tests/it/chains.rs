//! Chains of tx steps, starts inside the caller's transaction, and what happens when either fails.

use std::time::{Duration, Instant};

use stepwise_engine::{Answer, CallOff, Start, StartError, Status, Transaction, testing::Clock};

use crate::{
    odd::{self, Odd},
    order::{Input, Order, Signal},
    plain::Five,
    provider::Behaviour,
    world::{World, engine, quick},
};

fn input(order: &str) -> Input {
    Input { order: order.to_owned(), notify: false }
}

#[tokio::test]
async fn a_chain_of_16_tx_steps_is_allowed_and_one_of_17_is_not() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    let started = world
        .engine
        .start::<Odd>(&mut tx, Start::new("16", odd::Input::Chain(16)))
        .await
        .expect("16 are allowed");
    assert_eq!(started.status, Status::Completed, "the caller learns how far it got");
    tx.commit().await.expect("the database is there");
    let mut tx = world.engine.begin().await.expect("the database is there");
    let refused = world.engine.start::<Odd>(&mut tx, Start::new("17", odd::Input::Chain(17))).await;
    let Err(refused) = refused else { panic!("17 are too many") };
    assert!(refused.to_string().contains("more than 16"), "{refused}");
    tx.rollback().await.expect("the database is there");

    for (links, status) in [(16, "completed"), (17, "stuck")] {
        let id = world.start::<Odd>(&format!("late {links}"), odd::Input::LateChain(links)).await;
        assert_eq!(world.signal::<Odd>(id, "go", odd::Signal::Go).await, Answer::Applied);
        assert_eq!(world.ended(id).await.status, status, "{links} links");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_start_whose_first_chain_is_refused_ends_at_once_and_can_be_rolled_back() {
    let world = World::new().await;
    sqlx::query("-- name: test sell out\nupdate test.stock set on_hand = 0")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let mut tx = world.engine.begin().await.expect("the database is there");
    let started = world
        .engine
        .start::<Order>(&mut tx, Start::new("sold out", input("sold out")))
        .await
        .expect("a refusal is no error");
    assert_eq!(started.status, Status::Unwound);
    tx.rollback().await.expect("the database is there");
    world.close().await;
}

#[tokio::test]
async fn an_instance_that_was_never_handed_over_is_driven_within_a_few_seconds() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let mut joined = Transaction::over(&mut tx);
    let started = world
        .engine
        .start::<Five>(&mut joined, Start::new("dropped", ()))
        .await
        .expect("it can be started");
    let joined = joined.hand_over_later();
    tx.commit().await.expect("the database is there");
    drop(joined);
    let begun = Instant::now();
    assert_eq!(world.ended(started.id).await.status, "completed");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_subject_has_one_open_instance_unless_start_keys_tell_them_apart() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-1");
    let id = world.start::<Five>("one", ()).await;
    let mut tx = world.engine.begin().await.expect("the database is there");
    let second = world.engine.start::<Five>(&mut tx, Start::new("one", ())).await;
    assert!(
        matches!(&second, Err(StartError::AlreadyOpen { saga: "five", subject }) if subject == "one")
    );
    let keyed = Start { start_key: "second".into(), ..Start::new("one", ()) };
    let keyed = world.engine.start::<Five>(&mut tx, keyed).await.expect("another key");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(keyed.id).await.status, "completed");
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    let again = world.start::<Five>("one", ()).await;
    assert_eq!(world.ended(again).await.status, "completed", "an ended one is in nobody's way");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_outcome_is_committed_alone_when_the_chain_behind_it_fails() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // Class 22 is no transient error: tried again by policy.
    world.provider.script("place", [Behaviour::Raises("22012")]);
    let id = world.start::<Order>("alone", input("alone")).await;
    assert_eq!(world.ended(id).await.status, "completed");
    let journal = world.journal(id).await;
    let kinds = journal.iter().map(|row| row.0.as_str()).collect::<Vec<_>>();
    assert_eq!(kinds, ["start", "tx", "outcome", "outcome", "attempt", "tx"], "{journal:?}");
    assert_eq!(journal[4].1, journal[5].1, "the failed try names its step: {journal:?}");
    let (outcome, tx): (String, String) = sqlx::query_as(
        "-- name: test commits
        select (select xmin::text from saga.journal where saga_id = $1 and seq = 4),
            (select xmin::text from saga.journal where saga_id = $1 and seq = 6)",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_ne!(outcome, tx);
    assert_eq!(world.provider.requests("confirm").len(), 1, "the outside is not asked again");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_cancel_drops_a_chain_that_is_waiting_to_be_tried_again() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", vec![Behaviour::Raises("22012"); 99]);
    let id = world.start::<Order>("dropped chain", input("dropped chain")).await;
    world.until(id, "a failed chain", |seen| seen.attempt > 0).await;
    // `Placing` does not take a cancel; nothing is decided.
    let answer = world.signal::<Order>(id, "no", Signal::CancelRequested).await;
    assert_eq!(answer, Answer::Refused);
    let seen = world.see(id).await;
    assert_eq!(seen.status, "running");
    assert!(seen.last_error.unwrap_or_default().contains("scripted"));
    world.provider.forget_script();
    Clock::of(&world.pool).advance(Duration::from_secs(60)).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_deadlock_in_a_chain_is_tried_again_at_once() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", [Behaviour::Raises("40P01"), Behaviour::Raises("40001")]);
    let id = world.start::<Order>("deadlock", input("deadlock")).await;
    assert_eq!(world.ended(id).await.status, "completed");
    let attempts = world.journal(id).await.iter().filter(|row| row.0 == "attempt").count();
    assert_eq!(attempts, 2);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn two_chains_that_really_deadlock_both_end() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("place");
    let id = world.start::<Order>("crossed", input("crossed")).await;
    crate::world::eventually("the chain to hold the order", async || {
        let free: bool = sqlx::query_scalar(
            "-- name: test free
            select exists (select from test.orders where id = 'crossed' for update skip locked)",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
        !free
    })
    .await;
    // A caller that breaks the lock order: instance first, then the order.
    let mut tx = world.pool.begin().await.expect("the database is there");
    sqlx::query("-- name: test patience\nset local deadlock_timeout = '10s'")
        .execute(&mut *tx)
        .await
        .expect("a superuser may");
    let answer = world.engine.signal::<Order>(&mut tx, id, "note", Signal::Noted).await;
    assert_eq!(answer.expect("it is there"), Answer::Applied);
    gate.add_permits(1);
    sqlx::query("-- name: test cross\nselect from test.orders where id = 'crossed' for update")
        .execute(&mut *tx)
        .await
        .expect("the worker is the victim");
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_tx_step_that_panics_gets_its_instance_stuck_and_nothing_of_it_remains() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("place", [Behaviour::Panics]);
    let id = world.start::<Order>("panic", input("panic")).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    assert_eq!(seen.last_error.as_deref(), Some("a tx step panicked"));
    assert!(world.effects(id).await.iter().all(|effect| effect.1 == "confirmed"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_saga_that_panics_anywhere_gets_its_instance_stuck_and_the_worker_goes_on() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // Not asked of the engine: its claimer holds some permits while it looks for work.
    let room = quick().room;
    let id = world.start::<Odd>("explodes", odd::Input::Explode).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.last_error.as_deref(), Some("the saga panicked"), "{seen:?}");
    crate::world::eventually("the permit to be free again", async || world.engine.room() == room)
        .await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_activity_pivot_done_after_a_cancel_was_taken_needs_a_person() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("charge");
    let id = world.start::<Odd>("charged", odd::Input::Charge).await;
    world.asked("charge", 1).await;
    assert_eq!(world.signal::<Odd>(id, "stop", odd::Signal::Stop).await, Answer::Applied);
    gate.add_permits(1);
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "never unwound while the charge stands: {seen:?}");
    assert_eq!(world.effects(id).await[0].1, "confirmed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_was_done_before_a_transition_that_cannot_be_stored_is_taken_back_all_the_same() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = world.start::<Odd>("swollen", odd::Input::PostAndSwell).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    assert_eq!(world.effects(id).await[0].1, "confirmed", "it was done, whatever follows");
    let mut tx = world.pool.begin().await.expect("the database is there");
    let begun = world.engine.cancel(&mut tx, id, "not wanted").await.expect("it is there");
    tx.commit().await.expect("the database is there");
    assert_eq!(begun, CallOff::Begun);
    let seen = world
        .until(id, "its end", |seen| ["unwound", "completed"].contains(&seen.status.as_str()))
        .await;
    assert_eq!(seen.status, "unwound", "{seen:?}");
    assert_eq!(world.provider.requests("unpost").len(), 1);
    assert_eq!(world.effects(id).await[0].1, "undone");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_attempt_not_done_settles_no_earlier_one_that_is_unknown() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("post", [Behaviour::SilentAfter, Behaviour::NotDone]);
    let id = world.start::<Odd>("posted", odd::Input::Post).await;
    world.until(id, "the retry", |seen| seen.waiting_on.as_deref() == Some("retry")).await;
    Clock::of(&world.pool).advance(Duration::from_secs(60)).await;
    world
        .until(id, "the next retry", |seen| {
            seen.attempt == 2 && seen.waiting_on.as_deref() == Some("retry")
        })
        .await;
    assert_eq!(world.signal::<Odd>(id, "stop", odd::Signal::Stop).await, Answer::Applied);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.requests("unpost").len(), 1, "the first attempt had posted");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_start_by_a_process_without_a_worker_is_driven_by_another() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let elsewhere = engine(world.pool.clone(), &world.provider);
    let mut tx = elsewhere.begin().await.expect("the database is there");
    let started = elsewhere
        .start_many::<Five>(&mut tx, vec![Start::new("a", ()), Start::new("b", ())])
        .await
        .expect("they can be started");
    tx.commit().await.expect("the database is there");
    for started in started {
        assert_eq!(world.ended(started.id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}
