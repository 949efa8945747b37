//! Migrations by a role that owns its database and may do nothing else on the server.

use std::process::Stdio;

use sqlx::AssertSqlSafe;
use stepwise_engine::testing::Database;
use uuid::Uuid;

use crate::site::Site;

async fn run(database: &Database, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(database.pool()).await;
    done.expect("a superuser may do this");
}

#[tokio::test]
async fn the_ordinary_owner_of_a_database_migrates_it_with_its_extension() {
    let (site, database) = (Site::new(), Database::fresh(&[]).await);
    let role = format!("owner_{}", Uuid::now_v7().simple());
    let name = database.options().get_database().expect("it has a name").to_owned();
    run(&database, format!("create role {role} login password 'hush'")).await;
    run(&database, format!("alter database \"{name}\" owner to {role}")).await;
    let mut url: reqwest::Url = database.url().parse().expect("an address");
    url.set_username(&role).expect("it has a host");
    url.set_password(Some("hush")).expect("it has a host");
    let mut migrate = site.command(&["migrate", "--database-url", url.as_str()]);
    let migrated = migrate.stderr(Stdio::piped()).kill_on_drop(true).output().await;
    let migrated = migrated.expect("the binary starts");
    let said = String::from_utf8_lossy(&migrated.stderr).into_owned();
    let found: Option<String> = sqlx::query_scalar(
        "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace
         where e.extname = 'pg_trgm'",
    )
    .fetch_optional(database.pool())
    .await
    .expect("readable");
    // The role belongs to the server, which other tests use.
    run(
        &database,
        format!("reassign owned by {role} to current_user; drop owned by {role}; drop role {role}"),
    )
    .await;
    assert!(migrated.status.success(), "{said}");
    assert_eq!(found.as_deref(), Some("shop"));
    database.close().await;
}
