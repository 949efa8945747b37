//! A database that is slow, silent or read-only, or in which others hold locks.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, PgPool};
use stepwise_engine::testing::Database;
use stepwise_tests::proxy::{Network, Proxy};

use crate::site::{Site, Up, eventually, kill};

/// A session of this test on the database of `up`.
async fn session(up: &Up) -> PgConnection {
    let url = up.demo["databaseUrl"].as_str().expect("a text");
    PgConnection::connect(url).await.expect("the database is there")
}

async fn run(session: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(session).await.expect(statement);
}

fn token_of(up: &Up, customer: usize) -> &str {
    up.demo["customers"][customer]["token"].as_str().expect("a text")
}

/// Orders a product for a customer. Returns the status and the body.
async fn order(up: &Up, customer: usize, product: usize, method: &str) -> (u16, Value) {
    let token = token_of(up, customer);
    let customer = &up.demo["customers"][customer];
    let id = customer["customerId"].as_str().expect("a text");
    let items = format!("/v1/customers/{id}/cart/items");
    let item = json!({ "productId": up.demo["productIds"][product], "quantity": 1 });
    let (status, body) = up.post(token, &items, &item).await;
    if status >= 300 {
        return (status, body);
    }
    let body = json!({
        "customerId": customer["customerId"],
        "shippingAddressId": customer["shippingAddressId"],
        "paymentMethodId": customer["paymentMethods"][method],
    });
    up.post(token, "/v1/orders", &body).await
}

/// Orders until an order is accepted, and waits until it is placed. Returns every status on the way.
async fn order_until_placed(up: &Up, customer: usize, product: usize) -> Vec<u16> {
    let mut seen = Vec::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {seen:?}");
        let (status, body) = order(up, customer, product, "ok").await;
        seen.push(status);
        if status == 202 {
            let operation = body["id"].as_str().expect("a text");
            up.succeeded(token_of(up, customer), operation).await;
            return seen;
        }
        assert_eq!(status, 503, "{body}");
        assert_eq!(body["retryable"], true, "{body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Fault: database: its sessions are terminated
/// Customer: nothing; a request in the middle of a statement is 503
/// Operator: nothing; with the log level debug a line each
/// Within: at once
/// Ends: by itself: the next request has another session
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_after_cut_sessions_are_answered() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let mut admin = session(&up).await;
    for _ in 0..3 {
        // Several sessions are idle now.
        let token = token_of(&up, 0);
        futures::future::join_all((0..20).map(|_| up.get(token, "/v1/orders"))).await;
        run(
            &mut admin,
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'stepwise api' and state = 'idle'",
        )
        .await;
        for nth in 0..30 {
            assert_eq!(up.get(token, "/v1/orders").await.0, 200, "request {nth}");
        }
    }
    assert!(up.stop("TERM").await.success());
}

/// Fault: database: it takes no writes (switched to read-only, a standby)
/// Customer: the catalogue is answered; who signs in or orders gets 503 with `Retry-After`
/// Operator: `/readyz` (200) names it and `stepwise_part_up{part="database"}` is 0; the log says so once when it begins and once when it ends
/// Within: 2 s
/// Ends: by itself, within 5 s of the database's taking writes again
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_told_once_and_heals() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let mut admin = session(&up).await;
    order_until_placed(&up, 0, 0).await;

    run(&mut admin, "alter system set default_transaction_read_only = on").await;
    run(&mut admin, "select pg_reload_conf()").await;
    let began = Instant::now();
    eventually("writes to be refused", async || order(&up, 1, 1, "ok").await.0 == 503).await;
    let (mut reads, mut writes) = (0, 0);
    while began.elapsed() < outage() || writes < 6 {
        let (status, body) = order(&up, 1, 1, "ok").await;
        assert_eq!((status, &body["retryable"]), (503, &Value::Bool(true)), "{body}");
        let read = reqwest::get(format!("{}/v1/categories", up.base)).await;
        assert_eq!(read.expect("it answers").status().as_u16(), 200);
        (reads, writes) = (reads + 1, writes + 1);
    }
    let (shown, is_up) = shown_of_database(&up).await;
    assert_eq!((shown.as_str(), is_up), ("away the database takes no writes", false));
    run(&mut admin, "alter system reset default_transaction_read_only").await;
    run(&mut admin, "select pg_reload_conf()").await;
    let back = Instant::now();
    order_until_placed(&up, 1, 1).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    let log = site.log();
    assert_eq!(log.matches("takes no writes").count(), 1, "{log}");
    assert_eq!(log.matches("takes reads and writes again").count(), 1, "{log}");
    assert_eq!(shown_of_database(&up).await, ("ok".to_owned(), true));
    assert!(log.lines().count() < 60, "{} lines: {log}", log.lines().count());

    // The server was demoted: its open sessions cannot write any more, but new ones (on its successor) can.
    run(&mut admin, "alter database stepwise set default_transaction_read_only = off").await;
    run(&mut admin, "alter system set default_transaction_read_only = on").await;
    run(&mut admin, "select pg_reload_conf()").await;
    let demoted = Instant::now();
    for customer in 2..6 {
        order_until_placed(&up, customer, 1).await;
    }
    assert!(demoted.elapsed() < Duration::from_secs(10), "{:?}", demoted.elapsed());
    assert!(up.stop("TERM").await.success());
}

