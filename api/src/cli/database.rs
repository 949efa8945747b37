//! Reaching the database, and saying in one line why not.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use stepwise_engine::{Mismatch, WorkerConfig};
use stepwise_workflows::sagas;

use super::{Failure, settings::Settings};
use crate::server;

/// The oldest Postgres that is supported.
const OLDEST: u32 = 15;
/// How long the server lets one statement of a request run.
const REQUEST_STATEMENT: &str = "5s";
/// Connections of the front door: more requests than this wait a moment.
const API: u32 = 20;
/// Connections of the engine's activities and claims; its lanes and its lease have their own.
const ENGINE: u32 = 20;
/// Connections of the relay: it does one thing after the other.
const RELAY: u32 = 3;

/// A database that answers and is new enough, with a pool for each part of the process, so that no
/// part can starve another.
#[derive(Debug, Clone)]
pub(super) struct Database {
    options: PgConnectOptions,
}

/// A pool for a command that does one thing: on the database of `--database-url`, or on that of the
/// `up` that runs in the same data directory.
pub(super) async fn connect(settings: &Settings, connections: u32) -> Result<PgPool, Failure> {
    let mut settings = settings.clone();
    settings.database_url = settings.database_url.or_else(|| of_up(&settings.data_dir));
    Ok(Database::given(&settings).await?.pool("stepwise", connections))
}

/// What `up` has noted about its database; `None`: there is no note.
fn of_up(data_dir: &Path) -> Option<String> {
    let note = std::fs::read(data_dir.join("demo.json")).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
    note["databaseUrl"].as_str().map(str::to_owned)
}

impl Database {
    /// The database of `--database-url`.
    pub(super) async fn given(settings: &Settings) -> Result<Self, Failure> {
        let Some(url) = &settings.database_url else {
            return Err(Failure::usage(
                "which database? Give --database-url (or STEPWISE_DATABASE_URL), or run \
                 `stepwise up`, which brings its own",
            ));
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Failure::usage("--database-url is not a Postgres address"))?;
        Self::at(options).await
    }

    /// The database that these options lead to.
    pub(super) async fn at(options: PgConnectOptions) -> Result<Self, Failure> {
        let at = format!("{}:{}", options.get_host(), options.get_port());
        // The server notices within half a minute that we are gone without a word.
        let keepalive = [
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ];
        let options = options
            .options(keepalive)
            .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1));
        let probe = tokio::time::timeout(Duration::from_secs(5), options.connect()).await;
        let connection = match probe {
            Ok(Ok(connection)) => connection,
            Ok(Err(sqlx::Error::Database(error))) => {
                return Err(Failure::dependency(format!(
                    "the database at {at} refused the connection ({}); check --database-url",
                    error.message()
                )));
            }
            Ok(Err(error)) => {
                return Err(Failure::dependency(format!(
                    "no database answers at {at} ({error}); start it or correct --database-url"
                )));
            }
            Err(_) => {
                return Err(Failure::dependency(format!(
                    "no database answers at {at} within 5 seconds; start it or correct \
                     --database-url"
                )));
            }
        };
        let major = connection.server_version_num().unwrap_or(0) / 10_000;
        if major < OLDEST {
            return Err(Failure::version(format!(
                "the database at {at} is Postgres {major}; {OLDEST} or newer is needed"
            )));
        }
        Ok(Self { options })
    }

    /// For requests: nobody waits long, neither for a connection nor for a statement.
    pub(super) fn api_pool(&self) -> PgPool {
        let options = self.options.clone().application_name("stepwise api");
        server::pool(options.options([("statement_timeout", REQUEST_STATEMENT)]), API)
    }

    /// For the engine. Who stands still in an open transaction gives its row locks back about when it loses its lease.
    pub(super) fn engine_pool(&self) -> PgPool {
        let patience = WorkerConfig::default().lease.as_millis().to_string();
        let options =
            self.options.clone().options([("idle_in_transaction_session_timeout", patience)]);
        Self { options }.pool("stepwise engine", ENGINE)
    }

    /// For the relay.
    pub(super) fn relay_pool(&self) -> PgPool {
        self.pool("stepwise relay", RELAY)
    }

    /// For anything else. `name` is what the database shows.
    pub(super) fn pool(&self, name: &str, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(self.options.clone().application_name(name))
    }

    /// Brings the schema up to date: the engine's, then the shop's.
    pub(super) async fn migrate(&self) -> Result<(), Failure> {
        let pool = self.pool("stepwise migrate", 2);
        stepwise_engine::migrations::migrate(&pool).await?;
        stepwise_workflows::migrations::migrate(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Tells whether this binary may work here; changes nothing.
    pub(super) async fn verify(&self) -> Result<(), Failure> {
        let pool = self.pool("stepwise check", 2);
        stepwise_engine::migrations::verify(&pool).await?;
        stepwise_workflows::migrations::verify(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// The open sagas that this binary cannot go on with.
    pub(super) async fn mismatches(&self) -> Result<Vec<Mismatch>, Failure> {
        let pool = self.pool("stepwise check", 1);
        let found = sagas::gate().check(&pool).await?;
        pool.close().await;
        Ok(found)
    }

    /// Tells whether this binary can go on with every saga that is open here.
    pub(super) async fn verify_sagas(&self) -> Result<(), Failure> {
        refuse(&self.mismatches().await?)
    }
}

/// A failure about the first mismatch, if there is one.
pub(super) fn refuse(found: &[Mismatch]) -> Result<(), Failure> {
    let Some(first) = found.first() else { return Ok(()) };
    let all = found.iter().map(|mismatch| mismatch.count).sum::<u64>();
    let more = if found.len() > 1 { ", and others" } else { "" };
    Err(Failure::version(format!(
        "this version of the program cannot go on with {all} open sagas: {} of {} version {} ({}){more}; run the version that started \
         them, or a newer one that knows them, until they have ended",
        first.count, first.name, first.version, first.why
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stands_still_in_a_transaction_loses_its_locks_with_its_lease() {
        let fresh = stepwise_engine::testing::Database::fresh(&[]).await;
        let database = Database::at(fresh.options()).await.unwrap_or_else(|e| panic!("{e}"));
        let pool = database.engine_pool();
        let patience: String =
            sqlx::query_scalar("-- name: test patience\nshow idle_in_transaction_session_timeout")
                .fetch_one(&pool)
                .await
                .expect("the database is there");
        assert_eq!(patience, format!("{}s", WorkerConfig::default().lease.as_secs()));
        pool.close().await;
        fresh.close().await;
    }
}
