//! A person finds out the outcome of a step in doubt while the rest is being taken back.

use serde_json::json;
use stepwise_engine::{
    Answer,
    operate::{Instruction, Operated, Outside, Refusal, Verb, WrongStatus},
};
use uuid::Uuid;

use super::{mark, refused, stuck_undo};
use crate::{
    odd::{self, Odd},
    plain::{Five, Signal},
    provider::Behaviour,
    tasks::{Root, Todo},
    world::{Seen, World, ann, applied, quick},
};

/// `Five`, unwinding: its third step was not answered, and may still act late.
async fn in_doubt(world: &World, subject: &str) -> Uuid {
    let waits = |seen: &Seen| seen.waiting_on.as_deref() == Some("retry");
    world.provider.script("do-3", [Behaviour::SilentBefore]);
    let before = world.provider.requests("probe-3").len();
    let id = world.start::<Five>(subject, ()).await;
    world.asked("probe-3", before + 1).await;
    world.until(id, "the wait", waits).await;
    assert_eq!(world.signal::<Five>(id, "stop", Signal::Stop).await, Answer::Applied);
    world.asked("probe-3", before + 2).await;
    let seen = world.until(id, "the wait", waits).await;
    assert_eq!(seen.status, "unwinding", "it may still come");
    id
}

/// The third step, as their books have it.
fn found(outside: Outside) -> Instruction {
    ann(mark("their books", Some(json!({ "Done": 3 })), Some(outside)))
}

async fn statuses(world: &World, id: Uuid) -> Vec<String> {
    world.effects(id).await.into_iter().map(|effect| effect.1).collect()
}