/// The state of the database in `/readyz`, which answers 200, and its gauge.
async fn shown_of_database(up: &Up) -> (String, bool) {
    let (status, shown) = up.get("", "/readyz").await;
    assert_eq!(status, 200, "{shown}");
    let database = &shown["database"];
    let text = |name: &str| database[name].as_str().unwrap_or_default().to_owned();
    let is_up = up.metrics().await.contains("stepwise_part_up{part=\"database\"} 1");
    (format!("{} {}", text("state"), text("reason")).trim().to_owned(), is_up)
}

/// The stated duration of a fault if `STEPWISE_FAULTS=full`, otherwise some seconds.
fn outage() -> Duration {
    let full = std::env::var("STEPWISE_FAULTS").is_ok_and(|size| size == "full");
    Duration::from_secs(if full { 12 } else { 3 })
}

/// Fault: database: the network to it goes silent, for the open connections or for all
/// Customer: a request in flight takes up to 12 s and is 503; the next ones work where new connections do, or are 503 within 2 s
/// Operator: the log says so once when it begins and once when it ends
/// Within: 5 s
/// Ends: by itself: silent connections are left for new ones within 15 s
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_left_for_new_ones() {
    let database = Database::fresh(&[]).await;
    let options = database.options();
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let server = tokio::net::lookup_host(server).await.expect("a name").next().expect("an address");
    let proxy = Proxy::before(server).await;
    let through = options.host(&proxy.address.ip().to_string()).port(proxy.address.port());
    let url = sqlx::ConnectOptions::to_url_lossy(&through).to_string();
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0", "--database-url", &url]).await;
    order_until_placed(&up, 0, 0).await;

    proxy.set(Network::OldSilent);
    let began = Instant::now();
    order_until_placed(&up, 1, 1).await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    for nth in 0..20 {
        let asked = Instant::now();
        assert_eq!(up.get(token_of(&up, 0), "/v1/orders").await.0, 200, "request {nth}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{nth}: {:?}", asked.elapsed());
    }

    proxy.set(Network::Silent);
    // The silence begins while requests are running.
    let (status, _) = up.get(token_of(&up, 0), "/v1/orders").await;
    assert_eq!(status, 503);
    for nth in 0..5 {
        let asked = Instant::now();
        assert_eq!(up.get(token_of(&up, 0), "/v1/orders").await.0, 503, "request {nth}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{nth}: {:?}", asked.elapsed());
    }
    eventually("the log to say so", async || site.log().contains("does not answer")).await;
    proxy.set(Network::Whole);
    let back = Instant::now();
    order_until_placed(&up, 2, 2).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    assert!(up.stop("TERM").await.success());
    database.close().await;
}

