//! Taking over from another process: a worker in a process of its own, stopped dead in the middle of a call and woken after another has
//! taken over; workers with little room; a child process that leaves something.
//!
//! The first body runs with the fence left out, too, and must then find fault.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use sqlx::{PgPool, postgres::PgPoolOptions};
use stepwise_engine::{
    Start, WorkerConfig,
    hooks::Hooks,
    quarantine::{Quarantine, quarantined},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    job::{Input, Job},
    plain::Five,
    provider::{Behaviour, Line, Provider},
    world::{World, engine, eventually, quick, work_on},
};

/// The settings of the other process.
const DATABASE: &str = "STEPWISE_TEST_WORKER_DATABASE";
const FOLDER: &str = "STEPWISE_TEST_WORKER_FOLDER";
const WITHOUT_FENCE: &str = "STEPWISE_TEST_WORKER_WITHOUT_FENCE";

/// No test by itself: the other process of the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_a_process_of_its_own() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let folder = PathBuf::from(std::env::var(FOLDER).expect("told together with the database"));
    let pool = PgPoolOptions::new().max_connections(4).connect(&database).await.expect("told");
    let provider = Provider::in_file(folder.join("book"));
    // Its second step hangs before it has acted.
    let gate = provider.hold("do-2");
    let engine = engine(pool, &provider);
    let without_fence = std::env::var_os(WITHOUT_FENCE).is_some();
    let _worker = work_on(
        &engine,
        WorkerConfig { hooks: Hooks { without_fence, ..Hooks::default() }, ..quick() },
    )
    .await;
    eventually("the second step", async || !provider.requests("do-2").is_empty()).await;
    std::fs::write(folder.join("hanging"), "").expect("the folder is the test's");
    eventually("the word to go on", async || folder.join("go-on").exists()).await;
    gate.add_permits(1);
    // Killed by the test.
    std::future::pending::<()>().await;
}

/// This very program, as the process that is no test by itself.
fn process(test: &str, database: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test runs from a file"));
    command
        .args([&format!("fence::{test}"), "--exact", "--nocapture"])
        .env(DATABASE, database)
        .env(FOLDER, folder)
        .stdout(Stdio::null());
    command
}

/// The folder in which processes leave files for each other.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("stepwise-fence-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).expect("the temporary folder can be written");
    folder
}

struct Other {
    process: Child,
    folder: PathBuf,
}

