//! Refused starts: each prints one line and ends with an exit code that scripts can rely on.

use std::{fs, net::TcpListener, time::Duration};

use sqlx::AssertSqlSafe;
use stepwise_engine::testing::Database;
use stepwise_tests::pooler::Pooler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::site::Site;

const UP: [&str; 3] = ["up", "--port", "0"];

#[tokio::test]
async fn a_folder_is_used_by_one_at_a_time() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    let (code, line) = site.refusal(&UP).await;
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("another `stepwise up`") && line.contains("--data-dir"), "{line}");
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let (code, line) = site.refusal(&["up", "--port", &port]).await;
    assert_eq!(code, 1, "{line}");
    assert!(line.contains(&port) && line.contains("--port"), "{line}");
    assert!(site.processes().is_empty(), "nothing was started");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let site = Site::new();
    fs::write(&site.data, b"a file").expect("writable");
    let (code, line) = site.refusal(&UP).await;
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("--data-dir"), "{line}");
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_without_its_password() {
    let site = Site::new();
    let url = "postgres://me:hush@127.0.0.1:9/none";
    let (code, line) = site.refusal(&[&UP[..], &["--database-url", url]].concat()).await;
    assert_eq!(code, 3, "{line}");
    assert!(line.contains("127.0.0.1:9") && line.contains("--database-url"), "{line}");
    assert!(!line.contains("hush"), "{line}");
}

