//! F21: SIGTERM under load.

use std::time::{Duration, Instant};

use crate::{
    client::{Pace, start},
    provider::Manners,
    stage::{Process, Stage, eventually, size},
    told::Told,
    trip::Trip,
};

/// The traces that a graceful stop must not leave behind: instances of that worker, attempts used up, outcomes that nobody knows.
const TRACES: &str = "-- name: test traces
    select i.subject || ' ' || i.epoch || ' ' || i.seq || ' ' || i.waiting_on || ' ' || i.attempt || ' ' || i.unsettled || ' ' || coalesce(i.owner::text, '')
    from saga.instance i
    where i.status in ('running', 'unwinding') and (i.owner is not null or i.attempt > 0 or i.unsettled)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_end_under_load_finishes_its_calls_and_leaves_no_trace() {
    let calm =
        Manners { delay: Duration::from_millis(40)..Duration::from_millis(120), ..Manners::good() };
    let mut stage = Stage::new(calm).await;
    let load = stage.load(Pace::default());
    let (rounds, mut longest, mut driven) = (size(6, 30), Duration::ZERO, 0);
    for round in 0..rounds {
        let name = format!("worker-{round}");
        let mut worker = stage.worker(&name);
        stage.ready(&[name.as_str()]).await;
        let busy = "-- name: test busy\nselect count(*) from saga.instance where owner is not null";
        eventually("it to be busy", async || stage.count(busy).await >= 5).await;
        driven += stage.count(busy).await;
        let told = Instant::now();
        worker.send("-TERM");
        assert!(worker.ended().await.success(), "exit code 0");
        longest = longest.max(told.elapsed());
        let traces: Vec<String> =
            sqlx::query_scalar(TRACES).fetch_all(&stage.pool).await.expect("the database is there");
        assert!(traces.is_empty(), "owned, tried in vain or unknown: {traces:?}");
    }
    load.end().await;
    let last = stage.worker("last");
    stage.quiet().await;
    println!("{rounds} stops while {driven} instances were driven, the longest took {longest:?}");
    // A call takes 120 ms at most.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_eq!(stage.provider.probes(), 0, "nobody had to ask what became of a call");
    drop(last);
    stage.balances(60).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlasts_the_drain_is_left_to_the_successor_who_asks_first() {
    let slow = Manners { slow: Some(("book-2", Duration::from_secs(4))), ..Manners::good() };
    let stage = Stage::new(slow).await;
    let drain = Duration::from_secs(1);
    let told = |name: &str| Told { drain, lease: Duration::from_secs(20), ..stage.told(name) };
    let mut worker = Process::start(&stage, &told("worker"), &[]);
    start::<Trip>(&stage.engine, &stage.log, "slow", ()).await;
    eventually("the slow leg to begin", async || stage.provider.asked("book-2") == 1).await;
    stage.provider.behave(Manners::good());
    let begun = Instant::now();
    worker.send("-TERM");
    assert!(worker.ended().await.success(), "exit code 0");
    assert!(begun.elapsed() < drain + Duration::from_secs(1), "{:?}", begun.elapsed());
    let _successor = Process::start(&stage, &told("successor"), &[]);
    stage.quiet().await;
    assert_eq!(stage.provider.probes(), 1);
    let attempts = stage
        .count("-- name: test attempts\nselect count(*) from saga.journal where kind = 'attempt'")
        .await;
    assert_eq!(attempts, 0, "none was used up");
    // Well before the lease of 20 s would have run out.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stage.balances(100).await;
    stage.close().await;
}
