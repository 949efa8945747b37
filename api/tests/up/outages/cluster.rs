//! The database and the gateway that `up` runs: they are killed, frozen, or left behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection};

use crate::{
    doctor::{doctor, wrong},
    site::{Site, Up, eventually, kill},
};

fn postmaster(site: &Site) -> String {
    let note = fs::read_to_string(site.data.join("postgres/data/postmaster.pid")).expect("it runs");
    note.lines().next().expect("a number").trim().to_owned()
}

/// The processes whose working directory is the cluster's data directory.
fn backends(site: &Site) -> Vec<u32> {
    let data = site.data.join("postgres/data");
    let works_there =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place == data);
    site.processes().into_iter().filter(works_there).collect()
}

/// Places an order that succeeds. Under load a customer may be told to come again until all connections are back.
async fn shop_until_one_succeeds(up: &Up) {
    let mut placed = None;
    eventually("an order that is begun", async || match up.try_order_as(0, "ok").await {
        Ok(order) => {
            placed = Some(order);
            true
        }
        Err((status, problem)) => {
            assert_eq!(status, 503, "{problem}");
            false
        }
    })
    .await;
    let (_, operation, token) = placed.expect("it was begun");
    let path = format!("/v1/operations/{operation}");
    eventually("the operation to succeed", async || {
        let (status, operation) = up.get(&token, &path).await;
        assert!(matches!(status, 200 | 503), "{operation}");
        assert_ne!(operation["status"], "failed", "{operation}");
        operation["status"] == "succeeded"
    })
    .await;
}

/// Fault: database: the server of `up` is killed alone (out of memory)
/// Customer: 503 with `Retry-After` until it is back
/// Operator: the log says that the database died and that it was started again
/// Within: 1 s
/// Ends: by itself, within 10 s, also under load
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_alone_is_started_again_under_load() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let (base, customers) = (up.base.clone(), up.demo["customers"].clone());
    let load = tokio::spawn(async move {
        let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
        let asking = (0..8).map(async |n| {
            let token = customers[n]["token"].as_str().expect("a text").to_owned();
            loop {
                let request = client.get(format!("{base}/v1/orders")).bearer_auth(&token);
                let _ = request.send().await;
            }
        });
        futures::future::join_all(asking).await;
    });
    for _ in 0..2 {
        let old = postmaster(&site);
        let killed = Instant::now();
        kill("KILL", &old);
        let another = async || {
            fs::read_to_string(site.data.join("postgres/data/postmaster.pid"))
                .is_ok_and(|note| note.lines().next() != Some(&old))
                && up.is_ready().await
        };
        eventually("another database", another).await;
        assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
        shop_until_one_succeeds(&up).await;
    }
    load.abort();
    assert!(up.stop("TERM").await.success());
    assert_eq!(site.processes(), Vec::<u32>::new());
    assert_eq!(site.log().matches("the database died").count(), 2, "{}", site.log());
}

/// Fault: database: the server of `up` does not answer any more, and `up` is told to stop
/// Customer: nothing; the shop is closed
/// Operator: the log says that the database is killed, and recovers at its next start
/// Within: 30 s
/// Ends: by itself; nothing is left running
#[tokio::test]
async fn a_database_that_hangs_does_not_hold_up_the_end() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    for pid in backends(&site) {
        kill("STOP", &pid.to_string());
    }
    let told = Instant::now();
    up.stop("TERM").await;
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    assert_eq!(site.processes(), Vec::<u32>::new());

    // Also if the database already hangs when `up` starts.
    let up = site.up(&["--no-demo"]).await;
    up.kill_group().await;
    kill("STOP", &postmaster(&site));
    let mut second = site.role(&["up", "--port", "0", "--no-demo"]);
    let waits = async || site.log().contains("waiting for it");
    eventually("it to wait for the database", waits).await;
    kill("TERM", &second.id().expect("it runs").to_string());
    let told = Instant::now();
    second.wait().await.expect("ours");
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    // The gateway of the killed `up` keeps running until a start reaches it.
    kill("TERM", &site.gateway_pid().to_string());
    eventually("nothing to be left", async || site.processes().is_empty()).await;
}

#[tokio::test]
async fn a_closed_terminal_and_sigquit_end_it_as_sigterm_does() {
    let site = Site::new();
    for signal in ["HUP", "QUIT"] {
        let up = site.up(&["--no-demo"]).await;
        assert!(up.stop(signal).await.success(), "{signal}");
        assert_eq!(site.processes(), Vec::<u32>::new(), "{signal}");
        assert!(!site.data.join("postgres/data/postmaster.pid").exists(), "in good order");
    }
}

/// Fault: process: `up` fails at its start
/// Customer: nothing; the shop is closed
/// Operator: one line that says why, and the exit code
/// Within: the start
/// Ends: nothing is left running; the next start begins anew
#[tokio::test]
async fn an_up_that_fails_leaves_nothing_running() {
    let mut site = Site::new();
    let up = site.up(&[]).await;
    change(&up, "update shop.inventory set on_hand = 900").await;
    change(
        &up,
        "insert into shop._migrations (version, description, success, checksum, execution_time)
         values (9999, 'contract of tomorrow', true, '\\x00', 0)",
    )
    .await;
    let (code, line) = {
        let stopped = up.stop("TERM").await;
        assert!(stopped.success());
        site.refusal(&["up", "--port", "0"]).await
    };
    assert_eq!(code, 4, "{line}");
    assert_eq!(site.processes(), Vec::<u32>::new(), "{line}");

    // Neither little stock nor the shell's settings of sessions is a reason to fail.
    let cluster = stepwise_adapters::postgres::Cluster::start(&site.data.join("postgres")).await;
    let cluster = cluster.expect("it starts without `up`");
    let mut database = PgConnection::connect(&cluster.url()).await.expect("it is up");
    sqlx::raw_sql("delete from shop._migrations where version = 9999")
        .execute(&mut database)
        .await
        .expect("written");
    database.close().await.expect("closed");
    cluster.stop().await.expect("stopped");
    site.environment = vec![
        ("PGOPTIONS", "-c default_transaction_read_only=on"),
        ("PGDATABASE", "none"),
        ("PGSSLMODE", "require"),
    ];
    let up = site.up(&[]).await;
    assert_eq!(up.demo["productIds"].as_array().map(Vec::len), Some(0), "little stock of all");
    assert_eq!(up.get("", "/readyz").await.0, 200);
    let (code, lines) = doctor(&site, &[]).await;
    assert_eq!(code, 0, "{:?}", wrong(&lines));
    assert!(up.stop("TERM").await.success());
}

async fn change(up: &Up, statement: &'static str) {
    let url = up.demo["databaseUrl"].as_str().expect("a text");
    let mut database = PgConnection::connect(url).await.expect("it is up");
    sqlx::raw_sql(statement).execute(&mut database).await.expect("written");
    database.close().await.expect("closed");
}