/// Fault: process: one that serves requests is frozen in the middle of a transaction
/// Customer: other products go on; orders of the product whose stock it has locked are 503 until the database ends its session
/// Operator: Postgres logs the end of the session
/// Within: 15 s
/// Ends: by itself
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_process_holds_its_locks_for_a_quarter_of_a_minute_at_most() {
    let database = Database::fresh(&[]).await;
    let (site, url) = (Site::new(), database.url());
    let up = site.up(&["--rate-limit", "0", "--database-url", &url]).await;
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("bound").port().to_string()
    };
    let frozen = site.role(&["serve", "--database-url", &url, "--port", &port]);
    let base = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    eventually("the other front door", async || {
        client.get(format!("{base}/readyz")).send().await.is_ok()
    })
    .await;

    // These orders wait for the gateway, which is frozen, and will then need their product's row.
    let gateway = site.gateway_pid().to_string();
    kill("STOP", &gateway);
    let mut cancelled = Vec::new();
    for customer in 10..30 {
        let (status, begun) = order(&up, customer, 0, "ok").await;
        assert_eq!(status, 202, "{begun}");
        cancelled.push((customer, begun["subject"].as_str().expect("a text").to_owned()));
    }
    freeze_in_a_transaction(&up, &base, &frozen, database.pool()).await;
    kill("CONT", &gateway);
    let cancelling = cancelled.iter().map(async |(customer, order)| {
        let path = format!("/v1/orders/{order}/cancel");
        up.post(token_of(&up, *customer), &path, &json!({ "reason": "changed_mind" })).await
    });
    futures::future::join_all(cancelling).await;

    let began = Instant::now();
    for customer in 1..4 {
        order_until_placed(&up, customer, 5).await;
    }
    assert!(began.elapsed() < Duration::from_secs(8), "others: {:?}", began.elapsed());
    let seen = order_until_placed(&up, 4, 0).await;
    assert!(began.elapsed() < Duration::from_secs(25), "its own: {:?}, {seen:?}", began.elapsed());
    assert!(seen.contains(&503), "its stock was locked: {seen:?}");
    kill("KILL", &frozen.id().expect("it runs").to_string());
    assert!(up.stop("TERM").await.success());
    database.close().await;
}

/// Orders the first product at the other front door, and freezes that process once it has locked the product's stock.
async fn freeze_in_a_transaction(
    up: &Up,
    base: &str,
    frozen: &tokio::process::Child,
    database: &PgPool,
) {
    let customer = up.demo["customers"][0].clone();
    let (status, cart) = {
        let id = customer["customerId"].as_str().expect("a text");
        let item = json!({ "productId": up.demo["productIds"][0], "quantity": 1 });
        up.post(token_of(up, 0), &format!("/v1/customers/{id}/cart/items"), &item).await
    };
    assert!(status < 300, "{cart}");
    // This makes every write of a payment wait while its transaction holds the lock on the stock.
    let mut barrier = database.begin().await.expect("the database is there");
    run(&mut barrier, "lock table shop.payment in share mode").await;
    let request = reqwest::Client::new()
        .post(format!("{base}/v1/orders"))
        .bearer_auth(token_of(up, 0))
        .header("idempotency-key", "the frozen one's")
        .json(&json!({
            "customerId": customer["customerId"],
            "shippingAddressId": customer["shippingAddressId"],
            "paymentMethodId": customer["paymentMethods"]["ok"],
        }))
        .send();
    let asking = tokio::spawn(request);
    eventually("it to wait for the payment's table", async || {
        sqlx::query_scalar(
            "select exists (select from pg_stat_activity where application_name = 'stepwise api'
                and datname = current_database() and wait_event_type = 'Lock')",
        )
        .fetch_one(database)
        .await
        .expect("readable")
    })
    .await;
    kill("STOP", &frozen.id().expect("it runs").to_string());
    barrier.rollback().await.expect("ours");
    asking.abort();
}

