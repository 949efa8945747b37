//! A database per test, on the real Postgres that `DATABASE_URL` names.
//!
//! Running all migrations takes most of a second; copying a database that has them takes a tenth.
//! So the first test that needs a set of migrations makes a template, named by the set's hash, and
//! all others copy it. A template is built under another name and renamed when it is whole, hence a
//! test killed halfway leaves nothing that others would take for finished.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// Enough for a test that runs workers, a relay and requests at once.
const CONNECTIONS: u32 = 20;

/// A database of one's own. Dropped by [`Database::close`], or as well as possible when it goes out
/// of scope (a failed test).
///
/// ```
/// use stepwise_engine::{migrations::migrations, testing::Database};
///
/// # async fn f() -> Result<(), sqlx::Error> {
/// let database = Database::fresh(&[migrations()]).await;
/// let open: i64 = sqlx::query_scalar("select count(*) from saga.instance")
///     .fetch_one(database.pool())
///     .await?;
/// assert_eq!(open, 0, "no other test works here");
/// database.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Database {
    name: String,
    server: PgConnectOptions,
    pool: PgPool,
    open: bool,
}

impl Database {
    /// Makes a database with the given migrations applied in the given order. From now on this process registers explored sagas only
    /// ([`crate::EngineBuilder::explored`]).
    ///
    /// # Panics
    /// When `DATABASE_URL` is not set or the server does not do as told: a test cannot go on.
    pub async fn fresh(migrators: &[Migrator]) -> Self {
        crate::run::explored::demand();
        let server = server();
        let mut admin = connect(&server).await;
        let template = template(&mut admin, &server, migrators).await;
        let name = format!("stepwise_test_{}", Uuid::now_v7().simple());
        execute(&mut admin, format!("create database {name} template {template}")).await;
        admin.close().await.expect("the test server ends a session when asked");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_lazy_with(server.clone().database(&name));
        Self { name, server, pool, open: true }
    }

    /// Connections to the database, at most 20.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The address for another process.
    pub fn url(&self) -> String {
        self.server.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// How to reach the database, for a pool with settings of its own.
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Drops the database, with whatever is still connected to it.
    pub async fn close(mut self) {
        self.open = false;
        // A test may still hold a connection; dropping by force ends it.
        drop(tokio::time::timeout(Duration::from_secs(2), self.pool.close()).await);
        drop_database(&self.server, &self.name).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread and a runtime of its own: the test's runtime may be ending.
        let dropping = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            {
                runtime.block_on(drop_database(&server, &name));
            }
        });
        drop(dropping.join());
    }
}

fn server() -> PgConnectOptions {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        panic!(
            "DATABASE_URL is not set: run ./scripts/test, which starts a Postgres for the tests, \
             or point the variable at a server where databases may be created"
        )
    });
    PgConnectOptions::from_str(&url)
        .unwrap_or_else(|error| panic!("DATABASE_URL is not a Postgres address: {error}"))
        .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(5))
}

/// The name of a database that has these migrations and no connections.
async fn template(
    admin: &mut PgConnection,
    server: &PgConnectOptions,
    migrators: &[Migrator],
) -> String {
    let mut hasher = DefaultHasher::new();
    for migrator in migrators {
        migrator.table_name.hash(&mut hasher);
        migrator.iter().for_each(|one| (one.version, &one.checksum).hash(&mut hasher));
    }
    // A template has the journal's partitions of the days after it was made.
    UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs().div_euclid(86_400).hash(&mut hasher);
    let hash = hasher.finish();
    let name = format!("stepwise_template_{hash:016x}");

    lock(admin, hash, true).await;
    let exists: bool = sqlx::query_scalar(
        "-- testing: is the template there\nselect exists (select from pg_database where datname = $1)",
    )
    .bind(&name)
    .fetch_one(&mut *admin)
    .await
    .expect("the test server lists its databases");
    if !exists {
        let building = format!("{name}_building");
        execute(admin, format!("drop database if exists {building} with (force)")).await;
        execute(admin, format!("create database {building} template template0")).await;
        let pool = PgPool::connect_with(server.clone().database(&building))
            .await
            .expect("a database just created accepts connections");
        for migrator in migrators {
            crate::store::migrations::run(migrator, &pool).await.unwrap_or_else(|e| panic!("{e}"));
        }
        pool.close().await;
        // The server may still count a session that has just ended.
        execute(admin, format!("alter database {building} with allow_connections false")).await;
        rename(admin, &building, &name).await;
    }
    lock(admin, hash, false).await;
    name
}

/// Renames a database as soon as the last session has left it.
async fn rename(admin: &mut PgConnection, from: &str, to: &str) {
    for _ in 0..100 {
        let renamed = sqlx::query(AssertSqlSafe(format!("alter database {from} rename to {to}")))
            .execute(&mut *admin)
            .await;
        match renamed {
            Ok(_) => return,
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55006") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("the template could not be renamed: {error}"),
        }
    }
    panic!("sessions stayed in the template that nobody should be using");
}

async fn lock(admin: &mut PgConnection, key: u64, take: bool) {
    let statement = if take {
        "-- testing: one builder a template\nselect pg_advisory_lock($1)"
    } else {
        "-- testing: template built\nselect pg_advisory_unlock($1)"
    };
    sqlx::query(statement)
        .bind(key.cast_signed())
        .execute(admin)
        .await
        .expect("advisory locks are always there");
}

async fn connect(server: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(server)
        .await
        .unwrap_or_else(|error| panic!("the server of DATABASE_URL cannot be reached: {error}"))
}

async fn execute(admin: &mut PgConnection, statement: String) {
    let shown = statement.clone();
    sqlx::query(AssertSqlSafe(statement))
        .execute(admin)
        .await
        .unwrap_or_else(|error| panic!("`{shown}`: {error}"));
}

async fn drop_database(server: &PgConnectOptions, name: &str) {
    let mut admin = connect(server).await;
    execute(&mut admin, format!("drop database if exists {name} with (force)")).await;
}
