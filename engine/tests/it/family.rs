//! Parents and children, cancelling, and beginning anew.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use stepwise_engine::{
    Answer, CallOff, Engine, EngineBuilder, SignalError, Status, WorkerConfig,
    operate::{Operated, Refusal, Verb, WrongStatus},
    testing::{Clock, Trial, survives_every_crash, unwinds_from_every_step},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    provider::{Behaviour, Provider},
    tasks::{Leaf, Root, Signal, TaskSteps, Todo},
    world::{Seen, World, ann, applied, eventually, quick},
};

fn parts(count: usize) -> Vec<Todo> {
    (0..count).map(|n| Todo::new(format!("part-{n}"))).collect()
}

/// The children of an instance: (subject, status, waiting_on), by subject.
async fn children(pool: &PgPool, parent: Uuid) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as(
        "-- name: test children
        select subject, status, waiting_on from saga.instance where parent_id = $1 order by subject",
    )
    .bind(parent)
    .fetch_all(pool)
    .await
    .expect("the database is there")
}

async fn all_children(pool: &PgPool, parent: Uuid, status: &str, waiting_on: Option<&str>) -> bool {
    let children = children(pool, parent).await;
    assert!(!children.is_empty());
    children.iter().all(|(_, is, on)| is == status && on.as_deref() == waiting_on)
}

/// The operations that were done and taken back, without those that were merely asked about.
fn open_work(provider: &Provider) -> Vec<String> {
    let lines = provider.lines();
    let undone = |name: &str| lines.iter().any(|line| line.op == format!("undo-{name}"));
    lines
        .iter()
        .filter_map(|line| line.op.strip_prefix("do-"))
        .filter(|name| !undone(name))
        .map(str::to_owned)
        .collect()
}

async fn cancel(world: &World, id: Uuid) -> CallOff {
    let mut tx = world.pool.begin().await.expect("the database is there");
    let answer = world.engine.cancel(&mut tx, id, "not wanted").await.expect("it can be asked");
    tx.commit().await.expect("the database is there");
    answer
}

