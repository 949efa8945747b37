//! Deadlines: whatever an instance waits for, it is called off in time and once; past its pivot it is only told of.

use std::time::{Duration, Instant};

use stepwise_engine::{
    Quota, Scope, Start, WorkerConfig,
    notice::{self, Kind},
    testing::Clock,
};
use uuid::Uuid;

use crate::{
    job::{Input, Job, Signal},
    parcel::v1,
    provider::Behaviour,
    tasks::{Root, Todo},
    versions::Deploy,
    world::{Seen, World, engine, eventually, quick, work_on},
};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

async fn due_in_an_hour(world: &World, subject: &str, input: Input) -> Uuid {
    world.start_with::<Job>(Start::new(subject, input).within(HOUR)).await
}

async fn unwound(world: &World, id: Uuid) -> Seen {
    let seen = world.ended(id).await;
    assert_eq!(
        (seen.status.as_str(), seen.reason.as_deref()),
        ("unwound", Some("\"deadline\"")),
        "{seen:?}"
    );
    seen
}

/// So often does its journal have an entry of that kind.
async fn entries(world: &World, id: Uuid, kind: &str) -> usize {
    world.journal(id).await.iter().filter(|entry| entry.0 == kind).count()
}

#[tokio::test]
async fn a_deadline_calls_off_what_waits_sleeps_or_retries() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("work", vec![Behaviour::NotDone; 1_000]);
    let mut ids = Vec::new();
    for input in [Input::Wait, Input::Sleep, Input::Work] {
        let subject = format!("{input:?}");
        ids.push(due_in_an_hour(&world, &subject, input).await);
    }
    let free = world.start::<Job>("without a deadline", Input::Wait).await;
    world.asked("work", 2).await;
    Clock::of(&world.pool).advance(HOUR - Duration::from_secs(60)).await;
    eventually("a round after that", async || world.provider.requests("work").len() > 20).await;
    for id in &ids {
        assert_eq!(world.see(*id).await.status, "running", "a minute is left");
    }
    Clock::of(&world.pool).advance(Duration::from_secs(61)).await;
    for id in &ids {
        unwound(&world, *id).await;
        assert_eq!(entries(&world, *id, "called off").await, 1);
    }
    assert_eq!(world.see(free).await.status, "running");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_deadline_of_a_parent_takes_its_children_back_first() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("do-child");
    let todo = Todo { acts: false, ..Todo::new("parent").with([Todo::new("child")]) };
    let id = world.start_with::<Root>(Start::new("parent", todo).within(HOUR)).await;
    world.until(id, "children", |seen| seen.waiting_on.as_deref() == Some("children")).await;
    eventually("the child's attempt", async || !world.provider.operations().is_empty()).await;
    Clock::of(&world.pool).advance(HOUR).await;
    world.until(id, "unwinding", |seen| seen.status == "unwinding").await;
    gate.add_permits(1);
    let child: Uuid = sqlx::query_scalar(
        "-- name: test child\nselect saga_id from saga.instance where parent_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.see(child).await.status, "unwound");
    assert_eq!(entries(&world, id, "called off").await, 1);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_deadline_settles_an_attempt_in_flight_before_it_takes_anything_back() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("work");
    let id = due_in_an_hour(&world, "in flight", Input::Work).await;
    world.asked("work", 1).await;
    Clock::of(&world.pool).advance(HOUR).await;
    world.until(id, "unwinding", |seen| seen.status == "unwinding").await;
    assert!(world.provider.requests("takeback").is_empty(), "it is not known yet what was done");
    gate.add_permits(1);
    unwound(&world, id).await;
    let settled: Vec<_> = world.effects(id).await.into_iter().map(|effect| effect.1).collect();
    assert_eq!(settled, ["undone"]);
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_deadline_takes_a_queued_instance_out_of_its_queue() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    world
        .engine
        .set_quota(&mut tx, "job", Scope::EachKey, Quota::at_once(0))
        .await
        .expect("a quota");
    tx.commit().await.expect("the database is there");
    let start = Start::new("queued", Input::Work).queued("closed").within(HOUR);
    let id = world.start_with::<Job>(start).await;
    Clock::of(&world.pool).advance(HOUR).await;
    unwound(&world, id).await;
    assert!(world.provider.operations().is_empty(), "its turn never came");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn past_its_pivot_a_deadline_is_journalled_and_told_once_and_nothing_unwinds() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let second = engine(world.pool.clone(), &world.provider);
    let other = work_on(&second, quick()).await;
    let id = due_in_an_hour(&world, "charged", Input::Charge).await;
    world.until(id, "the wait", |seen| seen.waiting_on.as_deref() == Some("signal")).await;
    Clock::of(&world.pool).advance(HOUR).await;
    eventually("the entry", async || entries(&world, id, "deadline passed").await == 1).await;
    // A later deadline shows that rounds went on.
    let later = due_in_an_hour(&world, "later", Input::Wait).await;
    Clock::of(&world.pool).advance(HOUR).await;
    unwound(&world, later).await;
    assert_eq!(entries(&world, id, "deadline passed").await, 1, "it is told once");
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    let told = told.into_iter().map(|one| (one.saga_id, one.kind, one.why)).collect::<Vec<_>>();
    let why = "its deadline passed after its pivot".to_owned();
    assert_eq!(told, [(id, Kind::Deadline, why)], "what unwinds in time tells nothing");
    let seen = world.see(id).await;
    assert_eq!((seen.status.as_str(), seen.waiting_on.as_deref()), ("running", Some("signal")));
    world.signal::<Job>(id, "go", Signal::Go).await;
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    other.stop().await;
    world.close().await;
}

