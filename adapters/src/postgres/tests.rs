use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stepwise_engine::outbox::{self, Embedded, Feed, Message, Relay, RelaySettings};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::Folder;

/// The variable with the folder in which [`a_parent_to_be_killed`] starts a cluster.
const PARENT: &str = "STEPWISE_TEST_CLUSTER";

async fn kill(signal: &str, target: &str) {
    let sent = Command::new("kill").args(["-s", signal, "--", target]).status().await;
    assert!(sent.expect("kill is installed").success(), "{signal} {target}");
}

/// A folder for a cluster. Dropping it stops a server that a failed test has left in it.
struct Place(Folder);

impl Place {
    fn new() -> Self {
        Self(Folder::new())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for note in ["data/postmaster.pid", "closed/deep/postgres/data/postmaster.pid"] {
            let note = std::fs::read_to_string(self.path().join(note)).unwrap_or_default();
            let Some(pid) = note.lines().next() else { continue };
            drop(std::process::Command::new("kill").args(["-QUIT", pid]).output());
        }
    }
}

async fn write(cluster: &Cluster) {
    let pool = PgPool::connect_with(cluster.options()).await.expect("it accepts connections");
    sqlx::query("-- test: a table\ncreate table if not exists kept (n int)")
        .execute(&pool)
        .await
        .expect("created");
    sqlx::query("-- test: a row\ninsert into kept values (1)").execute(&pool).await.expect("kept");
    pool.close().await;
}

async fn rows(cluster: &Cluster) -> i64 {
    let pool = PgPool::connect(&cluster.url()).await.expect("the address is whole");
    let rows = sqlx::query_scalar("-- test: what is kept\nselect count(*) from kept")
        .fetch_one(&pool)
        .await
        .expect("the table is there");
    pool.close().await;
    rows
}

#[tokio::test]
async fn a_cluster_is_durable_keeps_its_data_and_starts_quickly_the_second_time() {
    let folder = Place::new();
    let place = folder.path();
    let first = Cluster::start(place).await.expect("a first start");
    write(&first).await;
    let pool = PgPool::connect_with(first.options()).await.expect("connects");
    let settings: Vec<(String, String)> = sqlx::query_as(
        "-- test: settings
         select name, setting from pg_settings
         where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums')",
    )
    .fetch_all(&pool)
    .await
    .expect("settings");
    assert_eq!(settings.len(), 4);
    assert!(settings.iter().all(|(_, setting)| setting == "on"), "{settings:?}");
    pool.close().await;
    let pid = first.pid();
    first.stop().await.expect("it stops");
    assert!(!place.join("data/postmaster.pid").exists(), "an orderly end");

    let begun = Instant::now();
    let second = Cluster::start(place).await.expect("a second start");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(!second.was_running() && second.pid() != pid);
    assert_eq!(rows(&second).await, 1);
    second.stop().await.expect("it stops");
}

#[tokio::test]
async fn its_password_is_for_the_owner_only_and_needed() {
    let folder = Place::new();
    let cluster = Cluster::start(folder.path()).await.expect("started");
    let mode = folder.path().join("access.json").metadata().expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let refused = PgPool::connect_with(cluster.options().password("guess")).await;
    assert!(refused.is_err());
    assert!(!format!("{cluster:?}").contains(&cluster.access.password));
    cluster.stop().await.expect("it stops");
}

/// The process that the next test kills. By itself it tests nothing.
#[tokio::test]
async fn a_parent_to_be_killed() {
    let Ok(folder) = std::env::var(PARENT) else { return };
    let cluster = Cluster::start(Path::new(&folder)).await.expect("started");
    write(&cluster).await;
    println!("server {}", cluster.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killing_the_parents_process_group_leaves_a_server_that_the_next_start_attaches_to() {
    let folder = Place::new();
    let mut parent = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "postgres::tests::a_parent_to_be_killed", "--nocapture"])
        .env(PARENT, folder.path())
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs again");
    let mut lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    let server = loop {
        let line = lines.next_line().await.expect("readable").expect("it starts a server");
        if let Some((_, pid)) = line.split_once("server ") {
            break pid.trim().parse::<u32>().expect("a number");
        }
    };
    let group = parent.id().expect("it runs");
    kill("KILL", &format!("-{group}")).await;
    parent.wait().await.expect("it has ended");

    let next = Cluster::start(folder.path()).await.expect("attached");
    assert!(next.was_running());
    assert_eq!(next.pid(), server);
    assert_eq!(rows(&next).await, 1);
    next.stop().await.expect("it stops a server that it has not started");
    assert!(!folder.path().join("data/postmaster.pid").exists());
}