#[tokio::test]
async fn a_parent_goes_on_when_its_last_child_has_ended_and_is_written_once_for_all_of_them() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("settle-whole");
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(40))).await;
    world.asked("settle-whole", 1).await;
    assert!(all_children(&world.pool, id, "running", Some("parent")).await);
    let seen = world.see(id).await;
    assert_eq!(seen.seq, 3, "start, act, join: no write for each child: {seen:?}");
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    eventually("the children to become final", async || {
        all_children(&world.pool, id, "completed", None).await
    })
    .await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn however_many_parents_can_go_on_one_look_wakes_them_all() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = Arc::new(Semaphore::new(0));
    let mut ids = Vec::new();
    for n in 0..100 {
        let held = Behaviour::Held(gate.clone(), Box::new(Behaviour::Acts));
        world.provider.script(&format!("do-part-{n}"), [held]);
        let whole = Todo::new(format!("whole-{n}")).with([Todo::new(format!("part-{n}"))]);
        ids.push(world.start::<Root>(&format!("whole-{n}"), whole).await);
    }
    let waiting = async |on: &'static str| {
        let count: i64 = sqlx::query_scalar(
            "-- name: test waiting\nselect count(*) from saga.instance where waiting_on = $1",
        )
        .bind(on)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
        count
    };
    eventually("all parents to wait", async || waiting("children").await == 100).await;
    // An instance whose row is locked is not woken: nobody goes on while the children end.
    let mut locker = world.pool.begin().await.expect("the database is there");
    sqlx::query(
        "-- name: test lock parents\nselect from saga.instance where waiting_on = 'children' for update",
    )
    .execute(&mut *locker)
    .await
    .expect("the database is there");
    gate.add_permits(100);
    eventually("all children to end", async || waiting("parent").await == 100).await;
    worker.stop().await;
    locker.rollback().await.expect("the database is there");
    let patient = WorkerConfig { poll: Duration::from_secs(600), ..quick() };
    let worker = world.worker(patient).await;
    for id in ids {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn when_one_child_fails_the_others_are_taken_back_before_the_parent() {
    let world = World::new().await;
    world.provider.script("do-part-3", [Behaviour::Declines]);
    let worker = world.worker(quick()).await;
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(10))).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "unwound", "{seen:?}");
    assert_eq!(seen.reason.as_deref(), Some("\"1 of 10 failed\""));
    assert!(all_children(&world.pool, id, "unwound", None).await);
    assert_eq!(open_work(&world.provider), Vec::<String>::new());
    let operations = world.provider.operations();
    assert_eq!(operations.last().map(String::as_str), Some("undo-whole"), "{operations:?}");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_cancelled_parent_takes_children_back_wherever_they_are() {
    let world = World::new().await;
    let held = world.provider.hold("do-part-0");
    world.provider.script("do-part-1", vec![Behaviour::NotDone; 4]);
    let worker = world.worker(quick()).await;
    let nested = Todo::new("part-2").with([Todo::new("inner-0"), Todo::new("inner-1")]);
    let whole = Todo::new("whole").with([Todo::new("part-0"), Todo::new("part-1"), nested]);
    let id = world.start::<Root>("whole", whole).await;
    world.asked("do-part-0", 1).await;
    world.asked("do-inner-1", 1).await;
    eventually("the nested family to end", async || {
        children(&world.pool, id).await[2].2.as_deref() == Some("parent")
    })
    .await;
    assert_eq!(cancel(&world, id).await, CallOff::Begun);
    world.asked("undo-part-2", 1).await;
    world
        .until(id, "the one in flight to be waited for", |parent| {
            parent.waiting_on.as_deref() == Some("children")
        })
        .await;
    held.add_permits(1);
    let seen = world.ended(id).await;
    assert_eq!(
        (seen.status.as_str(), seen.reason.as_deref()),
        ("unwound", Some("\"cancelled: not wanted\""))
    );
    assert!(all_children(&world.pool, id, "unwound", None).await);
    assert_eq!(open_work(&world.provider), Vec::<String>::new());
    assert_eq!(cancel(&world, id).await, CallOff::Ended);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_parent_waits_for_a_child_whose_undo_needs_a_person() {
    let world = World::new().await;
    world.provider.script("undo-part-1", [Behaviour::Declines]);
    let worker = world.worker(quick()).await;
    world.provider.script("do-part-0", [Behaviour::Declines]);
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(3))).await;
    eventually("the stuck child", async || {
        children(&world.pool, id).await.get(1).is_some_and(|child| child.1 == "stuck")
    })
    .await;
    world.asked("undo-part-2", 1).await;
    world
        .until(id, "the parent to wait for its child", |parent| {
            parent.status == "unwinding" && parent.waiting_on.as_deref() == Some("children")
        })
        .await;
    assert!(world.provider.requests("undo-whole").is_empty(), "it waits for its child first");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn past_the_pivot_nothing_is_cancelled_and_before_the_join_a_signal_may_only_be_noted() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let part = world.provider.hold("do-part-0");
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(1))).await;
    world.asked("do-part-0", 1).await;
    assert_eq!(world.signal::<Root>(id, "note", Signal::Note).await, Answer::Applied);
    assert_eq!(world.see(id).await.waiting_on.as_deref(), Some("children"));
    part.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    assert_eq!(cancel(&world, id).await, CallOff::Ended);

    let mut tx = world.pool.begin().await.expect("the database is there");
    let nobody = world.engine.cancel(&mut tx, Uuid::nil(), "not wanted").await;
    assert!(matches!(nobody, Err(SignalError::NotFound(_))));
    tx.rollback().await.expect("the database is there");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_parent_without_children_goes_on_at_once() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = world.start::<Root>("whole", Todo::new("whole")).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn two_children_about_the_same_thing_are_a_bug_and_leave_none() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let twins = [Todo::new("twin"), Todo::new("twin")];
    let id = world.start::<Root>("whole", Todo::new("whole").with(twins)).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "stuck", "{seen:?}");
    assert!(seen.last_error.as_deref().is_some_and(|why| why.contains("open already")), "{seen:?}");
    assert!(children(&world.pool, id).await.is_empty());
    worker.stop().await;
    world.close().await;
}

/// A family with a nested one, in which the second part declines or not.
struct Families {
    provider: Arc<Provider>,
    declines: bool,
}

impl Trial for Families {
    type Saga = Root;
    type Services = TaskSteps;