#[tokio::test]
async fn what_a_person_finds_standing_while_it_unwinds_is_taken_back_with_the_rest() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = in_doubt(&world, "stands").await;
    let key = world.provider.requests("do-3").remove(0).key;
    world.provider.act_late("do-3", &key, "late 3");
    applied(&world.operate(id, &found(Outside::Stands("late 3".to_owned()))).await);
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.reason.as_deref()), ("unwound", Some("\"stopped\"")));
    let undos = world.provider.requests("undo-3").into_iter().map(|undo| undo.note);
    assert_eq!(undos.collect::<Vec<_>>(), ["stopped, late 3"]);
    assert_eq!(statuses(&world, id).await, ["undone", "undone", "undone"]);
    assert!(world.provider.requests("do-4").is_empty(), "it did not go on");
    let journal = world.journal(id).await;
    assert!(journal.iter().any(|row| row.0 == "settled" && row.1 == Some(3)), "{journal:?}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_a_person_does_not_find_while_it_unwinds_needs_no_undo() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = in_doubt(&world, "nothing").await;
    applied(&world.operate(id, &found(Outside::Nothing)).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert!(world.provider.requests("undo-3").is_empty());
    assert_eq!(statuses(&world, id).await, ["undone", "undone", "refuted"]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn nothing_takes_the_place_of_a_step_in_doubt_while_it_unwinds() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = in_doubt(&world, "in its place").await;
    let seq = world.see(id).await.seq;
    let edit = Verb::EditAndRetry(json!({ "Step": 4 }));
    let unwinding = Refusal::WrongStatus(WrongStatus::Unwinding);
    assert_eq!(refused(world.operate(id, &ann(edit)).await), unwinding);
    assert_eq!(refused(world.operate(id, &ann(Verb::Skip)).await), Refusal::NotSkippable);
    assert_eq!(world.see(id).await.seq, seq, "nothing was written");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_pivot_that_a_person_finds_done_while_it_unwinds_is_a_persons_to_take_back() {
    let world = World::new().await;
    let id = world.start::<Odd>("found done", odd::Input::Charge).await;
    // As a worker leaves it that died in the middle of the attempt; there is no other.
    sqlx::query(
        "-- name: test doubt\nupdate saga.instance set unsettled = true where saga_id = $1",
    )
    .bind(id)
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let stopped = world.signal::<Odd>(id, "stop", odd::Signal::Stop).await;
    assert_eq!(stopped, Answer::Applied);
    assert_eq!(world.see(id).await.status, "unwinding");
    let stands = Some(Outside::Stands("charge 7".to_owned()));
    applied(&world.operate(id, &ann(mark("their books", Some(json!("Done")), stands))).await);
    let seen = world.see(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    let why = seen.last_error.expect("a reason");
    assert!(why.contains("was done after unwinding had been decided"), "{why}");
    assert_eq!(statuses(&world, id).await, ["confirmed"]);
    applied(&world.operate(id, &ann(mark("refunded by hand", None, None))).await);
    assert_eq!(world.see(id).await.status, "unwound");
    assert_eq!(statuses(&world, id).await, ["undone"]);
    world.close().await;
}

#[tokio::test]
async fn only_an_undo_that_failed_is_tried_again_by_its_number() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "by number").await;
    let seq = world.see(id).await.seq;
    for no in [1, 99] {
        let retry = Instruction { undo: Some(no), ..ann(Verb::Retry) };
        assert_eq!(refused(world.operate(id, &retry).await), Refusal::NothingFailed, "undo {no}");
    }
    let seen = world.see(id).await;
    assert_eq!((seen.status.as_str(), seen.seq), ("stuck", seq), "nothing was written");
    applied(&world.operate(id, &Instruction { undo: Some(2), ..ann(Verb::Retry) }).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    let undos = world.provider.operations().into_iter().filter(|op| op.starts_with("undo-"));
    assert_eq!(undos.collect::<Vec<_>>(), ["undo-3", "undo-2", "undo-2", "undo-1"]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_undos_of_earlier_steps_wait_for_the_one_that_is_a_persons() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("settle-whole");
    let id = world.start::<Root>("whole", Todo::new("whole")).await;
    world.asked("settle-whole", 1).await;
    applied(&world.operate(id, &ann(Verb::Cancel)).await);
    gate.add_permits(1);
    let stuck = world.ended(id).await;
    assert_eq!(stuck.status, "stuck", "its pivot was done after all");
    let undos: serde_json::Value = serde_json::from_str(&stuck.undos).expect("JSON");
    let no = undos[1]["no"].as_i64().and_then(|no| i32::try_from(no).ok());
    let by_number = Instruction { undo: no, ..ann(Verb::Retry) };
    let refusal = refused(world.operate(id, &by_number).await);
    assert!(refusal.to_string().contains("mark it done"), "{refusal}");
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    let seen = world.see(id).await;
    assert_eq!(seen.status, "stuck", "the same as before");
    assert_eq!(seen.last_error, stuck.last_error);
    assert!(world.provider.requests("undo-whole").is_empty());
    applied(&world.operate(id, &ann(mark("refunded by hand", None, None))).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.requests("undo-whole").len(), 1, "then the rest follows");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_id_of_an_instruction_is_not_taken_for_another_one() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "same id").await;
    world.provider.script("undo-2", [Behaviour::Declines]);
    let retry = ann(Verb::Retry);
    applied(&world.operate(id, &retry).await);
    assert_eq!(world.ended(id).await.status, "stuck");
    let seq = world.see(id).await.seq;
    for other in [
        Instruction { verb: Verb::Skip, ..retry.clone() },
        Instruction { verb: mark("by hand", None, None), ..retry.clone() },
        Instruction { undo: Some(2), ..retry.clone() },
    ] {
        assert_eq!(refused(world.operate(id, &other).await), Refusal::IdTaken, "{other:?}");
    }
    let same = Instruction { reason: "once more".to_owned(), ..retry };
    assert_eq!(world.operate(id, &same).await, Operated::Repeated);
    assert_eq!(world.see(id).await.seq, seq, "nothing was written");
    worker.stop().await;
    world.close().await;
}
