//! The customers' keys belong to one database, and a process without them does not start.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use stepwise_engine::testing::Database;
use tokio::time::Instant;

use crate::{
    doctor::{doctor, wrong},
    site::{Site, Up},
};

async fn register(up: &Up, name: &str) -> (u16, Value) {
    let customer = json!({"email": format!("{name}@example.net"), "firstName": name, "lastName": "Byron",
        "password": "a lantern hums over wet slate"});
    up.post("", "/v1/customers", &customer).await
}

/// Fault: outside: `relay`, `serve`, `work` or `up` is started in a folder that has no key store, or another database's
/// Customer: nothing; the processes that have the keys go on
/// Operator: the process does not start: one line that names the folder and says what to do, exit code 3
/// Within: 1 s
/// Ends: when it is started with the right --data-dir, or the keys are restored from their backup
#[tokio::test]
async fn a_process_without_the_customers_keys_refuses_to_start() {
    let database = Database::fresh(&[]).await;
    let (site, stranger, url) = (Site::new(), Site::new(), database.url());
    let up = site.up(&["--database-url", &url]).await;
    let options = ["--database-url", &url, "--gateway-url", "http://127.0.0.1:9"];
    for role in ["relay", "serve", "work", "up"] {
        let args = [&[role, "--port", "0"][..], &options].concat();
        let (code, line) = stranger.refusal(&args).await;
        assert_eq!(code, 3, "{role}: {line}");
        assert!(line.contains("keys") && line.contains("--data-dir"), "{role}: {line}");
        assert!(!stranger.data.join("keys").exists(), "{role} made a key store");
    }
    // It does not start with the keys of another database either.
    let other = Database::fresh(&[]).await;
    let elsewhere = stranger.up(&["--database-url", &other.url(), "--no-demo"]).await;
    assert!(elsewhere.stop("TERM").await.success());
    let (code, line) = stranger.refusal(&[&["relay"][..], &options].concat()).await;
    assert_eq!(code, 3, "{line}");
    assert!(line.contains("another database"), "{line}");

    assert!(up.stop("TERM").await.success());

    // The keys are lost and later restored.
    fs::rename(site.data.join("keys"), site.data.join("lost")).expect("ours");
    let (code, line) = site.refusal(&[&["up", "--port", "0"][..], &options].concat()).await;
    assert_eq!((code, line.contains("backup")), (3, true), "{line}");
    fs::rename(site.data.join("lost"), site.data.join("keys")).expect("ours");
    let again = site.up(&options).await;
    assert!(again.stop("TERM").await.success());
    other.close().await;
    database.close().await;
}

#[tokio::test]
async fn an_older_database_takes_the_first_store_that_has_all_its_keys() {
    let database = Database::fresh(&[]).await;
    let (site, stranger, url) = (Site::new(), Site::new(), database.url());
    let options = ["--database-url", &url, "--gateway-url", "http://127.0.0.1:9"];
    assert!(site.up(&options).await.stop("TERM").await.success());
    // The database is as the previous release left it.
    sqlx::query("-- forget the store\ndelete from shop.key_store")
        .execute(database.pool())
        .await
        .expect("writable");
    let (code, line) = stranger.refusal(&[&["relay"][..], &options].concat()).await;
    assert_eq!((code, line.contains("is missing in")), (3, true), "{line}");
    assert!(site.up(&options).await.stop("TERM").await.success());
    let known: i64 = sqlx::query_scalar("-- known stores\nselect count(*) from shop.key_store")
        .fetch_one(database.pool())
        .await
        .expect("readable");
    assert_eq!(known, 1, "the store with the keys was recorded");
    database.close().await;
}

