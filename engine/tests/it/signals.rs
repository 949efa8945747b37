//! Signals and timers against each other and against a driver that commits in the same moment.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use stepwise_engine::{
    Answer, WorkerConfig,
    hooks::{Hooks, Site},
    testing::Clock,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    order::{APPROVAL, Input, Order, Signal},
    plain::{Five, Signal as FiveSignal},
    provider::Behaviour,
    world::{Seen, World, eventually, quick},
};

async fn awaiting_approval(world: &World, subject: &str) -> Uuid {
    world.provider.script("confirm", [Behaviour::Challenges]);
    let input = Input { order: subject.to_owned(), notify: false };
    let id = world.start::<Order>(subject, input).await;
    world.until(id, "the wait for approval", awaits).await;
    id
}

fn awaits(seen: &Seen) -> bool {
    seen.state.contains("AwaitingApproval") && seen.owner.is_none()
}

async fn timer_at(world: &World, id: Uuid) -> Option<DateTime<Utc>> {
    sqlx::query_scalar("-- name: test timer\nselect timer_at from saga.instance where saga_id = $1")
        .bind(id)
        .fetch_one(&world.pool)
        .await
        .expect("the instance is there")
}

#[tokio::test]
async fn a_signal_is_applied_kept_refused_or_known_already_and_the_caller_learns_which() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("create");
    let input = Input { order: "answers".into(), notify: false };
    let id = world.start::<Order>("answers", input).await;
    world.asked("create", 1).await;
    assert_eq!(world.signal::<Order>(id, "note", Signal::Noted).await, Answer::Refused);
    assert_eq!(world.signal::<Order>(id, "yes", Signal::Approved).await, Answer::Kept);
    assert_eq!(world.signal::<Order>(id, "yes", Signal::Approved).await, Answer::Duplicate);
    assert_eq!(world.signal::<Order>(id, "no", Signal::CancelRequested).await, Answer::Applied);
    assert_eq!(world.signal::<Order>(id, "no", Signal::CancelRequested).await, Answer::Duplicate);
    let seen = world.see(id).await;
    assert_eq!(
        (seen.status.as_str(), seen.waiting_on.as_deref()),
        ("unwinding", Some("activity")),
        "the attempt in flight is settled first"
    );
    assert_eq!(world.signal::<Order>(id, "late", Signal::CancelRequested).await, Answer::Refused);
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "unwound");
    assert_eq!(world.provider.operations(), ["create", "cancel"], "its outcome never reached `on`");
    assert_eq!(world.signal::<Order>(id, "post", Signal::Noted).await, Answer::Refused);
    let kinds = world.journal(id).await.into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(kinds.iter().filter(|kind| *kind == "signal refused").count(), 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "signal").count(), 1, "duplicates do nothing");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_in_a_transaction_that_rolls_back_never_came() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = awaiting_approval(&world, "rolled back").await;
    let before = world.see(id).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    let answer = world.engine.signal::<Order>(&mut tx, id, "no", Signal::CancelRequested).await;
    assert_eq!(answer.expect("it is there"), Answer::Applied);
    tx.rollback().await.expect("the database is there");
    assert_eq!(world.see(id).await.seq, before.seq);
    assert_eq!(world.signal::<Order>(id, "no", Signal::Approved).await, Answer::Applied);
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_stuck_instance_keeps_signals() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    world.provider.script("do-1", [Behaviour::Babbles]);
    let id = world.start::<Five>("stuck", ()).await;
    assert_eq!(world.ended(id).await.status, "stuck");
    assert_eq!(world.signal::<Five>(id, "stop", FiveSignal::Stop).await, Answer::Kept);
    assert_eq!(world.see(id).await.status, "stuck");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_repeated_signal_and_the_driver_that_takes_the_first_one_do_not_deadlock() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let (create, confirm) = (world.provider.hold("create"), Arc::new(Semaphore::new(0)));
    let challenges = Box::new(Behaviour::Challenges);
    world.provider.script("confirm", [Behaviour::Held(confirm.clone(), challenges)]);
    let input = Input { order: "repeated".into(), notify: false };
    let id = world.start::<Order>("repeated", input).await;
    world.asked("create", 1).await;
    assert_eq!(world.signal::<Order>(id, "yes", Signal::Approved).await, Answer::Kept);
    create.add_permits(1);
    world.asked("confirm", 1).await;
    let mut tx = world.pool.begin().await.expect("the database is there");
    // Should there be a cycle, this transaction is the one to be told.
    sqlx::raw_sql("set local deadlock_timeout = '10ms'")
        .execute(&mut *tx)
        .await
        .expect("superuser");
    sqlx::query(
        "-- name: test lock\nselect from saga.instance where saga_id = $1 for no key update",
    )
    .bind(id)
    .execute(&mut *tx)
    .await
    .expect("the database is there");
    confirm.add_permits(1);
    eventually("the driver to wait for the row", async || {
        sqlx::query_scalar(
            "-- name: test waiting
            select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '-- name: commit own%')",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    })
    .await;
    let answer = world.engine.signal::<Order>(&mut tx, id, "yes", Signal::Approved).await;
    assert_eq!(answer.expect("nobody waits in a circle"), Answer::Duplicate);
    tx.commit().await.expect("the database is there");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_that_stays_keeps_the_timer() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let id = awaiting_approval(&world, "stays").await;
    let armed = timer_at(&world, id).await;
    assert!(armed.is_some());
    assert_eq!(world.signal::<Order>(id, "note", Signal::Noted).await, Answer::Applied);
    let seen = world.see(id).await;
    assert!(seen.state.contains("\"noted\":1"), "{}", seen.state);
    assert_eq!(timer_at(&world, id).await, armed);
    Clock::of(&world.pool).advance(APPROVAL).await;
    let seen = world.ended(id).await;
    assert_eq!((seen.status.as_str(), seen.reason.as_deref()), ("unwound", Some("\"Expired\"")));
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_that_stays_while_an_attempt_is_in_flight_is_not_lost_with_its_outcome() {
    let world = World::new().await;
    let worker = world.worker(quick()).await;
    let gate = world.provider.hold("confirm");
    let input = Input { order: "noted".into(), notify: false };
    let id = world.start::<Order>("noted", input).await;
    world.asked("confirm", 1).await;
    assert_eq!(world.signal::<Order>(id, "note", Signal::Noted).await, Answer::Applied);
    gate.add_permits(1);
    assert_eq!(world.ended(id).await.status, "completed");
    let noted: bool = sqlx::query_scalar(
        "-- name: test noted
        select bool_or(next::text like '%stay%') from saga.journal where saga_id = $1 and kind = 'signal'",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("the database is there");
    assert!(noted);
    assert_eq!(
        world.provider.requests("confirm").len(),
        1,
        "the outcome was applied to the new row"
    );
    worker.stop().await;
    world.close().await;
}

/// Halts the driver at the next site of a kind, after it has been armed.
struct Halt {
    armed: Arc<Mutex<Option<Site>>>,
    reached: Mutex<Receiver<()>>,
    go_on: Sender<()>,
}

impl Halt {
    fn new() -> (Self, WorkerConfig) {
        let armed = Arc::new(Mutex::new(None));
        let (reaching, reached) = channel();
        let (go_on, going_on) = channel::<()>();
        let (site, going_on) = (armed.clone(), Mutex::new(going_on));
        let stops_at = move |here| {
            let hit = site.lock().expect("plain data").take_if(|site| *site == here).is_some();
            if hit {
                // The driver stands still until the test lets it go on.
                let _ = reaching.send(());
                tokio::task::block_in_place(|| {
                    let _ = going_on.lock().expect("plain data").recv();
                });
            }
            false
        };
        let hooks = Hooks { stops_at: Some(Arc::new(stops_at)), ..Hooks::default() };
        let halt = Self { armed, reached: Mutex::new(reached), go_on };
        (halt, WorkerConfig { hooks, lease: Duration::from_secs(30), ..quick() })
    }

    fn arm(&self, site: Site) {
        *self.armed.lock().expect("plain data") = Some(site);
    }

    fn wait(&self) {
        let reached = self.reached.lock().expect("plain data");
        reached.recv_timeout(Duration::from_secs(10)).expect("the driver comes by");
    }

    fn go_on(&self) {
        self.go_on.send(()).expect("the driver waits");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kept_signal_is_taken_although_the_drivers_commit_raced_it() {
    let world = World::new().await;
    let (halt, config) = Halt::new();
    let worker = world.worker(config).await;
    for site in [Site::BeforeCall, Site::AfterCall, Site::BeforeCommit] {
        let subject = format!("raced {site:?}");
        let gate = world.provider.hold("create");
        let input = Input { order: subject.clone(), notify: false };
        let creates = world.provider.requests("create").len();
        let id = world.start::<Order>(&subject, input).await;
        world.asked("create", creates + 1).await;
        let confirms = world.provider.requests("confirm").len();
        let gate_of_confirm = Arc::new(tokio::sync::Semaphore::new(0));
        world.provider.script(
            "confirm",
            [Behaviour::Held(gate_of_confirm.clone(), Box::new(Behaviour::Challenges))],
        );
        if site == Site::BeforeCall {
            halt.arm(site);
            gate.add_permits(1);
        } else {
            gate.add_permits(1);
            world.asked("confirm", confirms + 1).await;
            halt.arm(site);
        }
        gate_of_confirm.add_permits(1);
        halt.wait();
        assert_eq!(world.signal::<Order>(id, "yes", Signal::Approved).await, Answer::Kept);
        halt.go_on();
        let seen = world.ended(id).await;
        assert_eq!(seen.status, "completed", "{site:?}: {seen:?}");
        assert_eq!(world.provider.requests("confirm").len(), confirms + 1, "asked once");
    }
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_timer_that_fires_after_the_signal_was_applied_is_dropped() {
    let world = World::new().await;
    let (halt, config) = Halt::new();
    let worker = world.worker(config).await;
    let id = awaiting_approval(&world, "overtaken").await;
    halt.arm(Site::Claimed);
    Clock::of(&world.pool).advance(APPROVAL).await;
    halt.wait();
    // The worker holds the instance with its timer due; the customer is a moment earlier.
    assert_eq!(world.signal::<Order>(id, "yes", Signal::Approved).await, Answer::Applied);
    halt.go_on();
    let seen = world.ended(id).await;
    assert_eq!(seen.status, "completed", "{seen:?}");
    assert!(world.provider.requests("cancel").is_empty(), "nothing expired");
    assert!(!world.journal(id).await.iter().any(|row| row.0 == "timer"));
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_due_timer_outlives_a_graceful_stop() {
    let world = World::new().await;
    let (halt, config) = Halt::new();
    let worker = world.worker(config).await;
    let id = awaiting_approval(&world, "stopped").await;
    halt.arm(Site::Claimed);
    Clock::of(&world.pool).advance(APPROVAL).await;
    halt.wait();
    let stopping = tokio::spawn(worker.stop());
    // The stop is decided before the driver looks.
    tokio::time::sleep(Duration::from_millis(50)).await;
    halt.go_on();
    stopping.await.expect("it stops");
    let seen = world.see(id).await;
    assert_eq!((seen.status.as_str(), seen.owner), ("running", None), "{seen:?}");
    assert!(timer_at(&world, id).await.is_some(), "the timer is still armed");
    let worker = world.worker(quick()).await;
    let seen = world.ended(id).await;
    assert_eq!(seen.reason.as_deref(), Some("\"Expired\""));
    worker.stop().await;
    world.close().await;
}
