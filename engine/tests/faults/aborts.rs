//! F2: the process aborts before or after every commit and call of a story, one crash point a run, until a run has none left.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    client::{give, start},
    provider::Manners,
    purchase::{self, Purchase},
    stage::{Process, Stage, eventually},
    told::Told,
    trip::{self, Trip},
};

/// The kinds of sites that there are.
const KINDS: usize = 5;

/// Runs the story once for each of its sites: the worker aborts there, another one begins and has to end it.
async fn aborts_everywhere(manners: Manners, end: &str, tell: impl AsyncFn(&Stage, usize) -> Uuid) {
    let stage = Stage::new(manners).await;
    let told = Told { sole: true, poll: Duration::from_millis(50), ..stage.told("aborting") };
    let (mut points, mut longest) = (0, Duration::ZERO);
    for site in 1.. {
        let id = tell(&stage, site).await;
        let mut process =
            Process::start(&stage, &Told { abort_at: Some(site), ..told.clone() }, &[]);
        eventually("an abort or an end", async || {
            process.status().is_some() || has_ended(&stage, id).await
        })
        .await;
        if process.status().is_none() {
            // It may be on the way from its last commit to the site behind that.
            process.send("-TERM");
            if process.ended().await.success() {
                break;
            }
        }
        points = site;
        let aborted = Instant::now();
        let _heir = Process::start(&stage, &told, &[]);
        eventually("the heir to end it", async || has_ended(&stage, id).await).await;
        longest = longest.max(aborted.elapsed());
    }
    stage.quiet().await;
    let kinds: BTreeSet<String> = stage.lines("aborts at ").into_iter().collect();
    println!("{points} crash points of {kinds:?}, the longest recovery {longest:?}");
    assert_eq!(stage.lines("aborts at ").len(), points, "each was hit once");
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    assert!(points >= 12, "vacuous: {points} crash points");
    assert!(longest < Duration::from_secs(5));
    let books = stage.balances(if end == "completed" { 100 } else { 0 }).await;
    assert_eq!(books.count(end), points + 1);
    stage.close().await;
}

async fn has_ended(stage: &Stage, id: Uuid) -> bool {
    let open: bool = sqlx::query_scalar(
        "-- name: test ended
        select status not in ('completed', 'unwound', 'stuck') from saga.instance where saga_id = $1",
    )
    .bind(id)
    .fetch_one(&stage.pool)
    .await
    .expect("it was started");
    !open
}

async fn a_trip(stage: &Stage, run: usize) -> Uuid {
    let id = start::<Trip>(&stage.engine, &stage.log, &format!("trip {run}"), ()).await;
    give::<Trip>(&stage.engine, id, "note", trip::Signal::Note).await.expect("it is there");
    stage.log.lock().expect("plain data").started.last_mut().expect("this one").noted = 1;
    id
}

async fn a_purchase(stage: &Stage, run: usize) -> Uuid {
    let purchase = format!("purchase {run}");
    let input = purchase::Input { purchase: purchase.clone(), item: 0 };
    let id = start::<Purchase>(&stage.engine, &stage.log, &purchase, input).await;
    give::<Purchase>(&stage.engine, id, "approved", purchase::Signal::Approved)
        .await
        .expect("it is there");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trip_survives_an_abort_at_every_site() {
    aborts_everywhere(Manners::good(), "completed", a_trip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_trip_survives_an_abort_at_every_site_of_its_way_back() {
    aborts_everywhere(Manners { declines: 100, ..Manners::good() }, "unwound", a_trip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_purchase_survives_an_abort_at_every_site() {
    aborts_everywhere(Manners { challenges: 100, ..Manners::good() }, "completed", a_purchase)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_purchase_survives_an_abort_at_every_site_of_its_way_back() {
    aborts_everywhere(Manners { declines: 100, ..Manners::good() }, "unwound", a_purchase).await;
}
