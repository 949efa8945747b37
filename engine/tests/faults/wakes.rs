//! F23 and F24: nobody is told that there is work, and very much of it at once.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use stepwise_engine::Start;

use crate::{
    client::start,
    letter::OLD,
    nap::Nap,
    outside::Outside,
    provider::Manners,
    sagas,
    stage::{Process, Stage, eventually, size},
    told::Told,
    trip::Trip,
};

/// Milliseconds from the start of an instance to its first outcome, the longest.
const FOUND: &str = "-- name: test found
    select coalesce(max(extract(epoch from o.at - s.at) * 1000), 0)::bigint from saga.journal s
    join lateral (select min(at) as at from saga.journal o where o.saga_id = s.saga_id and o.kind = 'outcome') o on true
    where s.kind = 'start'";

/// The server's processes of the connections that listen: their last statement was `listen`, or the question whether they live.
async fn listeners(stage: &Stage) -> Vec<i32> {
    sqlx::query_scalar(
        "-- name: test listeners
        select pid from pg_stat_activity
        where datname = current_database() and (query ilike 'listen%' or query like '-- name: listener lives%')",
    )
    .fetch_all(&stage.pool)
    .await
    .expect("the database is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_found_within_a_second_when_nobody_hears_of_it() {
    let stage = Stage::new(Manners::good()).await;
    let poll = Duration::from_secs(1);
    let _worker = Process::start(&stage, &Told { poll, ..stage.told("worker") }, &[]);
    stage.ready(&["worker"]).await;
    // Clients whose notes go nowhere.
    sqlx::raw_sql(
        "-- name: test mute
        create schema mute;
        create function mute.pg_notify(text, text) returns void language sql as 'select null::void';",
    )
    .execute(&stage.pool)
    .await
    .expect("the schema is new");
    let mute = PgPoolOptions::new()
        .connect_lazy_with(stage.options().options([("search_path", "mute,pg_catalog")]));
    let elsewhere = sagas::engine(mute.clone(), &Outside(stage.folder.join("outside")), None, OLD);
    let (rounds, mut terminated) = (size(4, 60), 0);
    for round in 0..rounds {
        // And whoever listens is cut off.
        let cut = listeners(&stage).await;
        sqlx::query("-- name: test deafen\nselect pg_terminate_backend(pid) from unnest($1) pid")
            .bind(&cut)
            .execute(&stage.pool)
            .await
            .expect("the database is there");
        terminated += cut.len();
        start::<Trip>(&elsewhere, &stage.log, &format!("unheard {round}"), ()).await;
        stage.quiet().await;
    }
    let longest = stage.count(FOUND).await;
    println!(
        "{rounds} starts nobody heard of, {terminated} listeners cut off, found after {longest} ms at most"
    );
    assert!(terminated >= 1, "vacuous: nobody was cut off");
    assert!(longest < 1_000 + 300, "{longest} ms; the poll is 1 s, the first call takes its time");
    // It listens again by itself: found at once, well before the next poll.
    eventually("a listener", async || listeners(&stage).await.len() == 1).await;
    sqlx::query("-- name: test forget\ntruncate saga.journal")
        .execute(&stage.pool)
        .await
        .expect("the database is there");
    start::<Trip>(&stage.engine, &stage.log, "heard", ()).await;
    stage.quiet().await;
    let heard = stage.count(FOUND).await;
    assert!(heard < 500, "{heard} ms");
    mute.close().await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_timers_of_one_second_all_fire_in_time() {
    let stage = Stage::new(Manners::good()).await;
    let timers = size(5_000, 50_000);
    let due = Instant::now() + size(Duration::from_secs(8), Duration::from_secs(60));
    for batch in 0..timers / 500 {
        let mut tx = stage.engine.begin().await.expect("the database is there");
        let starts = (0..500_u64)
            .map(|n| {
                let delay =
                    due.saturating_duration_since(Instant::now()) + Duration::from_millis(2 * n);
                Start::new(format!("nap {batch} {n}"), delay)
            })
            .collect();
        stage.engine.start_many::<Nap>(&mut tx, starts).await.expect("they can be started");
        tx.commit().await.expect("the database is there");
    }
    assert!(Instant::now() < due, "the machine is too slow to start them before they are due");
    let _worker = stage.worker("worker");
    eventually("the second to have passed", async || Instant::now() > due + Duration::from_secs(1))
        .await;
    stage.quiet().await;
    let (early, late): (i64, i64) = sqlx::query_as(
        "-- name: test punctual
        select min(d)::bigint, max(d)::bigint from (
            select extract(epoch from f.at - s.at) * 1000 - (s.next->>'wait_ms')::bigint as d
            from saga.journal s join saga.journal f using (saga_id) where s.kind = 'start' and f.kind = 'timer') t",
    )
    .fetch_one(&stage.pool)
    .await
    .expect("the database is there");
    println!(
        "{timers} timers of one second, the first {early} ms after its time, the last {late} ms"
    );
    // Delays count from the begin of the transaction that starts them.
    assert!(early > -1_000, "one fired {early} ms early");
    let bound = if cfg!(debug_assertions) { 30_000 } else { 5_000 };
    assert!(late < bound, "the last one came {late} ms late, {bound} ms are allowed");
    let books = stage.balances(100).await;
    assert_eq!(books.count("completed"), timers as usize);
    stage.close().await;
}
