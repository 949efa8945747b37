//! The customers' keys belong to one database, and a process without them does not start.

use std::fs;

use serde_json::json;
use stepwise_engine::testing::Database;

use crate::site::Site;

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
    let register = async |name: &str| {
        let customer = json!({"email": format!("{name}@example.net"), "firstName": name, "lastName": "Byron",
            "password": "a lantern hums over wet slate"});
        up.post("", "/v1/customers", &customer).await
    };
    fs::rename(site.data.join("keys"), site.data.join("lost")).expect("ours");
    for name in ["ada", "bea", "cleo"] {
        let (status, body) = register(name).await;
        assert_eq!((status, &body["code"]), (503, &json!("key_store_unavailable")), "{body}");
    }
    fs::rename(site.data.join("lost"), site.data.join("keys")).expect("ours");
    let (status, body) = register("ada").await;
    assert_eq!(status, 201, "{body}");
    let log = site.log();
    assert_eq!(log.matches("customers' keys cannot be written").count(), 2, "{log}");
    assert_eq!(log.matches("no longer: customers' keys cannot be written").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(up.stop("TERM").await.success());
}
