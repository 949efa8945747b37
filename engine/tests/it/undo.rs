//! Undo: recorded before the step runs, done last first, told why; a failed one is a person's.

use crate::{
    order::{Input, Order},
    plain::Five,
    provider::Behaviour,
    world::{World, quick},
};

#[tokio::test]
async fn an_undo_is_durable_before_its_step_has_been_called() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-2");
    let id = world.start::<Five>("undo first", ()).await;
    world.asked("do-2", 1).await;
    let seen = world.see(id).await;
    assert!(seen.undos.contains("\"Step\":2"), "in the row: {}", seen.undos);
    assert_eq!(world.provider.lines().len(), 1, "the second step has not acted yet");
    let (undo, intent): (String, String) = sqlx::query_as(
        "-- name: test undo
        select j.undo::text, e.status from saga.journal j join saga.effect e using (shard, saga_id)
        where saga_id = $1 and j.seq = 2 and e.step_no = 2 and j.xmin = e.xmin",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the commit that decided step 2 wrote its undo and its intent");
    assert!(undo.contains("\"Step\":2"), "{undo}");
    assert_eq!(intent, "intent");
    gate.add_permits(1);
    world.ended(id).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn steps_are_taken_back_last_first_and_each_undo_learns_the_reason_and_the_reference() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-4", [Behaviour::Declines]);
    let id = world.start::<Five>("declined", ()).await;
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.undos.as_str()), ("unwound", "[]"));
    assert_eq!(
        world.provider.operations(),
        ["do-1", "do-2", "do-3", "do-4", "undo-3", "undo-2", "undo-1"]
    );
    for n in 1..=3 {
        let undo = &world.provider.requests(&format!("undo-{n}"))[0];
        assert_eq!(undo.note, format!("declined, ref-{id}-{n}"));
        assert_eq!(undo.key, format!("{id}-{n}-undo"));
    }
    let effects = world.effects(id).await;
    let statuses = effects.iter().map(|effect| effect.1.as_str()).collect::<Vec<_>>();
    assert_eq!(statuses, ["undone", "undone", "undone", "refuted"]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_tx_undo_runs_in_the_transaction_that_ends_the_instance() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("confirm", [Behaviour::Declines]);
    let input = Input { order: "tx undo".into(), notify: false };
    let id = world.start::<Order>("tx undo", input).await;
    assert_eq!(world.ended(id).await.status, "unwound");
    let together: bool = sqlx::query_scalar(
        "-- name: test together
        select o.xmin = i.xmin and o.status = 'declined' from test.orders o join saga.instance i on i.subject = o.id
        where i.saga_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("both are there");
    assert!(together, "the order and the end of its instance are one commit");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_undo_that_cannot_be_done_leaves_the_instance_stuck_with_what_is_left_to_undo() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-4", [Behaviour::Declines]);
    world.provider.script("undo-2", [Behaviour::Declines]);
    let id = world.start::<Five>("stuck undo", ()).await;
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.waiting_on.as_deref()), ("stuck", Some("operator")));
    assert!(seen.undos.contains("\"Step\":1") && seen.undos.contains("\"Step\":2"));
    assert!(!seen.undos.contains("\"Step\":3"), "that one was done: {}", seen.undos);
    let why = seen.last_error.unwrap_or_default();
    assert!(why.contains("step 2 cannot be undone: captured already"), "{why}");
    assert!(world.provider.requests("undo-1").is_empty(), "nothing is skipped");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_undo_is_repeated_under_its_key_and_gets_stuck_when_its_policy_is_used_up() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::Declines]);
    world.provider.script("undo-2", [Behaviour::NotDone, Behaviour::Panics]);
    world.provider.script("undo-1", vec![Behaviour::NotDone; 5]);
    let id = world.start::<Five>("failing undo", ()).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck");
    assert!(seen.undos.contains("\"Step\":1") && !seen.undos.contains("\"Step\":2"));
    let why = seen.last_error.unwrap_or_default();
    assert!(why.contains("the undo of step 1 failed 5 times in"), "{why}");
    let tries = world.provider.requests("undo-2");
    assert_eq!(tries.len(), 3);
    assert!(tries.iter().all(|request| request.key == format!("{id}-2-undo")));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_tx_undo_that_fails_for_good_leaves_the_instance_stuck_with_the_undo_listed() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("create", [Behaviour::Declines]);
    world.provider.script("release", [Behaviour::Panics]);
    let input = Input { order: "bad release".into(), notify: false };
    let id = world.start::<Order>("bad release", input).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    assert!(seen.undos.contains("Reserve"), "{}", seen.undos);
    assert_eq!(world.effects(id).await[0].1, "refuted", "what was known is not lost with it");
    worker.stop().await;
    world.close().await;
}
