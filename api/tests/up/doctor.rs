//! Faults are reported by `doctor`, by the log at the start, and by the metrics of every role.

use std::{net::TcpListener, process::Stdio};

use sqlx::AssertSqlSafe;
use stepwise_engine::testing::Database;
use stepwise_tests::proxy::{Network, Proxy};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use crate::site::{PATIENCE, Site, eventually};

/// The time after which a running `doctor` counts as hanging.
const ENOUGH_S: u64 = 10;

/// Runs `doctor`. Returns its exit code, and its lines as (verdict, what, detail).
pub(crate) async fn doctor(site: &Site, args: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let mut command = site.command(&[&["doctor", "--json"], args].concat());
    let began = Instant::now();
    let output = command.stderr(Stdio::piped()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it starts");
    assert!(began.elapsed().as_secs() < ENOUGH_S, "it took {:?}", began.elapsed());
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = said.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        (text("verdict"), text("what"), text("detail"))
    });
    (output.status.code().expect("it was not killed"), lines.collect())
}

/// The lines that are not ok, as (what, detail).
pub(crate) fn wrong(lines: &[(String, String, String)]) -> Vec<(&str, &str)> {
    let wrong = lines.iter().filter(|(verdict, ..)| verdict != "ok");
    wrong.map(|(_, what, detail)| (what.as_str(), detail.as_str())).collect()
}

async fn run(database: &Database, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(database.pool()).await.expect("it is ours");
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("bound").port()
}

#[tokio::test]
async fn doctor_is_content_with_what_runs_and_makes_nothing_by_looking() {
    let empty = Site::new();
    let (code, lines) = doctor(&empty, &[]).await;
    assert_eq!(code, 1, "{lines:?}");
    assert!(!empty.data.exists(), "looking made the data folder");

    let site = Site::new();
    let dead = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let up = site.up(&["--amqp-url", &dead]).await;
    // `up` logs the fault of the broker that `doctor` would report.
    eventually("the log to name the broker", async || {
        site.log()
            .lines()
            .any(|line| line.contains("this installation has a fault") && line.contains("broker"))
    })
    .await;
    let (code, lines) = doctor(&site, &["--amqp-url", &dead]).await;
    assert_eq!((code, wrong(&lines).len(), wrong(&lines)[0].0), (1, 1, "broker"), "{lines:?}");
    let (code, lines) = doctor(&site, &[]).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    assert!(up.stop("TERM").await.success());
}

/// Fault: broker: no relay runs, and messages were tried and not taken
/// Customer: nothing; orders go on, partners hear nothing
/// Operator: `doctor` (exit code 1) says how many wait, how long, why one was not taken, and that no relay lives;
/// the gauges `stepwise_outbox_failing`, `_oldest_seconds` and `_shards_without_relay` of every process
/// Within: at once, read when asked
/// Ends: when a relay runs and the broker takes them
#[tokio::test]
async fn doctor_names_events_that_wait_and_were_not_taken() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let up = site.up(&["--database-url", &database.url(), "--no-demo"]).await;
    assert!(up.stop("TERM").await.success());
    run(
        &database,
        "insert into saga.outbox (shard, subject, sequence, message_id, kind, routing_key, source, data, happened_at, \
             recorded_at, tries, error) \
         values (3, 'one', 1, gen_random_uuid(), 'shop.order.placed.v1', 'shop.order.placed.v1', '/', '{}', now(), \
             now() - interval '1 hour', 7, 'refused by the broker')"
            .to_owned(),
    )
    .await;
    let (code, lines) = doctor(&site, &["--database-url", &database.url()]).await;
    assert_eq!(code, 1, "{lines:?}");
    let events = detail(&lines, "events");
    assert!(events.contains("about one after 7 tries: refused by the broker"), "{events}");
    assert!(detail(&lines, "relays").contains("stepwise relay"), "{lines:?}");
    database.close().await;
}

/// The detail of the line about this fault.
fn detail<'l>(lines: &'l [(String, String, String)], what: &str) -> &'l str {
    let found = wrong(lines).into_iter().find(|(name, _)| *name == what);
    found.unwrap_or_else(|| panic!("nothing is wrong with {what}: {lines:?}")).1
}

