//! Connects to the database, and says in one line why it cannot.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{ConnectOptions, PgConnection, PgPool, postgres::PgConnectOptions};
use stepwise_engine::{
    Mismatch,
    database::{self, Waits, within},
};
use stepwise_workflows::sagas;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Failure, settings::Settings};
use crate::server;

mod fitness;

/// How long the first connection may take to open, and each check at the start.
const FIRST: Duration = Duration::from_secs(5);
/// The most connections of [`pooled`], on a machine with many processors.
const MOST_POOLED: u32 = 20;
/// Connections of the relay: one for each of its tasks that use the database, and two spare ones.
const RELAY: u32 = 5;
/// Connections outside the pools: batchers, claims, upkeep passes, lease, listeners, housekeeping and the database watch.
const OTHERS: u32 = 12;
/// How long the engine and the relay wait for a connection of their pools.
const PATIENCE: Duration = Duration::from_secs(5);

/// The role of a process, which decides how many connections the process may need at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Everything,
    FrontDoor,
    Worker,
    Relay,
}

impl Role {
    pub(super) fn connections(self) -> u32 {
        match self {
            Self::Everything => 2 * pooled() + RELAY + OTHERS,
            Self::FrontDoor => 2 * pooled(),
            Self::Worker => pooled() + OTHERS,
            Self::Relay => RELAY + 2,
        }
    }
}

/// Connections of the front door, and as many of the engine's activities; who finds none waits for one. More than the processors can serve at once
/// make everything slower: each session keeps plans and caches of its own, and makes them again whenever a table was vacuumed. Commit batches and
/// the lease have connections of their own.
fn pooled() -> u32 {
    let processors = std::thread::available_parallelism().map_or(2, |n| n.get());
    u32::try_from(4 + 2 * processors).unwrap_or(MOST_POOLED).min(MOST_POOLED)
}

/// A database that this program can work on. Each part of the process gets a pool of its own, so that no
/// part can starve another.
#[derive(Debug, Clone)]
pub(super) struct Database {
    options: PgConnectOptions,
}

/// Opens a pool for a command that does one thing and ends. It uses the database of `--database-url`, or else that of the
/// `up` in the same data directory.
pub(super) async fn connect(settings: &Settings, connections: u32) -> Result<PgPool, Failure> {
    let mut settings = settings.clone();
    settings.database_url = settings.database_url.or_else(|| of_up(&settings.data_dir));
    Ok(Database::given(&settings).await?.pool("stepwise", Waits::COMMAND, connections))
}

/// The address of its database that `up` has written down. `None` if there is none.
fn of_up(data_dir: &Path) -> Option<String> {
    let note = std::fs::read(data_dir.join("demo.json")).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
    note["databaseUrl"].as_str().map(str::to_owned)
}

impl Database {
    /// Connects to the database of `--database-url`.
    pub(super) async fn given(settings: &Settings) -> Result<Self, Failure> {
        let Some(url) = &settings.database_url else {
            return Err(Failure::usage(
                "no database is given: give --database-url (or STEPWISE_DATABASE_URL), or run \
                 `stepwise up`, which brings its own",
            ));
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Failure::usage("--database-url is not a Postgres address"))?;
        Self::at(options).await
    }