    fn services(&self, _: PgPool) -> TaskSteps {
        TaskSteps(self.provider.clone())
    }

    fn others(&self, builder: EngineBuilder) -> EngineBuilder {
        builder.explored::<Leaf, _>(TaskSteps(self.provider.clone()))
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        self.provider.forget_script();
        if self.declines {
            self.provider.script(&format!("do-b-{run}"), vec![Behaviour::Declines; 2]);
        }
        let name = |name: &str| Todo::new(format!("{name}-{run}"));
        let whole = name("whole").with([name("a").with([name("inner")]), name("b")]);
        let mut tx = engine.begin().await.expect("the database is there");
        let start = stepwise_engine::Start::new(whole.name.clone(), whole);
        let started = engine.start::<Root>(&mut tx, start).await.expect("it can be started");
        tx.commit().await.expect("the database is there");
        started.id
    }

    async fn balances(&self, engine: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let subject: String = sqlx::query_scalar(
            "-- name: test subject\nselect subject from saga.instance where saga_id = $1",
        )
        .bind(id)
        .fetch_one(engine.pool())
        .await
        .map_err(|error| error.to_string())?;
        let run = subject.trim_start_matches("whole");
        let open = open_work(&self.provider).iter().filter(|name| name.ends_with(run)).count();
        let expected = if status == Status::Completed { 4 } else { 0 };
        if open == expected {
            Ok(())
        } else {
            Err(format!("{open} works are open, not {expected}"))
        }
    }
}

#[test]
fn families_survive_every_crash() {
    for declines in [false, true] {
        let survived =
            survives_every_crash(&Families { provider: Provider::in_memory(), declines });
        println!("declines: {declines}: {:?}", survived.at);
        assert!(survived.at.len() >= 5, "every kind of site was struck: {:?}", survived.at);
        let end = if declines { Status::Unwound } else { Status::Completed };
        assert_eq!(survived.ends, [end]);
    }
}

#[test]
fn a_family_unwinds_from_every_step_of_its_parent() {
    let unwound =
        unwinds_from_every_step(&Families { provider: Provider::in_memory(), declines: false });
    assert_eq!(unwound.points.len(), 6, "{unwound:#?}");
    assert_eq!(unwound.points.last().expect("6"), "cancelled before Settle");
}