/// Is its deadline still to be acted on, but not now?
async fn is_put_off(world: &Deploy, id: Uuid) -> bool {
    sqlx::query_scalar(
        "-- name: test put off
        select not overdue and deadline_at > saga.now() from saga.instance where saga_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there")
}

#[tokio::test]
async fn a_deadline_of_what_cannot_be_read_is_told_once_and_kept_for_who_can() {
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    let mut ids = Vec::new();
    for subject in ["misfit", "panic", "fine"] {
        let mut tx = world.old.begin().await.expect("the database is there");
        let start = Start::new(subject, subject.to_owned()).within(HOUR);
        let started = world.old.start::<v1::Parcel>(&mut tx, start).await.expect("new");
        tx.commit().await.expect("the database is there");
        ids.push(started.id);
    }
    for id in &ids {
        world.until(*id, "signal").await;
    }
    old.stop().await;
    let (unreadable, fine) = (&ids[..2], ids[2]);

    let new = work_on(&world.new, quick()).await;
    Clock::of(&world.pool).advance(HOUR).await;
    world.until(fine, "unwound").await;
    for minute in 1..=2 {
        for id in unreadable {
            eventually(&format!("{minute} x put off"), async || is_put_off(&world, *id).await)
                .await;
        }
        Clock::of(&world.pool).advance(Duration::from_secs(60)).await;
    }
    let told = notice::after(&world.pool, 0, 10).await.expect("the database is there");
    assert!(told.iter().all(|one| one.kind == Kind::Deadline), "{told:?}");
    let misfit = told.iter().filter(|one| one.saga_id == unreadable[0]).collect::<Vec<_>>();
    assert_eq!((told.len(), misfit.len()), (2, 1), "each is told of once: {told:?}");
    let why = &misfit[0].why;
    assert!(why.starts_with("its deadline passed, and the stored state does not fit"), "{why}");
    new.stop().await;

    // Rolled back: this version reads them.
    let old = work_on(&world.old, quick()).await;
    Clock::of(&world.pool).advance(Duration::from_secs(60)).await;
    for id in unreadable {
        world.until(*id, "unwound").await;
    }
    old.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_races_with_the_end_either_comes_too_late_or_takes_all_back() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let second = engine(world.pool.clone(), &world.provider);
    let other = work_on(&second, quick()).await;
    let mut ids = Vec::new();
    for n in 0..400 {
        let within = Duration::from_millis(n % 50);
        let start = Start::new(format!("racing {n}"), Input::Work).within(within);
        ids.push(world.start_with::<Job>(start).await);
    }
    let (mut completed, mut called_off) = (0, 0);
    for id in ids {
        let seen = world.ended(id).await;
        let effects = world.effects(id).await;
        match seen.status.as_str() {
            "completed" => {
                completed += 1;
                assert_eq!(effects[0].1, "confirmed");
                assert_eq!(entries(&world, id, "called off").await, 0);
            }
            "unwound" => {
                called_off += 1;
                assert!(matches!(effects[0].1.as_str(), "undone" | "refuted"), "{effects:?}");
                assert_eq!(entries(&world, id, "called off").await, 1, "exactly once");
            }
            _ => panic!("{seen:?}"),
        }
    }
    println!("{completed} completed, {called_off} called off");
    let taken_back = world.provider.lines().iter().filter(|line| line.op == "takeback").count();
    assert!(taken_back <= called_off);
    worker.stop().await;
    other.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_deadline_is_found_within_two_seconds_by_the_default_poll() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig::default()).await;
    let start = Start::new("in time", Input::Wait).within(Duration::from_millis(300));
    let begun = Instant::now();
    let id = world.start_with::<Job>(start).await;
    unwound(&world, id).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(300), "not early: {took:?}");
    assert!(took < Duration::from_millis(2_300), "{took:?}");
    worker.stop().await;
    world.close().await;
}
