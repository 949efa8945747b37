//! F11: the clock of a worker is wrong, and goes wrong while it works.
//!
//! libfaketime is preloaded into one of two workers. In the first test a file tells it an offset that changes under the running process; the
//! clock of the day is faked and the monotonic one is not: that is what happens when somebody sets a clock. In the second all clocks of
//! the process run at another speed, as on a machine whose oscillator is broken. Postgres and the other worker have the right time.
//! Timers are decided by Postgres, leases too, and renewed by the monotonic clock, so neither test may see a difference.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use stepwise_engine::Start;

use crate::{
    client::Pace,
    nap::Nap,
    provider::Manners,
    stage::{Process, Stage, size},
};

/// Seconds by which a worker's clock must be wrong for its attempts to count as proof that it was.
const SKEWED: &str = "-- name: test skewed
    select count(*) from saga.journal
    where started_at is not null and abs(extract(epoch from started_at - at)) > $1 and at > clock_timestamp() - $2 * interval '1 ms'";

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("there is a /usr/lib");
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.exists())
        .expect("libfaketime is missing: apt-get install libfaketime")
}

/// Two workers, the second one misled from the start.
fn workers(stage: &Stage, faked: &str, monotonic_too: bool) -> [Process; 2] {
    let (library, clock) = (library(), stage.folder.join("clock"));
    std::fs::write(&clock, faked).expect("the folder is the test's");
    let environment = [
        ("LD_PRELOAD", library.to_str().expect("plain")),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("plain")),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", if monotonic_too { "0" } else { "1" }),
    ];
    [stage.worker("right"), Process::start(stage, &stage.told("wrong"), &environment)]
}

/// Sets the clock and lets naps pass by it; answers how many attempts were dated wrongly by more than `skew_s`.
async fn live_by(stage: &Stage, clock: &str, skew_s: f64) -> i64 {
    std::fs::write(stage.folder.join("clock"), clock).expect("the folder is the test's");
    let begun = Instant::now();
    // The library looks at the file once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut tx = stage.engine.begin().await.expect("the database is there");
    let starts = (0..50)
        .map(|n| Start::new(format!("nap {clock} {n}"), Duration::from_millis(20 * n)))
        .collect();
    stage.engine.start_many::<Nap>(&mut tx, starts).await.expect("they can be started");
    tx.commit().await.expect("the database is there");
    tokio::time::sleep(Duration::from_millis(size(1_500, 60_000))).await;
    sqlx::query_scalar(SKEWED)
        .bind(skew_s)
        .bind(i64::try_from(begun.elapsed().as_millis()).expect("a test does not last that long"))
        .fetch_one(&stage.pool)
        .await
        .expect("the database is there")
}

/// How often each worker renews its lease in four seconds.
async fn renewals(stage: &Stage) -> HashMap<String, usize> {
    let (begun, mut seen) = (Instant::now(), HashSet::new());
    while begun.elapsed() < Duration::from_secs(4) {
        let leases: Vec<(String, String)> =
            sqlx::query_as("-- name: test leases\nselect name, lease_until::text from saga.worker")
                .fetch_all(&stage.pool)
                .await
                .expect("the database is there");
        seen.extend(leases);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut times = HashMap::new();
    for (name, _) in seen {
        *times.entry(name).or_default() += 1;
    }
    times
}

/// All timers were punctual, nobody lost a lease, the books balance.
async fn nobody_noticed(stage: Stage) {
    stage.quiet().await;
    let (timers, early, late): (i64, i64, i64) = sqlx::query_as(
        "-- name: test punctual
        select count(*), min(d)::bigint, max(d)::bigint from (
            select extract(epoch from f.at - s.at) * 1000 - (s.next->>'wait_ms')::bigint as d
            from saga.journal s join saga.journal f on f.saga_id = s.saga_id and f.kind = 'timer' and f.step_no = s.seq
            where s.next->>'wait_ms' is not null) t",
    )
    .fetch_one(&stage.pool)
    .await
    .expect("the database is there");
    println!("{timers} timers, {early} to {late} ms after their time");
    assert!(early > -1_000, "one fired {early} ms after its time");
    assert!(late < 2_000, "one fired {late} ms after its time");
    for text in ["taken over from a dead worker", "fenced:"] {
        assert_eq!(stage.logged(text), 0, "{text}");
    }
    stage.balances(60).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_clock_is_set_wrong_fires_no_timer_early_or_late_and_keeps_its_lease() {
    let mut stage = Stage::new(Manners::bad()).await;
    let workers = workers(&stage, "+0", false);
    stage.ready(&["right", "wrong"]).await;
    let load = stage.load(Pace::default());
    for (clock, skew_s) in [
        ("+3600", 3_000.0),
        ("-3600", 3_000.0),
        ("+86400", 80_000.0),
        ("-86400", 80_000.0),
        ("+0 x2.0", 0.5),
    ] {
        let skewed = live_by(&stage, clock, skew_s).await;
        println!("clock at {clock}: {skewed} attempts dated wrongly");
        assert!(skewed > 0, "vacuous: {clock} was not believed");
    }
    load.end().await;
    nobody_noticed(stage).await;
    drop(workers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_all_of_whose_clocks_run_at_another_speed_keeps_its_lease() {
    let mut stage = Stage::new(Manners::bad()).await;
    let load = stage.load(Pace::default());
    // Each with processes of its own: a monotonic clock that changes its speed would jump here, which none does.
    for (clock, hastier) in [("+0 x2.0", "wrong"), ("+0 x0.5", "right")] {
        let workers = workers(&stage, clock, true);
        stage.ready(&["right", "wrong"]).await;
        let skewed = live_by(&stage, clock, 0.5).await;
        let renewed = renewals(&stage).await;
        println!(
            "clocks at {clock}: {skewed} attempts dated wrongly, leases renewed {renewed:?} times"
        );
        assert!(skewed > 0, "vacuous: {clock} was not believed");
        let most = renewed.iter().max_by_key(|(_, times)| *times).map(|(name, _)| name.as_str());
        assert_eq!(most, Some(hastier), "vacuous: the monotonic clock was right");
        for mut worker in workers {
            worker.send("-TERM");
            assert!(worker.ended().await.success());
        }
    }
    load.end().await;
    let last = stage.worker("last");
    nobody_noticed(stage).await;
    drop(last);
}
