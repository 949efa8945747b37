//! A worker whose database is away at the start, or refuses its statements again and again.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use stepwise_engine::{
    Engine, WorkerConfig,
    database::{self, Waits},
    outbox::DeclaredTopologies,
    testing::Database,
};
use stepwise_tests::proxy::{Network, Proxy};
use tokio_util::sync::CancellationToken;

use crate::site::{Site, eventually, kill};

/// Fault: process: a worker begins while the database does not answer, or while the process has no file descriptor left
/// Customer: accepted work waits for a worker
/// Operator: one line in the log when it begins and one when it ends; `/readyz` says that the worker holds no lease
/// Within: at once
/// Ends: by itself, within 2 s
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_begin_is_followed_by_another_one() {
    let server = Database::fresh(&[stepwise_engine::migrations::migrations()]).await;
    let (proxy, url) = Proxy::before_url(&server.url()).await;
    proxy.set(Network::Cut);
    let options = url.parse().expect("the proxy's URL is a Postgres address");
    let pool = database::pool(options, Waits::USUAL, 5, Duration::from_millis(300));
    let engine = Engine::builder(pool).build();
    let stop = CancellationToken::new();
    let config = WorkerConfig { name: "early".to_owned(), ..WorkerConfig::default() };
    let stopped = stop.clone().cancelled_owned();
    let worker = tokio::spawn(stepwise_engine::work(engine.clone(), config, stopped));
    eventually("it to try again and again", async || {
        worker.is_finished() || proxy.connections() > 3
    })
    .await;
    assert!(!worker.is_finished(), "it gave up: {:?}", worker.await);
    proxy.set(Network::Whole);
    eventually("the worker", async || engine.is_working()).await;
    stop.cancel();
    worker.await.expect("it does not panic").expect("it drains");
    engine.pool().close().await;
    server.close().await;
}

/// The loops of a process that has lost its connections open them again over a network on which they were lost together.
///
/// Fault: database: it is slow to log clients in (it has just started, or all connect at the same moment)
/// Customer: requests are answered with 503 and `Retry-After` until there are connections
/// Operator: at most one line in the log when it begins and one when it ends
/// Within: 2 s
/// Ends: by itself: a process opens a few connections at a time, and waits longer for each
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_that_connect_together_are_all_connected_by_a_slow_server() {
    const CLIENTS: u32 = 16;
    const LOGIN: Duration = Duration::from_millis(300);
    let server = Database::fresh(&[]).await;
    let (proxy, url) = Proxy::before_url(&server.url()).await;
    proxy.set(Network::SlowLogin(300));
    let options: PgConnectOptions = url.parse().expect("the proxy's URL is a Postgres address");
    let connect = async || {
        loop {
            match database::connect(options.clone(), Waits::USUAL).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let began = Instant::now();
    let all = join_all((0..CLIENTS).map(|_| connect()));
    // One after the other, and as much again for those that had to be given up.
    let enough = 2 * CLIENTS * LOGIN;
    let connected = tokio::time::timeout(enough, all).await;
    let made = proxy.connections();
    assert!(connected.is_ok(), "not all are connected after {enough:?} and {made} tries");
    println!("all connected in {:?} with {made} tries", began.elapsed());
    drop(connected);
    drop(proxy);
    server.close().await;
}

/// The queries of a relay outside its own tables are given up when the connection has gone silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_of_a_broker_is_given_up_on_silent_connections() {
    let server = Database::fresh(&[stepwise_engine::migrations::migrations()]).await;
    for nth in 0..3 {
        let (proxy, url) = Proxy::before_url(&server.url()).await;
        let options = url.parse().expect("the proxy's URL is a Postgres address");
        let pool = database::pool(options, Waits::USUAL, 1, Duration::from_secs(10));
        let declared = DeclaredTopologies::new(pool.clone());
        declared.insert("a broker").await.expect("the network is whole");
        // Its connection lies idle again, and may be handed out unasked.
        drop(pool.acquire().await.expect("the network is whole"));
        proxy.set(Network::Silent);
        let asking = async {
            match nth {
                0 => declared.insert("a broker").await,
                1 => declared.mark_destroyed("a broker", "its exchange").await,
                _ => declared.standing("a broker").await.map(|_| ()),
            }
        };
        let given_up = tokio::time::timeout(Duration::from_secs(6), asking).await;
        assert!(matches!(given_up, Ok(Err(_))), "question {nth}: {given_up:?}");
    }
    server.close().await;
}

/// The number of transactions of this database that have failed.
async fn failures(pool: &PgPool) -> i64 {
    let asked = sqlx::query_scalar(
        "select xact_rollback from pg_stat_database where datname = current_database()",
    );
    asked.fetch_one(pool).await.expect("readable")
}

/// Fault: database: it answers, and refuses what a worker asks (a table that cannot be used, a right that was taken away)
/// Customer: accepted work waits
/// Operator: one line in the log for each thing that cannot be done when it begins, and one when it ends
/// Within: 2 s
/// Ends: by itself, within 2 s
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_that_lasts_is_logged_when_it_begins_and_when_it_ends() {
    let server = Database::fresh(&[]).await;
    let (site, url) = (Site::new(), server.url());
    assert!(site.role(&["migrate", "--database-url", &url]).wait().await.expect("ours").success());
    let nowhere = ["--gateway-url", "http://127.0.0.1:9", "--gateway-key", "k"];
    let mut worker = site.role(&[&["work", "--database-url", &url][..], &nowhere[..]].concat());
    eventually("the worker", async || site.log().contains("the worker has begun")).await;

    let mut admin = PgConnection::connect(&url).await.expect("the database is there");
    let mut run = async |statement| {
        sqlx::raw_sql(statement).execute(&mut admin).await.expect("ours");
    };
    run("alter table saga.schedule rename to schedule_away").await;
    run("alter table saga.worker rename to worker_away").await;
    let began = failures(server.pool()).await;
    let lines = ["rounds fail", "claiming fails"];
    eventually("many tries in vain", async || {
        failures(server.pool()).await > began + 12
            && lines.iter().all(|line| site.log().contains(line))
    })
    .await;
    run("alter table saga.schedule_away rename to schedule").await;
    run("alter table saga.worker_away rename to worker").await;
    for line in lines {
        let ended = format!("no longer: {line}");
        eventually("the log to say that it is over", async || site.log().contains(&ended)).await;
        let log = site.log();
        assert_eq!((log.matches(line).count(), log.matches(&ended).count()), (2, 1), "{log}");
    }
    let log = site.log();
    // A worker says at its start which faults it finds, and these two tables may be among them.
    let said_later = |line: &&str| !line.contains("this installation has a fault");
    let troubles = log.lines().filter(|line| line.contains(r#""WARN""#)).filter(said_later).count();
    assert!(troubles <= 3, "one line for each thing that cannot be done: {log}");
    kill("TERM", &worker.id().expect("it runs").to_string());
    assert!(worker.wait().await.expect("ours").success());
    server.close().await;
}