impl Other {
    fn start(world: &World, without_fence: bool) -> Self {
        let folder = folder();
        let mut command = process("a_worker_in_a_process_of_its_own", &world.db.url(), &folder);
        if without_fence {
            command.env(WITHOUT_FENCE, "1");
        }
        Self { process: command.spawn().expect("this very program can be run"), folder }
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("there is a kill command").success(), "the process is there");
    }

    fn book(&self) -> PathBuf {
        self.folder.join("book")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Gone or not: the test is over.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Pauses one worker beyond its lease while it calls step 2, lets another take over and reach step 4, wakes the first. Answers what
/// is wrong with the books afterwards.
async fn faults_after_a_pause(without_fence: bool) -> Vec<String> {
    let world = World::new().await;
    let other = Other::start(&world, without_fence);
    let mut tx = world.engine.begin().await.expect("the database is there");
    let started = world
        .engine
        .start::<Five>(&mut tx, Start::new("paused", ()))
        .await
        .expect("it can be started");
    tx.commit().await.expect("the database is there");
    let id = started.id;
    eventually("the other to hang in step 2", async || other.folder.join("hanging").exists()).await;
    other.send("-STOP");

    let provider = Provider::in_file(other.book());
    // One try fails, so that later steps get numbers that the sleeper does not know.
    provider.script("do-2", [Behaviour::NotDone]);
    let fourth: Arc<Semaphore> = provider.hold("do-4");
    let engine = engine(world.pool.clone(), &provider);
    let worker = work_on(&engine, quick()).await;
    eventually("the successor in step 4", async || !provider.requests("do-4").is_empty()).await;

    std::fs::write(other.folder.join("go-on"), "").expect("the folder is the test's");
    other.send("-CONT");
    eventually("the sleeper to have acted", async || {
        let acted = |line: &Line| line.op == "do-2" && line.key.ends_with("-2");
        provider.lines().iter().filter(|line| acted(line)).count() == 1
            && has_tried(&world.pool, without_fence, id).await
    })
    .await;
    fourth.add_permits(1);
    let mut faults = Vec::new();
    let seen = world.until(id, "an end", |seen| seen.status != "running").await;
    if seen.status != "completed" {
        faults.push(format!("it ended {}", seen.status));
    }
    faults.extend(faults_in_the_books(&world.pool, id, &provider).await);
    worker.stop().await;
    drop(other);
    if !without_fence {
        world.close().await;
    }
    faults
}

/// Has the woken worker tried its commit? With the fence it has noticed; without, it has written.
async fn has_tried(pool: &PgPool, without_fence: bool, id: Uuid) -> bool {
    let renewed: bool = sqlx::query_scalar(
        "-- name: test renewed
        select count(*) = 2 from saga.worker where lease_until > clock_timestamp()",
    )
    .fetch_one(pool)
    .await
    .expect("the database is there");
    let outcomes: i64 = sqlx::query_scalar(
        "-- name: test outcomes
        select count(*) from saga.journal where saga_id = $1 and kind = 'outcome' and step_no = 2",
    )
    .bind(id)
    .fetch_one(pool)
    .await
    .expect("the database is there");
    renewed && (!without_fence || outcomes > 1)
}

/// One outcome a step, one effect a step, epochs that only rise.
async fn faults_in_the_books(pool: &PgPool, id: Uuid, provider: &Provider) -> Vec<String> {
    let mut faults = Vec::new();
    let journal: Vec<(i32, i32, String, Option<i32>)> = sqlx::query_as(
        "-- name: test epochs
        select seq, epoch, kind, step_no from saga.journal where saga_id = $1 order by at, seq",
    )
    .bind(id)
    .fetch_all(pool)
    .await
    .expect("the database is there");
    for pair in journal.windows(2) {
        if pair[1].1 < pair[0].1 || pair[1].0 <= pair[0].0 {
            faults.push(format!("the journal goes back: {:?} after {:?}", pair[1], pair[0]));
        }
    }
    for n in 1..=5 {
        let done = provider.lines().iter().filter(|line| line.op == format!("do-{n}")).count();
        if done != 1 {
            faults.push(format!("step {n} was done {done} times"));
        }
    }
    let outcomes = journal.iter().filter(|row| row.2 == "outcome").count();
    if outcomes != 5 {
        faults.push(format!("{outcomes} outcomes of five steps"));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_paused_beyond_its_lease_cannot_commit_when_it_wakes() {
    assert_eq!(faults_after_a_pause(false).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_fence_the_same_pause_does_damage() {
    let faults = faults_after_a_pause(true).await;
    assert!(!faults.is_empty(), "the test of the fence would not notice its absence");
    println!("as it should be: {faults:?}");
}

/// All that is due was held by a worker that has died.
async fn die_with_what_is_due(world: &World) {
    sqlx::query(
        "-- name: test die
        with dead as (
            insert into saga.worker (worker_id, name, kinds, lease_until)
            values (gen_random_uuid(), 'dead', '[]', clock_timestamp() - interval '1 second')
            returning worker_id
        )
        update saga.instance i set owner = dead.worker_id, wake_at = null from dead where i.wake_at is not null",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
}

#[tokio::test]
async fn what_a_dead_worker_held_is_taken_over_by_one_with_little_room() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(world.start::<Five>(&format!("orphan {n}"), ()).await);
    }
    die_with_what_is_due(&world).await;
    let worker = world.worker(WorkerConfig { room: 8, ..quick() }).await;
    for id in ids {
        let seen = world.ended(id).await;
        assert_eq!(seen.status, "completed", "{seen:?}");
    }
    let asked = world.provider.requests("probe-1").len();
    assert!(asked >= 20, "the dead may have called, and only {asked} of 20 asked what came of it");
    worker.stop().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_full_of_slow_calls_keeps_nobody_from_what_the_dead_held() {
    let world = World::new().await;
    let gates = [(); 2].map(|()| world.provider.hold("work"));
    let lease = Duration::from_secs(3);
    let full = world.worker(WorkerConfig { room: 2, lease, ..quick() }).await;
    let slow = [
        world.start::<Job>("slow", Input::Work).await,
        world.start::<Job>("slow, too", Input::Work).await,
    ];
    world.asked("work", 2).await;
    let orphan = world.start::<Five>("orphan", ()).await;
    die_with_what_is_due(&world).await;
    world.until(orphan, "the full one to free it", |seen| seen.owner.is_none()).await;
    let other = engine(world.pool.clone(), &world.provider);
    let worker = work_on(&other, WorkerConfig { room: 8, ..quick() }).await;
    assert_eq!(world.ended(orphan).await.status, "completed");
    for id in slow {
        assert_eq!(world.see(id).await.status, "running", "they are as slow as ever");
    }
    gates.iter().for_each(|gate| gate.add_permits(1));
    for id in slow {
        assert_eq!(world.ended(id).await.status, "completed");
    }
    full.stop().await;
    worker.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_a_worker_owns_but_does_not_drive_is_taken_up_as_there_is_room() {
    let world = World::new().await;
    let worker = world.worker(WorkerConfig { room: 4, ..quick() }).await;
    let without_worker = engine(world.pool.clone(), &world.provider);
    let starts = (0..10).map(|n| Start::new(format!("adrift {n}"), ())).collect();
    let mut tx = without_worker.begin().await.expect("the database is there");
    let started =
        without_worker.start_many::<Five>(&mut tx, starts).await.expect("they can be started");
    sqlx::query(
        "-- name: test set adrift
        update saga.instance set owner = (select worker_id from saga.worker), wake_at = null,
            updated_at = clock_timestamp() - interval '3 seconds'",
    )
    .execute(&mut *tx)
    .await
    .expect("there is one worker");
    tx.commit().await.expect("the database is there");
    for one in &started {
        assert_eq!(world.ended(one.id).await.status, "completed");
    }
    worker.stop().await;
    world.close().await;
}

/// No test by itself: the child process of the test below. The first leaves what it holds and ends well; those after it do as they
/// are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_process_that_leaves_something() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let folder = PathBuf::from(std::env::var(FOLDER).expect("told together with the database"));
    let pool = PgPoolOptions::new().max_connections(4).connect(&database).await.expect("told");
    if folder.join("left").exists() {
        std::fs::write(folder.join("again"), "").expect("the folder is the test's");
        eventually("the word to go on", async || folder.join("go-on").exists()).await;
        let provider = Provider::in_file(folder.join("book"));
        return quarantined(engine(pool, &provider), quick()).await.expect("it is told what to do");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent is there");
    let sentence: serde_json::Value = serde_json::from_str(&line).expect("a sentence is JSON");
    sqlx::query(
        "-- name: test hold
        with child as (
            insert into saga.worker (worker_id, name, kinds, lease_until)
            values (gen_random_uuid(), 'quarantine of ' || $1, '[]', clock_timestamp() + interval '1 minute')
            returning worker_id
        )
        update saga.instance i set owner = child.worker_id, epoch = i.epoch + 1 from child where i.owner = $1::uuid",
    )
    .bind(sentence["parent"].as_str().expect("it has a parent"))
    .execute(&pool)
    .await
    .expect("the database is there");
    std::fs::write(folder.join("left"), "").expect("the folder is the test's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_process_that_ends_well_is_no_death_whatever_it_has_left() {
    let world = World::new().await;
    let folder = folder();
    let id = world.start::<Five>("suspect", ()).await;
    sqlx::query("-- name: test suspect\nupdate saga.instance set suspect = true")
        .execute(&world.pool)
        .await
        .expect("the database is there");
    die_with_what_is_due(&world).await;
    let (url, told) = (world.db.url(), folder.clone());
    let quarantine = Quarantine::by(move || {
        process("a_child_process_that_leaves_something", &url, &told).into()
    });
    let worker = world.worker(WorkerConfig { quarantine: Some(quarantine), ..quick() }).await;
    eventually("a child after the first", async || folder.join("again").exists()).await;
    let (deaths, suspect): (i16, bool) = sqlx::query_as(
        "-- name: test deaths\nselect deaths, suspect from saga.instance where saga_id = $1",
    )
    .bind(id)
    .fetch_one(&world.pool)
    .await
    .expect("it is there");
    assert_eq!((deaths, suspect), (0, true), "nothing is known of it, good or bad");
    std::fs::write(folder.join("go-on"), "").expect("the folder is the test's");
    assert_eq!(world.ended(id).await.status, "completed");
    worker.stop().await;
    world.close().await;
    let _ = std::fs::remove_dir_all(folder);
}
