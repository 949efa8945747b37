//! Outcomes are three-valued: surely not done is tried again, unknown is asked for, a late effect is waited for.

use std::time::Duration;

use serde_json::json;
use stepwise_engine::{
    Answer, Terms,
    operate::{Operated, Outside, Verb},
    testing::Clock,
};

use crate::{
    job::{self, Job},
    odd::{self, Odd},
    order::{Input, Order},
    plain::{Five, LATE, Signal},
    provider::Behaviour,
    world::{World, ann, quick},
};

#[tokio::test]
async fn what_was_surely_not_done_is_tried_again_under_the_same_key() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::NotDone, Behaviour::NotDone]);
    world.provider.script("confirm", [Behaviour::NotDone]);
    let id = world.start::<Five>("retry", ()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    let tries = world.provider.requests("do-2");
    assert_eq!(tries.len(), 3);
    assert!(tries.iter().all(|request| request.key == format!("{id}-2")), "{tries:?}");
    assert!(world.provider.requests("probe-2").is_empty(), "nothing to ask for");

    let input = Input { order: "reference".into(), notify: false };
    let id = world.start::<Order>("reference", input).await;
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(world.provider.requests("create").len(), 1, "the reference is not made anew");
    let confirmed = world.provider.lines().into_iter().filter(|line| line.op == "confirm");
    assert_eq!(confirmed.map(|line| line.reference).collect::<Vec<_>>().len(), 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_before_anything_is_repeated() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::SilentAfter]);
    world.provider.script("do-2", [Behaviour::SilentBefore]);
    world.provider.script("do-4", [Behaviour::Panics]);
    let id = world.start::<Five>("unknown", ()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(
        world.provider.operations(),
        ["do-1", "probe-1", "do-2", "probe-2", "do-2", "do-3", "do-4", "probe-4", "do-4", "do-5"]
    );
    assert!(world.effects(id).await.iter().all(|effect| effect.1 == "confirmed"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn never_seen_counts_only_after_late_effects_have_been_waited_for() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::SilentBefore]);
    let id = world.start::<Five>("late", ()).await;
    world.asked("probe-3", 1).await;
    let seen =
        world.until(id, "the wait", |seen| seen.waiting_on.as_deref() == Some("retry")).await;
    assert_eq!(seen.status, "running");
    // Half of the time is not enough.
    Clock::of(&world.pool).advance(LATE / 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.provider.requests("do-3").len(), 1);
    Clock::of(&world.pool).advance(LATE / 2).await;
    assert_eq!(world.ended(id).await.status, "completed");
    let tries = world.provider.requests("do-3");
    assert_eq!((tries.len(), &tries[0].key), (2, &tries[1].key), "the same attempt once more");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_effect_that_comes_late_while_it_is_waited_for_is_taken_back() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::SilentBefore]);
    let id = world.start::<Five>("late and unwanted", ()).await;
    world.asked("probe-3", 1).await;
    world.until(id, "the wait", |seen| seen.waiting_on.as_deref() == Some("retry")).await;
    assert_eq!(world.signal::<Five>(id, "stop", Signal::Stop).await, Answer::Applied);
    world.asked("probe-3", 2).await;
    world.until(id, "the wait", |seen| seen.waiting_on.as_deref() == Some("retry")).await;
    assert_eq!(world.see(id).await.status, "unwinding", "it may still come");
    let late = world.provider.requests("do-3").remove(0);
    world.provider.act_late("do-3", &late.key, &format!("ref-{}", late.key));
    Clock::of(&world.pool).advance(LATE).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.requests("undo-3").len(), 1);
    assert!(world.effects(id).await.iter().all(|effect| effect.1 == "undone"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_nobody_expected_gets_the_instance_stuck_and_the_worker_goes_on() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::Babbles, Behaviour::Booms]);
    for (subject, expected) in
        [("surprise", "Babble is not expected in 2"), ("panic", "the saga panicked in `on`")]
    {
        let id = world.start::<Five>(subject, ()).await;
        let seen = world.ended(id).await;
        assert_eq!((seen.status.as_str(), seen.waiting_on.as_deref()), ("stuck", Some("operator")));
        assert_eq!(seen.last_error.as_deref(), Some(expected));
        let journal = world.journal(id).await;
        assert_eq!(journal.last().map(|row| row.0.as_str()), Some("stuck"));
        assert!(seen.undos.contains("\"Step\":2"), "what would be taken back is still known");
    }
    let id = world.start::<Five>("next", ()).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_pivot_of_unknown_outcome_is_never_unwound_but_a_person_says_what_became_of_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("charge", vec![Behaviour::SilentAfter; 10_000]);
    let id = world.start::<Job>("charged", job::Input::Charge).await;
    world.asked("charge", 4).await;
    assert_eq!(world.see(id).await.status, "running", "its deadline is a day away");
    Clock::of(&world.pool).advance(Terms::WITHIN).await;
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), &seen.reason), ("stuck", &None), "{seen:?}");
    let why = seen.last_error.expect("a reason");
    assert!(why.starts_with("Charge may have been done and cannot be taken back"), "{why}");
    let stands = Verb::MarkDone {
        evidence: "their books".to_owned(),
        event: Some(json!("Done")),
        outside: Some(Outside::Stands("charge 7".to_owned())),
    };
    let done = world.operate(id, &ann(stands)).await;
    assert!(matches!(&done, Operated::Applied(outlook) if outlook.past_pivot), "{done:?}");
    world.signal::<Job>(id, "go", job::Signal::Go).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_is_cancelled_while_its_pivot_may_have_been_done_is_a_persons_before_it_has_unwound() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("charge", [Behaviour::SilentAfter]);
    let id = world.start::<Odd>("cancelled", odd::Input::Charge).await;
    let waits = |seen: &crate::world::Seen| seen.waiting_on.as_deref() == Some("retry");
    world.until(id, "a retry in a minute", waits).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world.engine.cancel(&mut tx, id, "not wanted").await.expect("it can be asked");
    tx.commit().await.expect("the database is there");
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    let why = seen.last_error.expect("a reason");
    assert!(why.contains("which cannot be taken back, may have been done"), "{why}");
    assert_eq!(world.effects(id).await[0].1, "intent", "nobody knows");
    let refunded = Verb::MarkDone { evidence: "refund 7".to_owned(), event: None, outside: None };
    assert!(matches!(world.operate(id, &ann(refunded)).await, Operated::Applied(_)));
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.effects(id).await[0].1, "undone");
    worker.stop().await;
    world.close().await;
}
