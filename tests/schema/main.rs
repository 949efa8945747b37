//! The committed dump is what the migrations make.

mod personal;

use std::path::Path;

use stepwise_adapters::postgres::program;
use stepwise_engine::testing::Database;
use tokio::process::Command;

/// What differs between versions of pg_dump, or from day to day, says nothing about the schema.
fn essence(dump: &str) -> String {
    let lines = dump.lines().map(str::trim_end).filter(|line| {
        !(line.is_empty()
            || line.starts_with("--")
            || line.starts_with('\\')
            || line.starts_with("SET ")
            || line.starts_with("SELECT pg_catalog"))
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[tokio::test]
async fn schema_sql_is_the_dump_of_the_migrated_database() {
    let migrations =
        [stepwise_engine::migrations::migrations(), stepwise_workflows::migrations::migrations()];
    let db = Database::fresh(&migrations).await;
    // What follows the name is for our own client.
    let url = db.url();
    let pg_dump = program("pg_dump").await.expect("pg_dump lies beside the server's programs");
    let done = Command::new(pg_dump)
        .args(["--schema-only", "--no-owner", "--no-privileges", "--schema=saga", "--schema=shop"])
        // The journal's partitions are named by the day.
        .args(["--exclude-table=saga.journal_2*", "-d", url.split('?').next().unwrap_or(&url)])
        .output()
        .await
        .expect("pg_dump runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    db.close().await;
    let dump = essence(&String::from_utf8_lossy(&done.stdout));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/schema.sql");
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        std::fs::write(&path, &dump).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == dump,
        "migrations/schema.sql is out of date: run this test with STEPWISE_UPDATE=1"
    );
}