#[tokio::test]
async fn a_database_that_cannot_serve_is_refused_by_name() {
    let database = Database::fresh(&[]).await;
    let name = database.options().get_database().expect("it has one").to_owned();
    let latin = format!("{name}_latin");
    let role = format!("{name}_few");
    for statement in [
        format!("create database {latin} encoding 'LATIN1' locale 'C' template template0"),
        format!("create role {role} login password 'few' connection limit 25"),
        format!("grant all on database {name} to {role}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(database.pool()).await.expect("ours");
    }
    let site = Site::new();
    let url = |options: sqlx::postgres::PgConnectOptions| {
        sqlx::ConnectOptions::to_url_lossy(&options).to_string()
    };
    let latin_url = url(database.options().database(&latin));
    let few_url = url(database.options().username(&role).password("few"));
    for (url, word) in [(latin_url, "LATIN1"), (few_url, "connection limit")] {
        let (code, line) = site.refusal(&["up", "--port", "0", "--database-url", &url]).await;
        assert_eq!(code, 3, "{line}");
        assert!(line.contains(word), "{line}");
        assert_eq!(site.processes(), Vec::<u32>::new());
    }
    for statement in [
        format!("revoke all on database {name} from {role}"),
        format!("drop role {role}"),
        format!("drop database {latin}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(database.pool()).await.expect("ours");
    }
    database.close().await;
}

/// Fault: database: its disk is full
/// Customer: the catalogue is answered; what needs room on the disk is 503 with `Retry-After`
/// Operator: `/readyz` (200) names it and `stepwise_part_up{part="database"}` is 0; the log says so once when it begins and once when it ends; `doctor` names a disk that it can see
/// Within: 2 s
/// Ends: by itself, within 5 s of room on the disk
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_once_and_heals() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let mut admin = session(&up).await;
    // Writes to carts and new tables fail with the error of a server whose disk is full.
    run(
        &mut admin,
        "create function full_disk() returns trigger language plpgsql as
             $$begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end$$;
         create function no_room() returns event_trigger language plpgsql as
             $$begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end$$;
         create trigger full_disk before insert or update on shop.cart for each row execute function full_disk();
         create event trigger no_room on ddl_command_start execute function no_room();",
    )
    .await;
    let began = Instant::now();
    let mut writes = 0;
    while began.elapsed() < outage() || writes < 6 {
        let (status, body) = order(&up, 1, 1, "ok").await;
        assert_eq!((status, &body["retryable"]), (503, &Value::Bool(true)), "{body}");
        let read = reqwest::get(format!("{}/v1/categories", up.base)).await;
        assert_eq!(read.expect("it answers").status().as_u16(), 200);
        writes += 1;
    }
    let (shown, is_up) = shown_of_database(&up).await;
    assert_eq!((shown.as_str(), is_up), ("away the disk of the database is full", false));
    run(&mut admin, "alter event trigger no_room disable").await;
    run(&mut admin, "drop event trigger no_room; drop trigger full_disk on shop.cart").await;
    let back = Instant::now();
    order_until_placed(&up, 1, 1).await;
    eventually("the log to say that it is over", async || {
        site.log().contains("takes reads and writes again")
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(shown_of_database(&up).await, ("ok".to_owned(), true));
    let log = site.log();
    assert_eq!(log.matches("the disk of the database is full").count(), 1, "{log}");
    assert_eq!(log.matches("takes reads and writes again").count(), 1, "{log}");
    assert_eq!(log.matches("53100").count(), 0, "{log}");
    assert!(up.stop("TERM").await.success());
}

/// Fault: database: it answers, and ends each new session with an internal error (its catalogue's files cannot be read or written)
/// Customer: 503 with `Retry-After`
/// Operator: the log says so once when it begins and once when it ends, with the server's words
/// Within: 2 s
/// Ends: by itself, when the files are whole again
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_ends_every_new_session_is_away() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let mut admin = session(&up).await;
    let file = "select pg_relation_filepath('pg_class')";
    let file: String = sqlx::query_scalar(file).fetch_one(&mut admin).await.expect("a path");
    let map = site.data.join("postgres/data").join(file).with_file_name("pg_filenode.map");
    let whole = std::fs::read(&map).expect("readable");
    std::fs::write(&map, vec![7; whole.len()]).expect("writable");
    run(
        &mut admin,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'stepwise%'",
    )
    .await;
    let began = Instant::now();
    while began.elapsed() < outage() {
        let (status, body) = up.get(token_of(&up, 0), "/v1/orders").await;
        assert_eq!((status, &body["retryable"]), (503, &Value::Bool(true)), "{body}");
    }
    std::fs::write(&map, whole).expect("writable");
    order_until_placed(&up, 1, 1).await;
    let log = site.log();
    assert_eq!(log.matches("the database does not answer").count(), 1, "{log}");
    assert!(log.contains("invalid data") && !log.contains("unexpected database error"), "{log}");
    assert!(up.stop("TERM").await.success());
}
