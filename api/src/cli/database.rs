//! Reaching the database, and saying in one line why not.

use std::{str::FromStr, time::Duration};

use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};

use super::{Failure, settings::Settings};
use crate::server;

/// The oldest Postgres that is supported.
const OLDEST: i32 = 15;

/// A pool on the database of `--database-url`.
pub(super) async fn connect(settings: &Settings, connections: u32) -> Result<PgPool, Failure> {
    let Some(url) = &settings.database_url else {
        return Err(Failure::usage(
            "which database? Give --database-url (or STEPWISE_DATABASE_URL), or run `stepwise up`, \
             which brings its own",
        ));
    };
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| Failure::usage("--database-url is not a Postgres address"))?;
    connect_to(options, connections).await
}

/// A pool on a database that answers and is new enough.
pub(super) async fn connect_to(
    options: PgConnectOptions,
    connections: u32,
) -> Result<PgPool, Failure> {
    let at = format!("{}:{}", options.get_host(), options.get_port());
    let options = options
        .application_name("stepwise")
        .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1));
    let pool = server::pool(options.clone(), connections);
    let probe = tokio::time::timeout(Duration::from_secs(5), options.connect()).await;
    let mut connection = match probe {
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
                "no database answers at {at} within 5 seconds; start it or correct --database-url"
            )));
        }
    };
    let version: String = sqlx::query_scalar("-- server_version\nshow server_version_num")
        .fetch_one(&mut connection)
        .await?;
    let major = version.parse::<i32>().unwrap_or(0) / 10_000;
    if major < OLDEST {
        return Err(Failure::version(format!(
            "the database at {at} is Postgres {major}; {OLDEST} or newer is needed"
        )));
    }
    Ok(pool)
}
