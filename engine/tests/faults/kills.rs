//! F1: `kill -9` of a random one of three workers, again and again; a supervisor starts another in its place.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::{
    client::Pace,
    provider::Manners,
    stage::{Process, Stage, eventually, owned, size},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_any_moment_lose_nothing_and_repeat_nothing() {
    let mut stage = Stage::new(Manners::bad()).await;
    let kills = size(10, 500);
    let mut workers: Vec<Process> =
        (0..3).map(|n| stage.worker(&format!("worker-{n}-0"))).collect();
    let load = stage.load(Pace::default());
    let (mut longest, mut orphans) = (Duration::ZERO, 0);
    for kill in 1..=kills {
        let pause = stage.random.random_range(200..size(1_000, 3_000));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let n = stage.random.random_range(0..3);
        let victim = &mut workers[n];
        let id = stage.worker_id(&victim.name).await;
        victim.kill();
        let killed = Instant::now();
        let left = match id {
            Some(id) => owned(&stage, id).await,
            None => Default::default(),
        };
        // Every other time the survivors have to take over; else the next one is there, and perhaps dead, before they can.
        if kill % 2 == 0 && !left.is_empty() {
            orphans += left.len();
            let id = id.expect("it owned them");
            eventually("the heirs to take over", async || {
                owned(&stage, id).await.is_disjoint(&left)
            })
            .await;
            longest = longest.max(killed.elapsed());
        }
        workers[n] = stage.worker(&format!("worker-{n}-{kill}"));
    }
    load.end().await;
    stage.quiet().await;
    println!("{kills} kills, {orphans} orphans waited for, the longest {longest:?}");
    assert!(orphans > 0, "vacuous: nobody was killed in the middle of something");
    assert!(
        longest < Duration::from_secs(2 + 2),
        "an orphan waited {longest:?}, lease + 2 s is allowed"
    );
    stage.balances(60).await;
    for worker in &mut workers {
        worker.send("-TERM");
        assert!(worker.ended().await.success());
    }
    stage.close().await;
}