    /// Connects with these options. Refuses a database that this program cannot work on, and names the fault.
    pub(super) async fn at(options: PgConnectOptions) -> Result<Self, Failure> {
        let options =
            options.log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1));
        let database = Self { options };
        let mut connection = database.first_connection().await?;
        fitness::check(&database, &mut connection).await?;
        Ok(database)
    }

    /// Host and port, for messages.
    fn place(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    async fn first_connection(&self) -> Result<PgConnection, Failure> {
        let at = self.place();
        let options = database::bounded(self.options.clone(), Waits::USUAL);
        match tokio::time::timeout(FIRST, options.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(sqlx::Error::Database(error)))
                if error.message().contains("startup parameter") =>
            {
                Err(fitness::pooler(&at))
            }
            Ok(Err(sqlx::Error::Database(error))) => Err(Failure::dependency(format!(
                "the database at {at} refused the connection ({}); check --database-url",
                error.message()
            ))),
            Ok(Err(error)) if database::is_out_of_files(&error) => Err(error.into()),
            Ok(Err(error)) => Err(Failure::dependency(format!(
                "no database answers at {at} ({error}); start it or correct --database-url"
            ))),
            Err(_) => Err(Failure::dependency(format!(
                "no database answers at {at} within 5 seconds; start it or correct --database-url"
            ))),
        }
    }

    /// Checks once a second whether the database answers, until the guard is dropped.
    pub(super) fn watch(&self) -> DropGuard {
        let options = self.options.clone().application_name("stepwise watch");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(database::watch(options)).await });
        stop.drop_guard()
    }

    /// Refuses a server that allows fewer connections than a process of this role may need.
    pub(super) async fn has_room_for(&self, role: Role) -> Result<(), Failure> {
        let mut connection = self.first_connection().await?;
        fitness::check_room(self, &mut connection, role).await
    }

    /// A pool for requests, with short waits for a connection and for a statement.
    pub(super) fn api_pool(&self) -> PgPool {
        server::pool(self.options.clone().application_name("stepwise api"), pooled())
    }

    /// A pool for the engine.
    pub(super) fn engine_pool(&self) -> PgPool {
        self.pool("stepwise engine", Waits::USUAL, pooled())
    }

    /// A pool for the relay.
    pub(super) fn relay_pool(&self) -> PgPool {
        self.pool("stepwise relay", Waits::USUAL, RELAY)
    }

    /// A pool for the check that the key store belongs to this database.
    pub(super) fn keys_pool(&self) -> PgPool {
        self.pool("stepwise keys", Waits::COMMAND, 1)
    }

    /// A pool for the record of what was declared at the broker.
    pub(super) fn broker_pool(&self) -> PgPool {
        self.pool("stepwise broker", Waits::USUAL, 1)
    }

    /// A pool for the figures of `/metrics`.
    pub(super) fn monitor_pool(&self) -> PgPool {
        self.pool("stepwise monitor", Waits::USUAL, 1)
    }

    /// A pool for any other use. `name` is the application name that the database shows.
    pub(super) fn pool(&self, name: &str, waits: Waits, connections: u32) -> PgPool {
        let options = self.options.clone().application_name(name);
        database::pool(options, waits, connections, PATIENCE)
    }

    /// Brings the schema up to date: the engine's, then the shop's.
    pub(super) async fn migrate(&self) -> Result<(), Failure> {
        let pool = self.pool("stepwise migrate", Waits::MIGRATION, 2);
        stepwise_engine::migrations::migrate(&pool).await?;
        stepwise_workflows::migrations::migrate(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Checks that this binary's migrations match the database. Changes nothing.
    pub(super) async fn verify(&self) -> Result<(), Failure> {
        let pool = self.pool("stepwise check", Waits::COMMAND, 2);
        stepwise_engine::migrations::verify(&pool).await?;
        stepwise_workflows::migrations::verify(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// The open sagas that this binary cannot continue.
    pub(super) async fn mismatches(&self) -> Result<Vec<Mismatch>, Failure> {
        let pool = self.pool("stepwise check", Waits::COMMAND, 1);
        let found = sagas::gate().check(&pool).await?;
        pool.close().await;
        Ok(found)
    }

    /// Checks that this binary can continue every open saga.
    pub(super) async fn verify_sagas(&self) -> Result<(), Failure> {
        refuse(&self.mismatches().await?)
    }
}

/// Fails with the first mismatch, if there is one.
pub(super) fn refuse(found: &[Mismatch]) -> Result<(), Failure> {
    let Some(first) = found.first() else { return Ok(()) };
    let all = found.iter().map(|mismatch| mismatch.count).sum::<u64>();
    let more = if found.len() > 1 { ", and others" } else { "" };
    Err(Failure::version(format!(
        "this version of the program cannot continue {all} open sagas: {} of {} version {} ({}){more}; run the version that started \
         them, or a newer one that knows them, until they have ended",
        first.count, first.saga.name, first.saga.version, first.why
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of a session, by name, as the server reports them.
    async fn settings(pool: &PgPool) -> Vec<(String, String)> {
        sqlx::query_as(
            "-- name: test settings
            select name, setting || coalesce(unit, '') from pg_settings where name in ('lock_timeout', 'statement_timeout',
                'idle_in_transaction_session_timeout', 'tcp_user_timeout', 'default_transaction_isolation')
            order by name",
        )
        .fetch_all(pool)
        .await
        .expect("the database is there")
    }

    #[tokio::test]
    async fn the_sessions_of_every_role_wait_for_nothing_without_a_limit() {
        let fresh = stepwise_engine::testing::Database::fresh(&[]).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "alter database {} set default_transaction_isolation = 'serializable'",
            fresh.options().get_database().expect("it has a name")
        )))
        .execute(fresh.pool())
        .await
        .expect("it is ours");
        let database = Database::at(fresh.options()).await.unwrap_or_else(|e| panic!("{e}"));
        for pool in [database.api_pool(), database.engine_pool(), database.relay_pool()] {
            let found = settings(&pool).await;
            let found: Vec<_> =
                found.iter().map(|(name, is)| (name.as_str(), is.as_str())).collect();
            assert_eq!(
                found,
                [
                    ("default_transaction_isolation", "read committed"),
                    ("idle_in_transaction_session_timeout", "15000ms"),
                    ("lock_timeout", "1000ms"),
                    ("statement_timeout", "5000ms"),
                    // Of a Unix socket it is 0.
                    ("tcp_user_timeout", "15000ms"),
                ]
            );
            pool.close().await;
        }
        fresh.close().await;
    }
}
