//! F3 and F4: workers that stand still for longer than their lease, or are slow while they renew it.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use crate::{
    client::{Pace, start},
    provider::Manners,
    stage::{Process, Stage, eventually, owned, size},
    told::{Sabotage, Told},
    trip::Trip,
};

/// Of the workers here.
const LEASE: Duration = Duration::from_millis(600);

/// The effects of the pauses.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    /// Instances that a paused worker held.
    held: usize,
}

/// Calls take a while, so that whoever owns an instance is most probably in the middle of one.
pub(crate) fn unhurried() -> Manners {
    Manners { delay: Duration::from_millis(30)..Duration::from_millis(90), ..Manners::bad() }
}

/// Two workers; one of them is stopped for three leases in the middle of something, woken, and so on.
pub(crate) async fn pause(stage: &mut Stage, pauses: usize, sabotage: Option<Sabotage>) -> Paused {
    let told = |name: &str| Told { lease: LEASE, sabotage, ..stage.told(name) };
    let workers = ["one", "two"].map(|name| Process::start(stage, &told(name), &[]));
    stage.ready(&["one", "two"]).await;
    let load = stage.load(Pace { cancels_trips: false, ..Pace::default() });
    let mut paused = Paused::default();
    for n in 0..pauses {
        let worker = &workers[n % 2];
        let id = stage.worker_id(&worker.name).await.expect("it works");
        eventually("it to hold something", async || !owned(stage, id).await.is_empty()).await;
        let fenced = stage.logged("fenced: another worker owns this instance now");
        worker.send("-STOP");
        let (stopped, held) = (Instant::now(), owned(stage, id).await);
        eventually("three leases to pass", async || stopped.elapsed() > 3 * LEASE).await;
        eventually("the other to take over", async || owned(stage, id).await.is_disjoint(&held))
            .await;
        worker.send("-CONT");
        paused.held += held.len();
        if sabotage.is_none() && !held.is_empty() {
            eventually("a stale commit to be rejected", async || {
                stage.logged("fenced: another worker owns this instance now") > fenced
            })
            .await;
        }
        eventually("it to work again", async || stage.worker_id(&worker.name).await.is_some())
            .await;
    }
    load.end().await;
    stage.quiet_within(size(Duration::from_secs(15), Duration::from_secs(60))).await;
    for mut worker in workers {
        worker.kill();
    }
    paused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_for_three_leases_has_its_stale_commits_rejected() {
    let mut stage = Stage::new(unhurried()).await;
    let pauses = size(4, 50);
    let paused = pause(&mut stage, pauses, None).await;
    println!(
        "{pauses} pauses, {paused:?}, {} commits fenced",
        stage.logged("fenced: another worker owns this instance now")
    );
    assert!(paused.held >= pauses, "vacuous: nobody was stopped in the middle of something");
    stage.balances(60).await;
    stage.close().await;
}

/// A trip whose second leg is slow, with a second worker that waits for its chance. Answers its epoch at the end.
async fn slow_leg(stage: &Stage, meanwhile: impl AsyncFnOnce(&Stage)) -> i32 {
    let workers = ["slow", "heir"].map(|name| Told { lease: LEASE, ..stage.told(name) });
    let slow = Process::start(stage, &workers[0], &[]);
    stage.ready(&["slow"]).await;
    let id = start::<Trip>(&stage.engine, &stage.log, "slow", ()).await;
    eventually("the slow leg to begin", async || stage.provider.asked("book-2") == 1).await;
    // Whoever asks again is served at once.
    stage.provider.behave(Manners::good());
    let heir = Process::start(stage, &workers[1], &[]);
    stage.ready(&["heir"]).await;
    meanwhile(stage).await;
    stage.quiet().await;
    drop((slow, heir));
    let instances = stage.instances().await;
    instances.iter().find(|seen| seen.saga_id == id).expect("it was started").epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_two_leases_is_not_taken_over_while_its_worker_renews() {
    let slow = Manners { slow: Some(("book-2", 2 * LEASE)), ..Manners::good() };
    let stage = Stage::new(slow).await;
    let epoch = slow_leg(&stage, async |_| {}).await;
    // The start waited for a worker: its claim was the second epoch.
    assert_eq!(epoch, 2, "nobody took it over");
    assert_eq!(stage.provider.asked("book-2"), 1);
    assert_eq!(stage.logged("fenced:"), 0);
    stage.balances(100).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_renew_is_taken_over_and_fenced() {
    // The lease runs out, the heir looks for orphans every 2 s.
    let slow = Manners { slow: Some(("book-2", 6 * LEASE)), ..Manners::good() };
    let stage = Stage::new(slow).await;
    let mut locker =
        PgConnection::connect_with(&stage.options()).await.expect("the database is there");
    let epoch = slow_leg(&stage, async |stage| {
        // Its heartbeat hangs on a lock of somebody else; all the rest of it works.
        let mut tx = locker.begin().await.expect("the database is there");
        sqlx::query(
            "-- name: test lock lease\nselect from saga.worker where name = 'slow' for update",
        )
        .execute(&mut *tx)
        .await
        .expect("it is there");
        // The heir's question comes while the provider is still at it: never heard of, so it is asked once more.
        eventually("the heir to take over", async || {
            stage.logged("taken over from a dead worker") == 1
        })
        .await;
        eventually("the loser to be fenced", async || {
            stage.logged("fenced: another worker owns this instance now") == 1
        })
        .await;
        tx.rollback().await.expect("the database is there");
    })
    .await;
    assert_eq!(epoch, 4, "claimed, freed and claimed by the heir: one take-over");
    stage.balances(100).await;
    stage.close().await;
}