#[tokio::test]
async fn a_database_that_is_too_old_is_refused() {
    let site = Site::new();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("postgres://me@{}/x?sslmode=disable", server.local_addr().expect("bound"));
    let old = tokio::spawn(async move {
        loop {
            let (mut client, _) = server.accept().await.expect("somebody comes");
            let mut greeting = [0; 1024];
            let _ = client.read(&mut greeting).await;
            // AuthenticationOk, ParameterStatus server_version, ReadyForQuery.
            let mut answer = b"R\0\0\0\x08\0\0\0\0".to_vec();
            let version = b"server_version\x0013.9\0";
            answer.push(b'S');
            answer.extend(u32::try_from(version.len() + 4).expect("short").to_be_bytes());
            answer.extend(version);
            answer.extend(b"Z\0\0\0\x05I");
            let _ = client.write_all(&answer).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let (code, line) = site.refusal(&[&UP[..], &["--database-url", &url]].concat()).await;
    old.abort();
    assert_eq!(code, 4, "{line}");
    assert!(line.contains("Postgres 13") && line.contains("15"), "{line}");
}

/// Fault: database: a connection pooler (pgbouncer) stands before it
/// Customer: nothing; the shop is closed
/// Operator: the process does not start: one line that names the pooler and says what to do, exit code 3; `doctor` says the same
/// Within: 5 s
/// Ends: when the address leads to Postgres itself
#[tokio::test]
async fn a_pooler_that_loses_what_sessions_hold_is_refused_by_name() {
    const TRANSACTIONS: &str = "pool_mode = transaction";
    // This pooler drops the settings that a connection requests; otherwise it refuses the connection.
    const DROPS_SETTINGS: &str = "ignore_startup_parameters = extra_float_digits, options";
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let mut migrate = site.command(&["migrate", "--database-url", &database.url()]);
    assert!(migrate.status().await.expect("it starts").success());
    for settings in [
        &[TRANSACTIONS][..],
        &[TRANSACTIONS, DROPS_SETTINGS],
        &[TRANSACTIONS, DROPS_SETTINGS, "default_pool_size = 1"],
        &["pool_mode = session"],
        &["pool_mode = session", DROPS_SETTINGS],
    ] {
        refuses_pooler(&site, &database, settings).await;
    }
    // The database has these settings as defaults, so only the sessions themselves can show that they are shared.
    let name = database.options().get_database().expect("it has a name").to_owned();
    let usual = format!("alter database {name} set lock_timeout = '1s'");
    sqlx::query(AssertSqlSafe(usual)).execute(database.pool()).await.expect("it is ours");
    for size in ["default_pool_size = 1", "default_pool_size = 20"] {
        refuses_pooler(&site, &database, &[TRANSACTIONS, DROPS_SETTINGS, size]).await;
    }
    database.close().await;
}

/// Checks that every role and `doctor` name a pooler with these settings.
async fn refuses_pooler(site: &Site, database: &Database, settings: &[&str]) {
    let pooler = Pooler::before(&database.url(), settings).await;
    for role in ["migrate", "relay", "doctor"] {
        let ended = site.command(&[role, "--database-url", &pooler.url]).output().await;
        let ended = ended.expect("it starts");
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let expected = if role == "doctor" { 1 } else { 3 };
        assert_eq!(ended.status.code(), Some(expected), "{role} with {settings:?}: {said}");
        assert!(said.contains("a connection pooler answers"), "{role} {settings:?}: {said}");
    }
}

#[tokio::test]
async fn a_database_that_a_newer_version_has_migrated_is_left_alone() {
    let database = Database::fresh(&[
        stepwise_engine::migrations::migrations(),
        stepwise_workflows::migrations::migrations(),
    ])
    .await;
    let site = Site::new();
    for schema in ["shop", "saga"] {
        let newer = format!(
            "insert into {schema}._migrations (version, description, success, checksum, \
             execution_time) values (9999, 'contract of tomorrow', true, '\\x00', 0)"
        );
        sqlx::query(AssertSqlSafe(newer)).execute(database.pool()).await.expect("written");
        let url = database.url();
        let (code, line) = site.refusal(&[&UP[..], &["--database-url", &url]].concat()).await;
        assert_eq!(code, 4, "{line}");
        assert!(line.contains("9999") && line.contains("newer"), "{line}");
    }
    assert!(site.processes().is_empty(), "nothing was left running");
    database.close().await;
}

#[tokio::test]
async fn open_sagas_that_only_a_newer_version_knows_are_left_to_it() {
    let database = Database::fresh(&[
        stepwise_engine::migrations::migrations(),
        stepwise_workflows::migrations::migrations(),
    ])
    .await;
    let site = Site::new();
    sqlx::query(
        "-- an instance of tomorrow
        insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state,
            pending, undos, epoch, seq, wake_at, created_at, updated_at)
        values (0, gen_random_uuid(), 'place-order', 99, 'an order', 'running', 'worker', '{}',
            '{}', '[]', 1, 1, now(), now(), now())",
    )
    .execute(database.pool())
    .await
    .expect("written");
    let url = database.url();
    for command in [&UP[..], &["check"]] {
        let (code, line) = site.refusal(&[command, &["--database-url", &url]].concat()).await;
        assert_eq!(code, 4, "{line}");
        assert!(line.contains("place-order version 99") && line.contains("newer"), "{line}");
    }
    database.close().await;
}

#[tokio::test]
async fn addresses_that_are_none_are_wrong_usage() {
    let site = Site::new();
    for (flag, address) in [
        ("--amqp-url", "http://localhost"),
        ("--database-url", "mysql://localhost/x"),
        ("--gateway-url", "ftp://localhost"),
        ("--gateway-url", "http://"),
    ] {
        let (code, line) = site.refusal(&[&UP[..], &[flag, address]].concat()).await;
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(flag), "{line}");
    }
    assert!(!site.data.exists(), "nothing was begun");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_and_shown() {
    let site = Site::new();
    let up = site.up(&["--no-demo", "--amqp-url", "amqp://127.0.0.1:9/%2f"]).await;
    assert_eq!(up.demo["amqpUrl"], "amqp://127.0.0.1:9/%2f");
    assert!(site.log().contains("starting without the broker"), "{}", site.log());
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn a_broker_that_refuses_the_password_is_a_mistake_to_correct() {
    let broker = std::env::var("AMQP_URL").unwrap_or_else(|_| {
        panic!("AMQP_URL is not set: run ./scripts/test, which starts a RabbitMQ")
    });
    let at = broker
        .rsplit_once('@')
        .map_or_else(|| broker.split_once("://").expect("an address").1, |(_, at)| at);
    let site = Site::new();
    let wrong = format!("amqp://nobody:hush@{at}");
    let (code, line) = site.refusal(&[&UP[..], &["--amqp-url", &wrong]].concat()).await;
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("--amqp-url") && !line.contains("hush"), "{line}");
    assert!(site.processes().is_empty(), "nothing was left running");
}

#[tokio::test]
async fn an_empty_secret_an_unclear_switch_and_an_address_without_a_server_are_refused() {
    let mut site = Site::new();
    for (flag, named) in [
        ("--webhook-secret=", "--webhook-secret"),
        ("--gateway-key= ", "--gateway-key"),
        ("--paypal-secret=a\nb", "--paypal-secret"),
        ("--plain-network=flase", "--plain-network"),
        ("--no-demo=nope", "--no-demo"),
        ("--return-url=http://", "--return-url"),
        ("--return-url=https://shop.example:99999/", "--return-url"),
    ] {
        let output = site.command(&["check", flag]).output().await.expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
        assert!(said.contains(named), "{flag}: {said}");
    }
    // The settings file has the limits of the flags: with the first of these nobody could connect, with the second no process would ever end.
    for (setting, named) in [
        ("connections-per-address = 0", "--connections-per-address"),
        ("stop-delay = 99999", "--stop-delay"),
        ("address-rate-limit = 0", "--address-rate-limit"),
        ("tax-retention-years = 255", "--tax-retention-years"),
    ] {
        let file = site.data.with_file_name("limits.toml");
        fs::write(&file, setting).expect("writable");
        let (code, line) = site.refusal(&["check", "--config", "limits.toml"]).await;
        assert!(code == 2 && line.contains(named), "{setting}: {code} {line}");
    }
    // A variable that some script left empty would let anybody sign webhooks.
    site.environment = vec![("STEPWISE_WEBHOOK_SECRET", "")];
    let (code, line) = site.refusal(&UP).await;
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("--webhook-secret"), "{line}");
    // A switch that is left empty is off.
    site.environment = vec![("STEPWISE_PLAIN_NETWORK", "")];
    let (_, line) = site.refusal(&["check", "--gateway-url", "http://192.0.2.1"]).await;
    assert!(line.contains("--gateway-url is http:// to another machine"), "{line}");
}
