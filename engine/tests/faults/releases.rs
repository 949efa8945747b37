//! F20: a rolling deploy, its roll-back and its return, with the schema expanded under running processes.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use stepwise_engine::Engine;

use crate::{
    client::{give, start},
    letter::{Letter, NEW, OLD, Signal},
    outside::Outside,
    provider::Manners,
    sagas,
    stage::{Process, Stage, eventually, size},
    told::Told,
};

/// The addition of the second release to the schema; the first release does not know it.
const EXPAND: &str = "-- name: test expand
set local lock_timeout = '1s';
alter table saga.instance add column postcode text not null default '';
insert into saga._migrations (version, description, success, checksum, execution_time)
values (9999, 'a column of the second release', true, '\\x00', 0)";

/// Instances that no living worker knows.
const STRANGE: &str =
    "-- name: test strange\nselect count(*) from saga.instance where waiting_on = 'version'";

/// A worker of that release; it refuses to begin on a schema that is none of its own.
fn worker(stage: &Stage, name: &str, release: u16) -> Process {
    Process::start(stage, &Told { release, ..stage.told(name) }, &[])
}

/// Starts letters of these releases in turn for that time, and cancels some.
async fn write_letters(stage: &mut Stage, time: Duration, releases: &[(&Engine, u16)]) {
    static LETTERS: AtomicUsize = AtomicUsize::new(0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        for (engine, release) in releases {
            let subject = format!("letter-{}", LETTERS.fetch_add(1, Ordering::Relaxed));
            let id = match *release {
                OLD => start::<Letter<OLD>>(engine, &stage.log, &subject, ()).await,
                _ => start::<Letter<NEW>>(engine, &stage.log, &subject, ()).await,
            };
            if stage.random.random_range(0..10) == 0 {
                // Applied, refused or kept for who knows the version: all are answers.
                give::<Letter<OLD>>(engine, id, "cancel", Signal::Cancel)
                    .await
                    .expect("the database is there");
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_and_its_roll_back_lose_nothing_on_the_old_schema_and_the_new() {
    let mut stage = Stage::new(Manners::bad()).await;
    let phase = size(Duration::from_millis(1_500), Duration::from_secs(75));
    let outside = Outside(stage.folder.join("outside"));
    let old = stage.engine.clone();
    let new = sagas::engine(stage.pool.clone(), &outside, None, NEW);

    // The first release alone, on its schema.
    let first = worker(&stage, "old-1", OLD);
    let mut second = worker(&stage, "old-2", OLD);
    stage.ready(&["old-1", "old-2"]).await;
    write_letters(&mut stage, phase, &[(&old, OLD)]).await;

    // The schema is expanded under it, then the second release comes, one process after the other.
    let expanding = Instant::now();
    let mut tx = stage.pool.begin().await.expect("the database is there");
    sqlx::raw_sql(EXPAND).execute(&mut *tx).await.expect("no process holds it up for a second");
    tx.commit().await.expect("the database is there");
    assert!(expanding.elapsed() < Duration::from_secs(1), "{:?}", expanding.elapsed());
    let mut third = worker(&stage, "new-1", NEW);
    stage.ready(&["new-1"]).await;
    write_letters(&mut stage, phase, &[(&old, OLD), (&new, NEW)]).await;

    // An old process begins anew on the expanded schema.
    second.kill();
    let fourth = worker(&stage, "old-3", OLD);
    stage.ready(&["old-3"]).await;

    // Rolled back in the middle of everything: what the second release has touched waits for it, the rest goes on.
    write_letters(&mut stage, phase, &[(&new, NEW), (&old, OLD)]).await;
    third.kill();
    write_letters(&mut stage, phase, &[(&old, OLD)]).await;
    eventually("the first release to end what it can", async || {
        stage.open().await == stage.count(STRANGE).await
    })
    .await;
    let strange = stage.count(STRANGE).await;
    assert!(strange > 0, "vacuous: the second release had left nothing behind");

    // It returns.
    let fifth = worker(&stage, "new-2", NEW);
    stage.quiet().await;
    let books = stage.balances(60).await;
    println!("{strange} instances waited for the second release");
    assert!(books.count("unwound") > 0, "vacuous: none was cancelled");
    drop((first, fourth, fifth));
    stage.close().await;
}