#[tokio::test]
async fn a_parent_is_not_handed_over_while_a_child_of_it_is_open() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-part-0");
    let id = world.start::<Root>("parent", Todo::new("parent").with(parts(2))).await;
    eventually("one of two to end", async || {
        children(&world.pool, id).await.iter().any(|child| child.2.as_deref() == Some("parent"))
    })
    .await;
    let operate = async |verb| world.operate(id, &ann(verb)).await;
    assert!(matches!(operate(Verb::Pause).await, Operated::Applied(_)));
    let seq = world.see(id).await.seq;
    let refused = operate(Verb::HandOver { to: "finance".to_owned() }).await;
    assert_eq!(refused, Operated::Refused(Refusal::ChildrenOpen(1)));
    let seen = world.see(id).await;
    assert_eq!((seen.status.as_str(), seen.seq), ("paused", seq), "nothing was written");
    gate.add_permits(1);
    eventually("both to end", async || {
        children(&world.pool, id).await.iter().all(|child| child.2.as_deref() == Some("parent"))
    })
    .await;
    let handed_over = operate(Verb::HandOver { to: "finance".to_owned() }).await;
    assert!(matches!(handed_over, Operated::Applied(_)), "{handed_over:?}");
    assert_eq!(world.see(id).await.status, "abandoned");
    eventually("the children to become final", async || {
        all_children(&world.pool, id, "completed", None).await
    })
    .await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_parent_that_is_paused_and_resumed_still_waits_for_its_open_children() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let working = world.provider.hold("do-part-0");
    let goes_on = world.start::<Root>("whole", Todo::new("whole").with(parts(1))).await;
    world.asked("do-part-0", 1).await;
    let undoing = world.provider.hold("undo-a");
    world.provider.script("do-b", [Behaviour::Declines]);
    let family = Todo::new("other").with([Todo::new("a"), Todo::new("b")]);
    let unwinds = world.start::<Root>("other", family).await;
    world.asked("undo-a", 1).await;
    for (id, status) in [(goes_on, "running"), (unwinds, "unwinding")] {
        world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("children")).await;
        for verb in [Verb::Pause, Verb::Resume] {
            applied(&world.operate(id, &ann(verb)).await);
        }
        let seen = world.see(id).await;
        assert_eq!((&*seen.status, seen.waiting_on.as_deref()), (status, Some("children")));
    }
    working.add_permits(1);
    undoing.add_permits(1);
    assert_eq!(world.ended(goes_on).await.status, "completed");
    assert_eq!(world.ended(unwinds).await.status, "unwound");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_parent_that_is_woken_before_its_children_have_ended_waits_on() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-part-0");
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(1))).await;
    world.asked("do-part-0", 1).await;
    let waits = |seen: &Seen| seen.waiting_on.as_deref() == Some("children");
    let seq = world.until(id, "a wait", waits).await.seq;
    // As a worker that stops leaves it, which was about to look.
    sqlx::query("-- name: test wake\nupdate saga.instance set wake_at = saga.now(), waiting_on = 'worker' where saga_id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    world.until(id, "a wait", |seen| waits(seen) && seen.owner.is_none() && seen.seq > seq).await;
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

/// Makes an open child one that cannot be called off, or can again.
async fn set_past_pivot(world: &World, subject: &str, is: bool) {
    sqlx::query("-- name: test pivot\nupdate saga.instance set past_pivot = $2 where subject = $1")
        .bind(subject)
        .bind(is)
        .execute(&world.pool)
        .await
        .expect("the database is there");
}

#[tokio::test]
async fn a_child_that_cannot_be_called_off_keeps_no_other_from_it_and_becomes_a_persons_in_the_end()
{
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gates = [0, 1, 2].map(|n| world.provider.hold(&format!("do-part-{n}")));
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(3))).await;
    for n in 0..3 {
        world.asked(&format!("do-part-{n}"), 1).await;
    }
    set_past_pivot(&world, "part-0", true).await;
    assert_eq!(cancel(&world, id).await, CallOff::Begun);
    let seen = world.until(id, "a retry", |seen| seen.waiting_on.as_deref() == Some("retry")).await;
    let why = seen.last_error.expect("a reason");
    assert!(why.contains("past its pivot"), "{why}");
    let statuses = children(&world.pool, id).await.into_iter().map(|child| child.1);
    assert_eq!(statuses.collect::<Vec<_>>(), ["running", "unwinding", "unwinding"]);
    Clock::of(&world.pool).advance(Duration::from_secs(25 * 3_600)).await;
    assert_eq!(world.ended(id).await.status, "stuck", "it is not tried for ever");
    let skipped = world.operate(id, &ann(Verb::Skip)).await;
    let Operated::Refused(Refusal::DoesNotFit(why)) = skipped else { panic!("{skipped:?}") };
    assert!(why.contains("see to the child"), "{why}");
    set_past_pivot(&world, "part-0", false).await;
    applied(&world.operate(id, &ann(Verb::Retry)).await);
    world.until(id, "a wait", |seen| seen.waiting_on.as_deref() == Some("children")).await;
    gates.iter().for_each(|gate| gate.add_permits(1));
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(open_work(&world.provider), Vec::<String>::new());
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_child_at_its_end_is_cancelled_by_its_parent_only() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-part-1");
    let id = world.start::<Root>("whole", Todo::new("whole").with(parts(2))).await;
    world.asked("do-part-1", 1).await;
    let ended = async || children(&world.pool, id).await[0].2.as_deref() == Some("parent");
    eventually("the first child to end", ended).await;
    let child: Uuid = sqlx::query_scalar(
        "-- name: test child\nselect saga_id from saga.instance where subject = 'part-0'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("the child is there");
    assert_eq!(cancel(&world, child).await, CallOff::Ended);
    let refused = world.operate(child, &ann(Verb::Cancel)).await;
    let at_its_end = Refusal::WrongStatus(WrongStatus::AtItsEnd);
    assert_eq!(refused, Operated::Refused(at_its_end));
    assert!(ended().await, "it stays there");
    assert_eq!(cancel(&world, id).await, CallOff::Begun);
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert!(all_children(&world.pool, id, "unwound", None).await);
    worker.stop().await;
    world.close().await;
}
