//! A step is tried until its deadline, however often nobody answers; only answers of the provider can end that sooner.

use std::time::Duration;

use stepwise_engine::{
    Terms, WorkerConfig,
    hooks::Hooks,
    notice::{self, Kind, Notice},
    operate::Verb,
    testing::Clock,
};
use uuid::Uuid;

use crate::{
    deadlines::HOUR,
    job::{self, Job},
    odd::{self, Odd},
    order::{Input, Order},
    plain::{Five, LATE},
    provider::Behaviour,
    world::{Seen, World, ann, eventually, quick, work_on},
};

async fn pass(world: &World, time: Duration) {
    Clock::of(&world.pool).advance(time).await;
}

fn gave_up(seen: &Seen) {
    assert_eq!((seen.status.as_str(), seen.reason.as_deref()), ("unwound", Some("\"gave up\"")));
}

async fn told(world: &World, id: Uuid, kind: Kind) -> Vec<Notice> {
    let told = notice::after(&world.pool, 0, 100).await.expect("the database is there");
    told.into_iter().filter(|one| one.saga_id == id && one.kind == kind).collect()
}

/// Does a provider that answers nothing to an attempt, to forty probes and to forty undos change what becomes of an instance?
async fn outage_is_waited_out(hooks: Hooks) -> bool {
    let world = World::new().await;
    let worker = work_on(&world.engine, WorkerConfig { hooks, ..quick() }).await;
    world.provider.script("do-3", [Behaviour::SilentAfter]);
    world.provider.script("probe-3", vec![Behaviour::SilentBefore; 40]);
    let completes = world.start::<Five>("silent probes", ()).await;
    let completes = world.ended(completes).await.status == "completed";
    let repeated = world.provider.requests("do-3").len() > 1;
    world.provider.script("do-3", [Behaviour::Declines]);
    world.provider.script("undo-2", vec![Behaviour::SilentBefore; 40]);
    let unwinds = world.start::<Five>("silent undos", ()).await;
    let unwinds = world.ended(unwinds).await.status == "unwound";
    worker.stop().await;
    world.close().await;
    completes && !repeated && unwinds
}

#[tokio::test]
async fn a_probe_that_could_not_ask_counts_as_nothing_and_so_does_an_undo_without_an_answer() {
    assert!(outage_is_waited_out(Hooks::default()).await);
}

#[tokio::test]
async fn with_probes_counted_again_an_outage_decides_what_becomes_of_an_instance() {
    let sabotaged = Hooks { gives_up_after: Some(3), ..Hooks::default() };
    assert!(!outage_is_waited_out(sabotaged).await);
}

