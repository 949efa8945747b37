//! The verbs of a person on an instance that needs one.

mod unwinding;

use serde_json::{Value, json};
use stepwise_engine::{
    notice::{self, Kind},
    operate::{Instruction, Operated, Outside, Refusal, Verb, WrongStatus},
    testing::Clock,
};
use uuid::Uuid;

use crate::{
    journey::Journey,
    odd::{self, Odd},
    order::{APPROVAL, Input, Order, Signal as OrderSignal},
    plain::{Five, Signal as FiveSignal},
    provider::Behaviour,
    world::{Seen, World, ann, applied, quick},
};

fn refused(operated: Operated) -> Refusal {
    match operated {
        Operated::Refused(refusal) => refusal,
        other => panic!("it is not refused: {other:?}"),
    }
}

fn mark(evidence: &str, event: Option<Value>, outside: Option<Outside>) -> Verb {
    Verb::MarkDone { evidence: evidence.to_owned(), event, outside }
}

/// The journal's rows of that kind.
async fn told(world: &World, id: Uuid) -> Vec<Value> {
    let rows = world.journal(id).await.into_iter().filter(|row| row.0 == "operator");
    rows.map(|row| serde_json::from_str(&row.2.unwrap_or_default()).expect("JSON")).collect()
}

/// `Five`, stuck at the undo of its second step.
async fn stuck_undo(world: &World, subject: &str) -> Uuid {
    world.provider.script("do-4", [Behaviour::Declines]);
    world.provider.script("undo-2", [Behaviour::Declines]);
    let id = world.start::<Five>(subject, ()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    id
}

/// An order behind its pivot, stuck at its notice.
async fn stuck_notice(world: &World, subject: &str) -> Uuid {
    world.provider.script("notify", vec![Behaviour::NotDone; 5]);
    let id = world.start::<Order>(subject, Input { order: subject.into(), notify: true }).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    id
}

#[tokio::test]
async fn a_failed_undo_is_tried_again_under_its_key_and_the_rest_follows() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "retry").await;
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    let keys = world.provider.requests("undo-2").into_iter().map(|r| r.key).collect::<Vec<_>>();
    assert_eq!(keys, [format!("{id}-2-undo"), format!("{id}-2-undo")]);
    assert_eq!(world.provider.requests("undo-1").len(), 1);
    let told = told(&world, id).await;
    assert_eq!((&told[0]["by"], &told[0]["reason"]), (&json!("ann"), &json!("it is mended")));
    assert_eq!(
        (&told[0]["before"]["status"], &told[0]["after"]["status"]),
        (&json!("stuck"), &json!("unwinding"))
    );
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_failed_undo_that_a_person_has_done_is_undone_with_the_evidence_as_its_reference() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "done").await;
    applied(&world.operate(id, &ann(mark("bank transfer 7", None, None))).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.requests("undo-2").len(), 1, "it is not asked for again");
    let effects: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "-- name: test ledger
        select status, reference, undo_reference from saga.effect where saga_id = $1 order by step_no limit 2",
    )
    .bind(id)
    .fetch_all(&world.pool)
    .await
    .expect("the database is there");
    let own = |n| Some(format!("ref-{id}-{n}"));
    assert_eq!(effects[1], ("undone".to_owned(), own(2), Some("bank transfer 7".to_owned())));
    assert_eq!((&effects[0].0[..], &effects[0].1), ("undone", &own(1)), "its own reference stays");
    assert!(effects[0].2.is_some(), "beside that of its taking back");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_skipped_undo_is_waived_and_never_without_a_reason() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "skip").await;
    let silent = Instruction { reason: " ".to_owned(), ..ann(Verb::Skip) };
    assert_eq!(refused(world.operate(id, &silent).await), Refusal::NoReason);
    let nobody = Instruction { by: String::new(), ..ann(Verb::Skip) };
    assert_eq!(refused(world.operate(id, &nobody).await), Refusal::NoReason);
    assert_eq!(world.see(id).await.status, "stuck");
    applied(&world.operate(id, &ann(Verb::Skip)).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    let effects = world.effects(id).await;
    let statuses = effects.iter().map(|effect| effect.1.as_str()).collect::<Vec<_>>();
    assert_eq!(statuses, ["undone", "waived", "undone", "refuted"]);
    assert_eq!(told(&world, id).await[0]["reason"], "it is mended");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_undo_decided_anew_has_another_key_and_must_fit_the_saga() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "edit undo").await;
    let before = world.see(id).await.seq;
    for (unfit, why) in [
        (json!({ "Shout": 1 }), "unknown variant `Shout`"),
        (json!({ "step": 1 }), "unknown variant `step`"),
        (json!({ "Step": "two" }), "invalid type"),
    ] {
        let refusal = refused(world.operate(id, &ann(Verb::EditAndRetry(unfit))).await);
        assert!(matches!(&refusal, Refusal::DoesNotFit(text) if text.contains(why)), "{refusal}");
    }
    assert_eq!(world.see(id).await.seq, before, "nothing was written");
    let verb = Verb::EditAndRetry(json!({ "Step": 2 }));
    applied(&world.operate(id, &ann(verb)).await);
    assert_eq!(world.ended(id).await.status, "unwound");
    let last = world.provider.requests("undo-2").pop().expect("it was asked for");
    assert_eq!(last.key, format!("{id}-2-undo-{}", before + 1));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_step_decided_anew_has_a_new_number_and_the_journal_shows_before_and_after() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("mail-a", vec![Behaviour::NotDone; 5]);
    let id = world.start::<Journey>("edit", ()).await;
    let stuck = world.ended(id).await;
    assert_eq!(stuck.status, "stuck");
    let verb = Verb::EditAndRetry(json!({ "Mail": { "to": "b" } }));
    applied(&world.operate(id, &ann(verb)).await);
    assert_eq!(world.ended(id).await.status, "completed");
    let mail = world.provider.requests("mail-b").pop().expect("it was asked for");
    assert_eq!(mail.key, format!("{id}-{}", stuck.seq + 1));
    let told = &told(&world, id).await[0];
    assert_eq!(told["before"]["pending"]["call"]["activity"]["Mail"]["to"], "a");
    assert_eq!(told["after"]["pending"]["call"]["activity"]["Mail"]["to"], "b");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_would_be_tried_again_later_is_tried_again_now() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("ping", [Behaviour::NotDone]);
    let id = world.start::<Odd>("later", odd::Input::Explode).await;
    world
        .until(id, "a retry in a minute", |seen| seen.waiting_on.as_deref() == Some("retry"))
        .await;
    assert_eq!(world.provider.requests("ping").len(), 1);
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    world.asked("ping", 2).await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_event_that_the_saga_could_not_take_is_taken_again_once_it_can() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-2", [Behaviour::Babbles]);
    let id = world.start::<Five>("babble", ()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    let again = world.ended(id).await;
    assert_eq!(again.status, "stuck", "the bug is still there");
    assert_eq!(world.provider.requests("do-2").len(), 1, "but the outside is not asked again");
    let stands = ann(mark("looked it up", Some(json!({ "Done": 3 })), None));
    let refusal = refused(world.operate(id, &stands).await);
    assert!(
        matches!(&refusal, Refusal::DoesNotFit(why) if why.contains("is not expected")),
        "{refusal}"
    );
    assert_eq!(world.see(id).await.seq, again.seq, "nothing was written");
    applied(&world.operate(id, &ann(mark("looked it up", Some(json!({ "Done": 2 })), None))).await);
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_activity_that_a_person_has_done_goes_on_with_its_event_and_its_reference() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_notice(&world, "mark activity").await;
    applied(&world.operate(id, &ann(mark("called them", Some(json!("Notified")), None))).await);
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_stands_outside_must_be_said_where_the_ledger_asks() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("charge", [Behaviour::NotDone]);
    let id = world.start::<Odd>("charge", odd::Input::Charge).await;
    world
        .until(id, "a retry in a minute", |seen| seen.waiting_on.as_deref() == Some("retry"))
        .await;
    let done = || Some(json!("Done"));
    let refusal = refused(world.operate(id, &ann(mark("seen", done(), None))).await);
    assert!(matches!(refusal, Refusal::DoesNotFit(_)), "{refusal}");
    let stands = Outside::Stands("receipt 5".to_owned());
    applied(&world.operate(id, &ann(mark("seen", done(), Some(stands)))).await);
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(world.effects(id).await[0].1, "confirmed");
    assert_eq!(world.effects(id).await[0].2.as_deref(), Some("receipt 5"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_forward_step_is_skipped_only_where_the_saga_says_what_stands_for_it() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("insure", [Behaviour::NotDone]);
    let id = world.start::<Journey>("skip", ()).await;
    let waits = |seen: &Seen| seen.waiting_on.as_deref() == Some("retry");
    world.until(id, "a retry in a minute", waits).await;
    applied(&world.operate(id, &ann(Verb::Skip)).await);
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(world.provider.requests("insure").len(), 1);
    let notice = stuck_notice(&world, "not skippable").await;
    assert_eq!(refused(world.operate(notice, &ann(Verb::Skip)).await), Refusal::NotSkippable);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_is_being_driven_is_left_to_its_driver_unless_it_is_paused() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("insure");
    let id = world.start::<Journey>("driven", ()).await;
    world.asked("insure", 1).await;
    let driven = Refusal::WrongStatus(WrongStatus::BeingDriven);
    assert_eq!(refused(world.operate(id, &ann(Verb::Skip)).await), driven);
    assert_eq!(refused(world.operate(id, &ann(Verb::Retry)).await), driven);
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    let paused = Refusal::WrongStatus(WrongStatus::Paused);
    assert_eq!(refused(world.operate(id, &ann(Verb::Retry)).await), paused);
    gate.add_permits(1);
    applied(&world.operate(id, &ann(Verb::Resume)).await);
    assert_eq!(world.ended(id).await.status, "completed");
    let notices = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    assert_eq!(notices.iter().map(|one| &one.kind).collect::<Vec<_>>(), [&Kind::Paused]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn nothing_is_skipped_or_edited_while_its_last_attempt_may_have_had_an_effect() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("charge", [Behaviour::SilentBefore]);
    let id = world.start::<Odd>("unsettled", odd::Input::Charge).await;
    world
        .until(id, "a retry in a minute", |seen| seen.waiting_on.as_deref() == Some("retry"))
        .await;
    let verb = Verb::EditAndRetry(json!("Ping"));
    assert_eq!(refused(world.operate(id, &ann(verb)).await), Refusal::Unsettled);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn who_hands_over_leaves_a_list_of_what_is_left_and_the_instance_has_ended() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "hand over").await;
    let verb = Verb::HandOver { to: "finance".to_owned() };
    applied(&world.operate(id, &ann(verb)).await);
    let seen = world.see(id).await;
    assert_eq!((seen.status.as_str(), seen.undos.as_str()), ("abandoned", "[]"));
    let told = &told(&world, id).await[0];
    assert_eq!(told["before"]["undos"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["effects"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["effects"][0]["reference"], format!("ref-{id}-1"));
    let statuses = world.effects(id).await.into_iter().map(|e| e.1).collect::<Vec<_>>();
    assert_eq!(statuses, ["waived", "waived", "undone", "refuted"]);
    let notices = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    let last = notices.last().expect("it was told");
    assert_eq!(
        (&last.kind, last.why.as_str()),
        (&Kind::HandedOver, "to finance, by ann: it is mended")
    );
    let refusal = refused(world.operate(id, &ann(Verb::Retry)).await);
    assert_eq!(refusal, Refusal::WrongStatus(WrongStatus::Abandoned));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_paused_instance_keeps_its_timer_and_its_signals() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("confirm", [Behaviour::Challenges, Behaviour::Challenges]);
    let (approved, expired) = ("approved", "expired");
    let mut ids = Vec::new();
    for subject in [approved, expired] {
        let id =
            world.start::<Order>(subject, Input { order: subject.into(), notify: false }).await;
        world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
        applied(&world.operate(id, &ann(Verb::Pause)).await);
        let seen = world.see(id).await;
        assert_eq!(
            (seen.status.as_str(), seen.waiting_on.as_deref()),
            ("paused", Some("operator"))
        );
        ids.push(id);
    }
    let answer = world.signal::<Order>(ids[0], "yes", OrderSignal::Approved).await;
    assert_eq!(answer, stepwise_engine::Answer::Kept);
    Clock::of(&world.pool).advance(APPROVAL * 2).await;
    for id in &ids {
        assert_eq!(world.see(*id).await.status, "paused", "time does not wake it");
        applied(&world.operate(*id, &ann(Verb::Resume)).await);
    }
    assert_eq!(world.ended(ids[0]).await.status, "completed", "the kept signal comes first");
    assert_eq!(world.ended(ids[1]).await.status, "unwound", "its time has passed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_attempt_in_flight_when_it_is_paused_is_asked_about_when_it_goes_on() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-2");
    let id = world.start::<Five>("in flight", ()).await;
    world.asked("do-2", 1).await;
    applied(&world.operate(id, &ann(Verb::Pause)).await);
    gate.add_permits(1);
    world.until(id, "the pause", |seen| seen.owner.is_none()).await;
    applied(&world.operate(id, &ann(Verb::Resume)).await);
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(world.provider.requests("probe-2").len(), 1, "it was not repeated blindly");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_same_instruction_is_followed_once() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = stuck_undo(&world, "twice").await;
    world.provider.script("undo-2", [Behaviour::Declines]);
    let retry = ann(Verb::Retry);
    applied(&world.operate(id, &retry).await);
    assert_eq!(world.ended(id).await.status, "stuck");
    assert_eq!(world.operate(id, &retry).await, Operated::Repeated);
    assert_eq!(world.see(id).await.status, "stuck");
    assert_eq!(told(&world, id).await.len(), 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason_and_nothing_is_written() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let past = stuck_notice(&world, "past").await;
    assert_eq!(refused(world.operate(past, &ann(Verb::Cancel)).await), Refusal::PastPivot);
    let seq = world.see(past).await.seq;
    let looked_at = Instruction { seq: Some(seq - 1), ..ann(Verb::Retry) };
    assert_eq!(refused(world.operate(past, &looked_at).await), Refusal::MovedOn { seq });
    let which = Instruction { undo: Some(99), ..ann(Verb::Skip) };
    assert_eq!(refused(world.operate(past, &which).await), Refusal::NothingFailed);
    let unpaused = refused(world.operate(past, &ann(Verb::Resume)).await);
    assert_eq!(unpaused, Refusal::WrongStatus(WrongStatus::Stuck));
    assert_eq!(refused(world.operate(Uuid::now_v7(), &ann(Verb::Retry)).await), Refusal::NotFound);
    sqlx::query("-- name: test newer\nupdate saga.instance set version = 9 where saga_id = $1")
        .bind(past)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let unreadable = refused(world.operate(past, &ann(Verb::Retry)).await);
    assert!(matches!(unreadable, Refusal::Unreadable(_)), "{unreadable}");
    assert_eq!(world.see(past).await.seq, seq);
    assert!(told(&world, past).await.is_empty());
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn undos_that_do_not_wait_are_done_and_the_failed_ones_are_a_persons_in_the_end() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("check", [Behaviour::Declines]);
    world.provider.script("unbook-3", [Behaviour::Declines]);
    world.provider.script("unbook-1", vec![Behaviour::NotDone; 5]);
    world.provider.script("return", [Behaviour::Panics]);
    let id = world.start::<Journey>("goes on", ()).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck");
    assert_eq!(world.provider.requests("unbook-2").len(), 1, "it did not wait for the third");
    let undos: Vec<Value> = serde_json::from_str(&seen.undos).expect("JSON");
    let errors = undos.iter().filter_map(|undo| undo["failed"].as_str()).collect::<Vec<_>>();
    assert_eq!(errors.len(), 3, "each is listed with its error: {}", seen.undos);
    assert!(errors[1].contains("travelled already"), "{errors:?}");
    let which = refused(world.operate(id, &ann(Verb::Skip)).await);
    let Refusal::WhichUndo(steps) = which else { panic!("{which}") };
    assert_eq!(steps.len(), 3);
    for (no, verb) in
        steps.into_iter().zip([Verb::Retry, Verb::Skip, mark("paid back", None, None)])
    {
        applied(&world.operate(id, &Instruction { undo: Some(no), ..ann(verb) }).await);
        world.ended(id).await;
    }
    assert_eq!(world.see(id).await.status, "unwound");
    let statuses = world.effects(id).await.into_iter().map(|e| e.1).collect::<Vec<_>>();
    assert_eq!(statuses, ["undone", "undone", "waived", "undone"]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_pivot_that_was_done_after_all_is_taken_back_by_a_person() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("charge");
    let id = world.start::<Odd>("late pivot", odd::Input::Charge).await;
    world.asked("charge", 1).await;
    world.signal::<Odd>(id, "stop", odd::Signal::Stop).await;
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "stuck");
    assert_eq!(world.effects(id).await[0].1, "confirmed");
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    assert_eq!(world.see(id).await.status, "stuck", "no step takes it back");
    applied(&world.operate(id, &ann(mark("refunded by hand", None, None))).await);
    assert_eq!(world.see(id).await.status, "unwound");
    assert_eq!(world.effects(id).await[0].1, "undone");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_that_came_while_it_was_stuck_is_taken_after_the_retry() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::Babbles]);
    let id = world.start::<Five>("kept", ()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    let answer = world.signal::<Five>(id, "stop", FiveSignal::Stop).await;
    assert_eq!(answer, stepwise_engine::Answer::Kept);
    applied(&world.operate(id, &ann(mark("seen", Some(json!({ "Done": 1 })), None))).await);
    let seen = world.ended(id).await;
    assert!(matches!(seen.status.as_str(), "unwound" | "completed"), "{seen:?}");
    worker.stop().await;
    world.close().await;
}