#[tokio::test]
async fn doctor_names_what_was_set_aside_what_is_stuck_and_what_fits_no_payment() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let up = site.up(&["--database-url", &database.url(), "--no-demo"]).await;
    let url = ["--database-url", &database.url()];
    let (code, lines) = doctor(&site, &url).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    run(
        &database,
        "insert into saga.feed_trouble (shard, n, kind, reason) values (3, 17, 'unreadable', 'the field street does not open'), \
             (4, 1, 'refused', 'a queue is full'), (4, 2, 'refused', 'a queue is full'); \
         insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq, \
             created_at, updated_at, last_error) \
         values (0, gen_random_uuid(), 'place-order', 1, 'an order', 'stuck', 'operator', '{}', '{}', '[]', 1, 1, now(), now(), \
             'the terminal is gone'); \
         insert into shop.parked_gateway_event (event_id, why, kind, reference, amount, currency, happened_at, parked_at) \
         values ('evt_1', 'unknown_payment', 'payment_intent.canceled', 'pi_strange', 1, 'USD', now(), now())"
            .to_owned(),
    )
    .await;
    let (code, lines) = doctor(&site, &url).await;
    assert_eq!(code, 1, "{lines:?}");
    for (what, expected) in [
        ("feed", &["1 published", "3.17: the field street does not open", "2 were refused"][..]),
        ("sagas", &["1 stuck", "place-order", "the terminal is gone"]),
        (
            "webhooks",
            &["1 events", "evt_1", "pi_strange", "unknown_payment", "stepwise parked list"],
        ),
    ] {
        let detail = detail(&lines, what);
        assert!(expected.iter().all(|part| detail.contains(part)), "{what}: {detail}");
    }
    assert_eq!(wrong(&lines).len(), 3, "{lines:?}");
    let metrics = up.metrics().await;
    for line in [
        "stepwise_feed_set_aside 1",
        "stepwise_feed_refused 2",
        "stepwise_sagas_stuck 1",
        "stepwise_gateway_events_parked 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // A partner whose last refusal was an hour ago is no fault any more; an event that was set aside waits for a person.
    run(
        &database,
        "update saga.feed_trouble set noted_at = now() - interval '61 minutes'".to_owned(),
    )
    .await;
    run(&database, "delete from saga.feed_trouble where kind = 'unreadable'".to_owned()).await;
    let (_, lines) = doctor(&site, &url).await;
    assert!(wrong(&lines).iter().all(|(what, _)| *what != "feed"), "{lines:?}");
    assert!(up.stop("TERM").await.success());
    database.close().await;
}