#[tokio::test]
async fn before_the_pivot_a_step_past_its_deadline_is_given_up_and_its_possible_effect_taken_back()
{
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::SilentAfter]);
    world.silence("probe-3");
    let id = world.start::<Five>("silence", ()).await;
    world.asked("probe-3", 20).await;
    pass(&world, HOUR - Duration::from_secs(60)).await;
    world.asked("probe-3", 40).await;
    assert_eq!(world.see(id).await.status, "running", "a minute is left");
    pass(&world, Duration::from_secs(60)).await;
    gave_up(&world.ended(id).await);
    let operations = world.provider.operations();
    assert_eq!(operations.iter().filter(|op| *op == "do-3").count(), 1, "never repeated blindly");
    assert_eq!(operations[operations.len() - 3..], ["undo-3", "undo-2", "undo-1"]);
    let undone = world.provider.lines().iter().filter(|line| line.op.starts_with("undo")).count();
    assert_eq!(undone, 3, "the effect that nobody had heard of is taken back too");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_last_attempt_before_a_deadline_is_asked_for_where_it_may_have_been_done() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // The second attempt at each takes until just before the deadline; the third one is too late.
    for (step, last) in [
        ("do-2", Behaviour::NotDone),
        ("do-3", Behaviour::SilentAfter),
        ("do-4", Behaviour::SilentBefore),
    ] {
        world.provider.script(step, [Behaviour::NotDone]);
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let held = Behaviour::Held(gate.clone(), Box::new(Behaviour::NotDone));
        world.provider.script(step, [held, last]);
        let id = world.start::<Five>(step, ()).await;
        // The instances before it may have been at this step, too.
        eventually("the second attempt", async || world.requests_of(step, id) == 2).await;
        pass(&world, HOUR).await;
        gate.add_permits(1);
        let seen = world.ended(id).await;
        match step {
            "do-3" => {
                assert_eq!(seen.status, "completed", "it was done, however late that is known")
            }
            _ => gave_up(&seen),
        }
        assert_eq!(world.requests_of(step, id), 3, "it is not tried again");
    }
    assert!(world.provider.requests("probe-2").is_empty(), "nothing to ask for");
    assert_eq!(world.provider.requests("probe-4").len(), 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn past_the_pivot_a_step_past_its_deadline_waits_for_a_person_who_gives_it_its_time_again() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.silence("notify");
    world.silence("probe-notify");
    let id = world.start::<Order>("after", Input { order: "after".into(), notify: true }).await;
    world.asked("probe-notify", 10).await;
    pass(&world, HOUR).await;
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.waiting_on.as_deref()), ("stuck", Some("operator")));
    let why = seen.last_error.unwrap_or_default();
    assert!(why.contains("Notify could not be done and nothing can be taken back"), "{why}");
    assert!(world.provider.requests("cancel").is_empty());
    let asked = world.provider.requests("probe-notify").len();
    world.operate(id, &ann(Verb::Retry)).await;
    world.asked("probe-notify", asked + 20).await;
    assert_eq!(world.see(id).await.status, "running", "its hour begins anew");
    world.provider.forget_script();
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn an_undo_is_tried_until_its_deadline_and_then_a_person_finds_it_listed() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-3", [Behaviour::Declines]);
    world.silence("undo-2");
    let id = world.start::<Five>("undone in vain", ()).await;
    world.asked("undo-2", 20).await;
    pass(&world, HOUR).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck");
    assert!(seen.undos.contains("\"Step\":1") && seen.undos.contains("\"Step\":2"));
    let why = seen.last_error.unwrap_or_default();
    assert!(why.contains("the undo of step 2 failed") && why.contains("no answer"), "{why}");
    assert!(world.provider.requests("undo-1").is_empty(), "nothing is skipped");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn only_answers_of_the_provider_can_be_enough() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    // Five answers are enough by the saga's terms; nobody answers in between.
    let mut script = vec![Behaviour::NotDone; 4];
    script.extend(vec![Behaviour::SilentBefore; 10]);
    script.push(Behaviour::NotDone);
    script.extend(vec![Behaviour::SilentBefore; 10]);
    world.provider.script("do-2", script);
    let id = world.start::<Five>("turned down", ()).await;
    gave_up(&world.ended(id).await);
    assert_eq!(world.provider.requests("do-2").len(), 15, "the fifth answer is the last one");
    assert_eq!(world.provider.requests("probe-2").len(), 10);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn operators_are_told_once_of_a_step_that_takes_long_and_trying_goes_on() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.silence("work");
    let id = world.start::<Job>("slow", job::Input::Work).await;
    world.asked("work", 10).await;
    assert!(told(&world, id, Kind::Slow).await.is_empty(), "it has only begun");
    pass(&world, Terms::SLOW_AFTER).await;
    eventually("a notice", async || !told(&world, id, Kind::Slow).await.is_empty()).await;
    let asked = world.provider.requests("work").len();
    world.asked("work", asked + 20).await;
    let notices = told(&world, id, Kind::Slow).await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].why.starts_with("Work has been failing for 60 min"), "{}", notices[0].why);
    assert_eq!(world.see(id).await.status, "running");
    world.provider.forget_script();
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_step_has_its_whole_time_whatever_the_step_before_has_used_of_its_own() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::NotDone]);
    let gate = world.provider.hold("do-1");
    world.provider.script("do-2", [Behaviour::SilentBefore]);
    world.silence("probe-2");
    let id = world.start::<Five>("twice", ()).await;
    world.asked("do-1", 2).await;
    pass(&world, HOUR - Duration::from_secs(60)).await;
    gate.add_permits(1);
    world.asked("probe-2", 5).await;
    pass(&world, HOUR - Duration::from_secs(60)).await;
    let asked = world.provider.requests("probe-2").len();
    world.asked("probe-2", asked + 20).await;
    assert_eq!(world.see(id).await.status, "running");
    world.provider.forget_script();
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_waits_for_its_next_attempt_goes_on_at_once_when_it_is_known_that_somebody_answers() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let waits = |seen: &Seen| seen.waiting_on.as_deref() == Some("retry");
    world.provider.script("do-3", [Behaviour::SilentBefore]);
    let late = world.start::<Five>("a late effect may come", ()).await;
    world.until(late, "the wait", waits).await;
    pass(&world, LATE - Duration::from_secs(30)).await;
    let mut waiting = Vec::new();
    for n in 0..300 {
        world.provider.script("post", [Behaviour::NotDone]);
        waiting.push(world.start::<Odd>(&format!("waits {n}"), odd::Input::Post).await);
    }
    for id in &waiting {
        world.until(*id, "a retry in a minute", waits).await;
    }
    let due = world.engine.retry_now(&["odd", "five"]).await.expect("the database is there");
    assert_eq!(due, 300, "all but the one whose probe says nothing before its time");
    let again = world.engine.retry_now(&["odd", "five"]).await.expect("the database is there");
    assert!(again <= 300, "{again}");
    for id in waiting {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    assert_eq!(world.provider.requests("post").len(), 600, "one more attempt each");
    assert_eq!(world.provider.requests("probe-3").len(), 1);
    worker.stop().await;
    world.close().await;
}