/// Fault: outside: the customers' keys cannot be written while the shop runs (their disk is full, or their folder is gone)
/// Customer: who registers gets 503 with `Retry-After`; everybody else goes on
/// Operator: the log says so once when it begins and once when it ends; `doctor` names a folder that is gone and a disk that is full
/// Within: at once
/// Ends: by itself, when they can be written
#[tokio::test]
async fn keys_that_cannot_be_written_are_told_once() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    fs::rename(site.data.join("keys"), site.data.join("lost")).expect("ours");
    for name in ["ada", "bea", "cleo"] {
        let (status, body) = register(&up, name).await;
        assert_eq!((status, &body["code"]), (503, &json!("key_store_unavailable")), "{body}");
    }
    fs::rename(site.data.join("lost"), site.data.join("keys")).expect("ours");
    let (status, body) = register(&up, "ada").await;
    assert_eq!(status, 201, "{body}");
    let log = site.log();
    assert_eq!(log.matches("customers' keys cannot be written").count(), 2, "{log}");
    assert_eq!(log.matches("no longer: customers' keys cannot be written").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(up.stop("TERM").await.success());
}

/// Fault: outside: another process holds the lock of the customers' keys and does not release it (it is frozen while it writes a key)
/// Customer: who registers gets 503 with `Retry-After`; everybody else goes on
/// Operator: the log names the lock file once when it begins, and says once when it ends; `doctor` names it under `keys`; a process that starts meanwhile
/// ends with one line that names it, exit code 1
/// Within: 2 s, `doctor` 10 s
/// Ends: by itself, when the lock is released
#[tokio::test]
async fn a_lock_that_is_not_released_keeps_no_process_from_answering_or_ending() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let path = site.data.join("keys/lock");
    let lock = fs::File::open(&path).expect("it is there");
    let named = path.display().to_string();
    lock.lock().expect("each writer releases it");
    let since = Instant::now();
    let ((status, body), took) = (register(&up, "ada").await, since.elapsed());
    assert_eq!((status, &body["code"]), (503, &json!("key_store_unavailable")), "{body}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let (_, operation, token) = up.order("ok").await;
    up.succeeded(&token, &operation).await;
    let (code, lines) = doctor(&site, &[]).await;
    let keys = wrong(&lines).into_iter().find(|(what, _)| *what == "keys");
    assert!(code == 1 && keys.is_some_and(|(_, detail)| detail.contains(&named)), "{lines:?}");
    let url = up.demo["databaseUrl"].as_str().expect("a text");
    for role in ["serve", "work"] {
        let since = Instant::now();
        let (code, line) = site.refusal(&[role, "--port", "0", "--database-url", url]).await;
        assert!(code == 1 && line.contains(&named), "{role}: {code} {line}");
        assert!(since.elapsed() < Duration::from_secs(10), "{role}: {:?}", since.elapsed());
    }
    lock.unlock().expect("it is held");
    let (status, body) = register(&up, "ada").await;
    assert_eq!(status, 201, "{body}");
    let log = site.log();
    assert_eq!(log.matches("customers' keys cannot be written").count(), 2, "{log}");
    let mut begun = log.lines().filter(|line| line.contains("customers' keys cannot be written"));
    assert!(begun.next().is_some_and(|line| line.contains(&named)), "{log}");

    lock.lock().expect("each writer releases it");
    assert_eq!(register(&up, "bea").await.0, 503);
    let since = Instant::now();
    assert!(up.stop("TERM").await.success());
    assert!(since.elapsed() < Duration::from_secs(20), "it took {:?}", since.elapsed());
}

/// Fault: outside: the disk or volume of the customers' keys does not answer
/// Customer: nothing, while their keys are in memory
/// Operator: `doctor` (exit code 1) says it under `keys`, and examines everything else
/// Within: 10 s
/// Ends: when it answers
#[tokio::test]
async fn doctor_ends_although_the_disk_of_the_keys_does_not_answer() {
    let site = Site::new();
    let up = site.up(&["--no-demo"]).await;
    let (kek, away) = (site.data.join("keys/kek"), site.data.join("keys/kek.away"));
    fs::rename(&kek, &away).expect("ours");
    // A pipe that nobody writes to: whoever opens it for reading waits.
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&kek).status();
    assert!(made.expect("it starts").success());
    let (code, lines) = doctor(&site, &[]).await;
    let [("keys", detail)] = wrong(&lines)[..] else { panic!("{lines:?}") };
    assert!(code == 1 && detail.contains("does not answer"), "{detail}");
    fs::rename(&away, &kek).expect("ours");
    let (code, lines) = doctor(&site, &[]).await;
    assert_eq!((code, wrong(&lines)), (0, vec![]));
    assert!(up.stop("TERM").await.success());
}
