//! F17: pairs of instances whose items cross, in several processes.

use std::time::Duration;

use rand::RngExt as _;
use sqlx::AssertSqlSafe;
use stepwise_engine::Start;

use crate::{
    basket::{Basket, Items},
    provider::Manners,
    stage::{Stage, size},
};

/// Pairs of two of so many items that open at the same moment, driven by three workers; answers how many lost a deadlock.
async fn crossed<const CAREFUL: bool>(pairs: usize, items: i32) -> i64 {
    let mut stage = Stage::new(Manners::good()).await;
    // Only a superuser may say so; a deadlock is seen after a second otherwise.
    let name: String = sqlx::query_scalar("-- name: test database\nselect current_database()")
        .fetch_one(&stage.pool)
        .await
        .expect("the database is there");
    let sooner =
        format!("-- name: test sooner\nalter database \"{name}\" set deadlock_timeout = '50ms'");
    let _ = sqlx::query(AssertSqlSafe(sooner)).execute(&stage.pool).await;
    let mut starts = Vec::new();
    for pair in 0..pairs {
        let first = stage.random.random_range(0..items - 1);
        let items = Items(first, stage.random.random_range(first + 1..items));
        for (n, items) in [(2 * pair, items), (2 * pair + 1, Items(items.1, items.0))] {
            let subject = format!("basket {n} {} {}", items.0, items.1);
            starts.push(Start::new(subject, (items, Duration::ZERO)));
        }
    }
    let mut tx = stage.engine.begin().await.expect("the database is there");
    let started = stage.engine.start_many::<Basket<CAREFUL>>(&mut tx, starts).await;
    started.expect("they can be started");
    tx.commit().await.expect("the database is there");
    let workers = ["one", "two", "three"].map(|name| stage.worker(name));
    stage.quiet().await;
    let books = stage.balances(100).await;
    assert_eq!(books.count("completed"), 2 * pairs, "none is told of it");
    let taken = stage
        .count(
            "-- name: test taken\nselect (7 * 200000 + 5 - sum(on_hand))::bigint from test.stock",
        )
        .await;
    assert_eq!(taken, 4 * pairs as i64, "each has taken its two items once");
    let deadlocks = stage
        .count(
            "-- name: test deadlocks
            select count(*) from saga.journal where kind = 'attempt' and event->>'error' like '%deadlock%'",
        )
        .await;
    println!("{pairs} pairs, {deadlocks} deadlocks");
    drop(workers);
    stage.close().await;
    deadlocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_whose_items_cross_never_deadlock_where_a_chain_locks_first() {
    assert_eq!(crossed::<true>(size(60, 500), 7).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_lost_a_deadlock_is_run_again_until_it_is_done() {
    assert!(crossed::<false>(size(20, 100), 2).await > 0, "vacuous: none was in the other's way");
}