#[tokio::test]
async fn a_server_that_was_killed_is_recovered() {
    let folder = Place::new();
    let killed = Cluster::start(folder.path()).await.expect("started");
    write(&killed).await;
    kill("KILL", &killed.pid().to_string()).await;
    drop(killed);
    assert!(folder.path().join("data/postmaster.pid").exists(), "a dead server's note");
    let next = Cluster::start(folder.path()).await.expect("recovered");
    assert!(!next.was_running());
    assert_eq!(rows(&next).await, 1, "what was committed is there");
    next.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_note_whose_process_number_now_belongs_to_another_is_removed() {
    let folder = Place::new();
    Cluster::start(folder.path()).await.expect("made").stop().await.expect("stopped");
    // The process id of another running process, which is another server's if there is one.
    let note = format!("{}\n/elsewhere\n", std::process::id());
    std::fs::write(folder.path().join("data/postmaster.pid"), note).expect("written");
    let cluster = Cluster::start(folder.path()).await.expect("started");
    assert!(!cluster.was_running());
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_taken_port_is_exchanged_for_another() {
    let folder = Place::new();
    let first = Cluster::start(folder.path()).await.expect("made");
    let port = first.access.port;
    first.stop().await.expect("stopped");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let second = Cluster::start(folder.path()).await.expect("started elsewhere");
    assert_ne!(second.access.port, port);
    drop(taken);
    second.stop().await.expect("it stops");
    let third = Cluster::start(folder.path()).await.expect("started");
    assert_ne!(third.access.port, port, "the new port is remembered");
    third.stop().await.expect("it stops");
}

#[tokio::test]
async fn two_starters_on_one_folder_do_not_meet() {
    let folder = Place::new();
    let first = Cluster::start(folder.path()).await.expect("made");
    let refused = Cluster::start(folder.path()).await.expect_err("it is in use");
    assert!(matches!(refused, ClusterError::InUse { .. }), "{refused}");
    first.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_first_start_that_was_killed_is_begun_anew() {
    let folder = Place::new();
    let half = folder.path().join("data.new");
    std::fs::create_dir_all(half.join("base")).expect("made");
    std::fs::write(folder.path().join("password.new"), "old").expect("written");
    let cluster = Cluster::start(folder.path()).await.expect("made");
    assert!(!half.exists() && !folder.path().join("password.new").exists());
    cluster.stop().await.expect("it stops");
}

/// Tests something only if run as root: otherwise a folder that only its owner may enter is no obstacle.
#[tokio::test]
async fn below_a_directory_that_only_its_owner_may_enter_it_works_and_survives_a_kill() {
    let folder = Place::new();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).expect("made");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("closed");
    let place = closed.join("deep/postgres");
    let first = Cluster::start(&place).await.expect("started below a closed directory");
    write(&first).await;
    let pool = PgPool::connect_with(first.options()).await.expect("connects");
    for statement in ["create database another", "checkpoint", "drop database another"] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.expect(statement);
    }
    pool.close().await;
    kill("KILL", &first.pid().to_string()).await;
    drop(first);
    let second = Cluster::start(&place).await.expect("recovered");
    assert_eq!(rows(&second).await, 1);
    second.stop().await.expect("it stops");
}

#[tokio::test]
async fn trouble_is_told_in_one_line() {
    let folder = Place::new();
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let refused = Cluster::start(&file.join("postgres")).await.expect_err("below a file");
    assert!(matches!(refused, ClusterError::NotWritable { .. }), "{refused}");

    let place = folder.path().join("postgres");
    std::fs::create_dir_all(place.join("data")).expect("made");
    std::fs::write(place.join("data/PG_VERSION"), "9\n").expect("written");
    let refused = Cluster::start(&place).await.expect_err("no program of that version");
    assert!(matches!(refused, ClusterError::OtherVersion { .. }), "{refused}");
    assert_eq!(refused.to_string().lines().count(), 1);
}

#[tokio::test]
async fn a_relay_goes_on_after_its_database_was_killed_and_loses_nothing() {
    let folder = Place::new();
    let mut cluster = Cluster::start(folder.path()).await.expect("made");
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(2))
        .connect_with(cluster.options())
        .await
        .expect("connects");
    stepwise_engine::migrate(&pool).await.expect("migrated");
    let stop = CancellationToken::new();
    let settings = RelaySettings { poll: Duration::from_millis(100), ..RelaySettings::default() };
    let relay = Relay::new(pool.clone(), Arc::new(Embedded), settings);
    let relay = tokio::spawn(relay.run(stop.clone()));
    for sequence in 1..=3 {
        let mut tx = pool.begin().await.expect("the database is there");
        let message = Message::new("test.happened.v1", "/test", "a", sequence, json!({}));
        outbox::publish(&mut tx, &message).await.expect("written");
        tx.commit().await.expect("committed");
        kill("KILL", &cluster.pid().to_string()).await;
        drop(cluster);
        cluster = Cluster::start(folder.path()).await.expect("recovered");
    }
    let feed = Feed::new(pool.clone());
    let from = feed.oldest().await.expect("the feed is there");
    let published: Vec<i64> = tokio::time::timeout(
        Duration::from_secs(20),
        feed.tail(from).take(3).map(|one| one.expect("readable").message.sequence).collect(),
    )
    .await
    .expect("published within 20 s");
    assert_eq!(published, [1, 2, 3]);
    stop.cancel();
    relay.await.expect("a relay does not panic");
    pool.close().await;
    cluster.stop().await.expect("it stops");
}
