//! TODO

use super::*;
use crate::testing::Database;

#[tokio::test]
async fn what_a_newer_release_added_is_no_matter_and_what_it_took_away_is_refused_by_name() {
    let database = Database::fresh(&[migrations()]).await;
    verify(database.pool()).await.expect("a fresh database is current");
    newer_release(&database, 9998, "a table that nobody here knows").await;
    migrate(database.pool()).await.expect("a roll-back of the program needs none of the database");
    newer_release(&database, 9999, "contract what nobody needs").await;

    let refused = migrate(database.pool()).await.expect_err("a newer database must be refused");
    assert!(matches!(refused, MigrationError::Newer { found: 9999, .. }), "{refused}");
    database.close().await;
}

async fn newer_release(database: &Database, version: i64, description: &str) {
    sqlx::query(
        "-- test: a newer release was here\n\
         insert into saga._migrations (version, description, success, checksum, execution_time) \
         values ($1, $2, true, '\\x00', 0)",
    )
    .bind(version)
    .bind(description)
    .execute(database.pool())
    .await
    .expect("the bookkeeping table takes a row");
}

#[tokio::test]
async fn an_empty_database_is_behind_until_it_is_migrated() {
    let database = Database::fresh(&[]).await;
    let behind = verify(database.pool()).await.expect_err("nothing is there yet");
    assert!(matches!(behind, MigrationError::Behind { .. }), "{behind}");
    let (one, other) = tokio::join!(migrate(database.pool()), migrate(database.pool()));
    one.and(other).expect("two processes may migrate at the same time");
    verify(database.pool()).await.expect("now it is current");
    database.close().await;
}

#[tokio::test]
async fn a_migration_edited_after_it_was_applied_is_noticed() {
    let database = Database::fresh(&[migrations()]).await;
    sqlx::query(
        "-- test: another text\nupdate saga._migrations set checksum = '\\x01' where version = 1",
    )
    .execute(database.pool())
    .await
    .expect("the bookkeeping table can be edited");
    let changed = migrate(database.pool()).await.expect_err("the text differs");
    assert!(matches!(changed, MigrationError::Changed { version: 1, .. }), "{changed}");
    database.close().await;
}

#[tokio::test]
async fn every_test_gets_a_database_of_its_own_and_takes_it_away() {
    let set = [migrations()];
    let (one, other) = tokio::join!(Database::fresh(&set), Database::fresh(&set));
    sqlx::query("-- test: a table in one\ncreate table only_here ()")
        .execute(one.pool())
        .await
        .expect("a database of one's own takes tables");
    let there: bool = sqlx::query_scalar(
        "-- test: is it in the other\nselect to_regclass('only_here') is not null",
    )
    .fetch_one(other.pool())
    .await
    .expect("the other answers");
    assert!(!there);
    let names = [one.url(), other.url()].map(|url| url.rsplit('/').next().map(str::to_owned));
    let admin = Database::fresh(&[]).await;
    one.close().await;
    drop(other);
    for name in names {
        let name = name.and_then(|name| name.split('?').next().map(str::to_owned));
        let left: i64 = sqlx::query_scalar(
            "-- test: what is left\nselect count(*) from pg_database where datname = $1",
        )
        .bind(name)
        .fetch_one(admin.pool())
        .await
        .expect("the server lists its databases");
        assert_eq!(left, 0);
    }
    admin.close().await;
}