#[tokio::test]
async fn doctor_asks_the_gateway_for_an_answer() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    let note = std::fs::read(site.data.join("gateway.json")).expect("it was written");
    let note: serde_json::Value = serde_json::from_slice(&note).expect("whole JSON");
    let address = note["address"].as_str().expect("a text").parse().expect("an address");
    let proxy = Proxy::before(address).await;
    let url = format!("http://{}", proxy.address);
    for (network, expected) in [
        (Network::Status(503), "the answer is 503"),
        (Network::Silent, "no answer within 3 s"),
        (Network::Refused, "no server answers"),
    ] {
        proxy.set(network);
        let (code, lines) = doctor(&site, &["--gateway-url", &url]).await;
        assert_eq!(code, 1, "{lines:?}");
        let said = detail(&lines, "gateway");
        assert!(said.contains(expected), "{network:?}: {said}");
    }
    proxy.set(Network::Whole);
    let (code, lines) = doctor(&site, &["--gateway-url", &url]).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn doctor_and_readiness_say_whether_paypal_answers() {
    let mut site = Site::new();
    site.environment = vec![
        ("STEPWISE_PAYPAL_CLIENT_ID", "an app"),
        ("STEPWISE_PAYPAL_SECRET", "its-secret"),
        ("STEPWISE_PAYPAL_WEBHOOK_ID", "its webhook"),
    ];
    let up = site.up(&["--no-demo"]).await;
    let note = std::fs::read(site.data.join("gateway.json")).expect("it was written");
    let note: serde_json::Value = serde_json::from_slice(&note).expect("whole JSON");
    let sandbox = note["address"].as_str().expect("a text").parse().expect("an address");
    assert!(up.stop("TERM").await.success());
    // The sandbox keeps its address.
    let proxy = Proxy::before(sandbox).await;
    let url = format!("http://{}", proxy.address);
    let address = ["--paypal-url", url.as_str()];
    let up = site.up(&[&["--no-demo"], &address[..]].concat()).await;
    let state = async |part: &str| up.get("", "/readyz").await.1[part].clone();
    assert_eq!(
        (&state("gateway").await["state"], &state("paypal").await["state"]),
        (&"ok".into(), &"ok".into())
    );
    let (code, lines) = doctor(&site, &address).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    assert!(lines.iter().any(|(_, what, _)| what == "paypal"), "{lines:?}");

    proxy.set(Network::Refused);
    eventually("readiness to name PayPal", async || state("paypal").await["state"] == "away").await;
    let reason = state("paypal").await["reason"].to_string();
    assert!(reason.contains("PayPal is not at"), "{reason}");
    assert_eq!(state("gateway").await["state"], "ok");
    assert!(up.metrics().await.contains("stepwise_part_up{part=\"paypal\"} 0"));
    let (code, lines) = doctor(&site, &address).await;
    assert_eq!((code, wrong(&lines).len()), (1, 1), "{lines:?}");
    assert!(detail(&lines, "paypal").contains("PayPal is not at"), "{lines:?}");
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn doctor_says_why_no_server_answers_at_a_gateways_address() {
    let (site, plain) = (Site::new(), tokio::net::TcpListener::bind("127.0.0.1:0").await);
    let plain = plain.expect("a free port");
    let url = format!("https://{}", plain.local_addr().expect("bound"));
    let speaking = tokio::spawn(async move {
        let mut clients = Vec::new();
        while let Ok((mut client, _)) = plain.accept().await {
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it listens");
            clients.push(client);
        }
    });
    let (code, lines) = doctor(&site, &["--gateway-url", &url]).await;
    let said = detail(&lines, "gateway");
    assert!(code == 1 && said.contains("no server answers (received corrupt message"), "{said}");
    speaking.abort();
}

/// Fault: database: it is read-only, or was made with an encoding that cannot hold every name
/// Customer: 503 with Retry-After
/// Operator: `doctor` (exit code 1) names it and what to do; a start says the same
/// Within: 1 s
/// Ends: when the server takes changes again, or the shop has moved to a UTF-8 database
#[tokio::test]
async fn doctor_names_a_database_that_cannot_be_used() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let mut migrate = site.command(&["migrate", "--database-url", &database.url()]);
    assert!(migrate.stdout(Stdio::null()).status().await.expect("it starts").success());
    let name = database.options().get_database().expect("it has a name").to_owned();
    run(&database, format!("alter database {name} set default_transaction_read_only = on")).await;
    let (code, lines) = doctor(&site, &["--database-url", &database.url()]).await;
    let is_named = wrong(&lines).iter().any(|(_, detail)| detail.contains("read-only"));
    assert!(code == 1 && is_named, "{lines:?}");

    let latin = format!("{name}_latin");
    let made = format!(
        "create database {latin} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'"
    );
    sqlx::query(AssertSqlSafe(made)).execute(&mut *writable(&database).await).await.expect("made");
    let url = database.url().replace(&name, &latin);
    let (code, lines) = doctor(&site, &["--database-url", &url]).await;
    let is_named = wrong(&lines).iter().any(|(_, detail)| detail.contains("LATIN1"));
    assert!(code == 1 && is_named, "{lines:?}");
    let gone = format!("drop database {latin} with (force)");
    sqlx::query(AssertSqlSafe(gone)).execute(&mut *writable(&database).await).await.expect("ours");
    database.close().await;
}

/// A session that may write although its database is read-only by default.
async fn writable(database: &Database) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    let mut session = database.pool().acquire().await.expect("a connection");
    let on = "-- write\nset default_transaction_read_only = off";
    sqlx::query(on).execute(&mut *session).await.expect("it may");
    session
}

/// Fault: database: it accepts connections and never answers
/// Customer: 503 with Retry-After
/// Operator: `/readyz` of `relay --metrics-port` is 503, `stepwise_database_up` is 0, `doctor` ends with 1
/// Within: 2 s, `doctor` 10 s
/// Ends: when it answers
#[tokio::test]
async fn a_relay_with_a_silent_database_says_so_on_its_own_port() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let mut migrate = site.command(&["migrate", "--database-url", &database.url()]);
    assert!(migrate.stdout(Stdio::null()).status().await.expect("it starts").success());
    let options = database.options();
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let proxy = Proxy::before(server.parse().expect("an address")).await;
    let url = database.url().replace(&server, &proxy.address.to_string());
    let port = free_port().to_string();
    let mut relay = site.role(&["relay", "--database-url", &url, "--metrics-port", &port]);
    // This fails only if another test of this process has already installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let ask = async |path: &str| {
        let asked = client.get(format!("http://127.0.0.1:{port}{path}")).send().await.ok()?;
        Some((asked.status().as_u16(), asked.text().await.ok()?))
    };
    eventually("the relay to be ready", async || {
        ask("/readyz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let (_, metrics) = ask("/metrics").await.expect("it answers");
    let sessions = r#"stepwise_purge_backlog{kind="sessions"} 0"#;
    let lines =
        ["stepwise_database_up 1", "stepwise_outbox_failing 0", r#"part="relay"} 1"#, sessions];
    for line in lines {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    proxy.set(Network::Silent);
    let (status, ready) = ask("/readyz").await.expect("it answers");
    assert!(status == 503 && ready.contains("does not answer"), "{status} {ready}");
    let (_, metrics) = ask("/metrics").await.expect("it answers");
    assert!(metrics.contains("stepwise_database_up 0"), "{metrics}");
    assert!(!metrics.contains("stepwise_outbox_failing"), "an old figure is shown: {metrics}");
    let (code, lines) = doctor(&site, &["--database-url", &url]).await;
    assert_eq!((code, wrong(&lines)[0].0.is_empty()), (1, false), "{lines:?}");
    relay.kill().await.expect("it runs");
    database.close().await;
}

/// Fault: process: its relay cannot renew its leases (somebody holds a lock on the relays' table)
/// Customer: nothing; events come late
/// Operator: `/readyz` of `up` and of `relay --metrics-port` says that the relay is away, and why; `relay`'s is 503; `stepwise_part_up` is 0
/// Within: 12 s, a lease and a moment
/// Ends: by itself, when the lock is released
#[tokio::test]
async fn every_role_with_a_relay_tells_when_the_relay_gets_nowhere() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let up = site.up(&["--database-url", &database.url(), "--no-demo"]).await;
    let port = free_port().to_string();
    let mut relay =
        site.role(&["relay", "--database-url", &database.url(), "--metrics-port", &port]);
    let bases = [up.base.clone(), format!("http://127.0.0.1:{port}")];
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let ask = async |base: &str, path: &str| {
        let asked = client.get(format!("{base}{path}")).send().await.ok()?;
        Some((asked.status().as_u16(), asked.text().await.ok()?))
    };
    let relay_is = async |base: &str, state: &str| {
        let Some((_, said)) = ask(base, "/readyz").await else { return false };
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        said["relay"]["state"] == state
    };
    for base in &bases {
        eventually("the relay to work", async || relay_is(base, "ok").await).await;
    }
    let mut lock = database.pool().begin().await.expect("begin");
    sqlx::raw_sql(
        "-- name: nobody renews
        set local idle_in_transaction_session_timeout = 0; lock table saga.outbox_relay in access exclusive mode",
    )
    .execute(&mut *lock)
    .await
    .expect("locked");
    let since = Instant::now();
    for (base, status) in bases.iter().zip([200, 503]) {
        eventually("the fault to be reported", async || relay_is(base, "away").await).await;
        assert!(since.elapsed().as_secs() < 20, "reported after {:?}", since.elapsed());
        let (answered, said) = ask(base, "/readyz").await.expect("it answers");
        assert!(said.contains("its leases were not renewed for"), "{said}");
        assert_eq!(answered, status, "only a relay is of no use without its relay: {said}");
        let (_, metrics) = ask(base, "/metrics").await.expect("it answers");
        assert!(metrics.contains(r#"stepwise_part_up{part="relay"} 0"#), "{metrics}");
    }
    lock.rollback().await.expect("rollback");
    for base in &bases {
        eventually("the relay to work again", async || relay_is(base, "ok").await).await;
    }
    relay.kill().await.expect("it runs");
    assert!(up.stop("TERM").await.success());
    database.close().await;
}
