//! The schema this binary needs, and how a database gets it.
//!
//! Engine and application migrate separately, each with a bookkeeping table of its own in its own
//! schema, so that the engine can be used without the shop and released on its own. A database may
//! be behind (run [`migrate`]) or ahead, when a newer release has migrated it. A migration only adds what
//! earlier releases do not see, so that a roll-back of the program needs none of the database; one that
//! takes away says so by its name (`0042_contract_...`), and a binary that does not know it must not
//! touch the database: [`MigrationError::Newer`].

use std::collections::BTreeMap;

use sqlx::{
    AssertSqlSafe, PgPool,
    migrate::{MigrateError, Migrator},
};
use thiserror::Error;

/// Why a database does not have the schema that this binary needs.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// A newer release has taken something away from this database; nothing was changed.
    #[error(
        "the database has the contracting migration {found} in {table}, but this version of the program \
         knows only those up to {known}: run the newer version"
    )]
    Newer {
        /// The bookkeeping table.
        table: String,
        /// The newest contracting migration found in the database.
        found: i64,
        /// The newest migration in this binary.
        known: i64,
    },
    /// Migrations are missing; only [`verify_set`] answers this, [`run`] applies them.
    #[error("the database lacks {missing} migrations of {table}: run `stepwise migrate`")]
    Behind {
        /// The bookkeeping table.
        table: String,
        /// How many are missing.
        missing: usize,
    },
    /// An applied migration is not the one in this binary: its text was changed after release.
    #[error("migration {version} of {table} is not the one that this program contains")]
    Changed {
        /// The bookkeeping table.
        table: String,
        /// The version whose text differs or is unknown here.
        version: i64,
    },
    /// A migration was refused by the database; it left nothing behind.
    #[error("migration {version} of {table} failed: {source}")]
    Refused {
        /// The bookkeeping table.
        table: String,
        /// The version that failed.
        version: i64,
        /// The error of the database.
        source: sqlx::Error,
    },
    /// The database could not be asked.
    #[error("the database could not be asked for its migrations: {0}")]
    Database(#[from] sqlx::Error),
    /// Anything else the migration library reports.
    #[error("migrations could not be run: {0}")]
    Library(MigrateError),
}

/// How the description of a migration begins that takes something away from earlier releases.
const CONTRACTS: &str = "contract";

/// The engine's migrations, kept in `saga._migrations`.
pub fn migrations() -> Migrator {
    in_schema(sqlx::migrate!("../migrations/engine"), "saga")
}

/// Gives `migrator` the bookkeeping table `<schema>._migrations`.
pub fn in_schema(mut migrator: Migrator, schema: &'static str) -> Migrator {
    migrator.create_schema(schema);
    migrator.dangerous_set_table_name(format!("{schema}._migrations"));
    migrator
}

/// Brings the engine's tables up to date (schema `saga`); does nothing where they are. Call it at the start of a process, or once before a
/// deploy: a process waits for another that is at it. Round trips: 2 where nothing is to be done.
///
/// # Errors
/// [`MigrationError`]; a migration that fails leaves nothing behind.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrationError> {
    run(&migrations(), pool).await
}

/// Tells whether the engine's tables serve this binary: all of its migrations were applied, and none that contracts beyond them.
/// Changes nothing. Round trips: 2.
///
/// # Errors
/// [`MigrationError::Behind`], [`MigrationError::Newer`], [`MigrationError::Changed`] or the database's.
pub async fn verify(pool: &PgPool) -> Result<(), MigrationError> {
    verify_set(&migrations(), pool).await
}

/// Applies what is missing of one set. Processes that do so at the same time wait for each other.
///
/// # Errors
/// [`MigrationError`].
pub async fn run(migrator: &Migrator, pool: &PgPool) -> Result<(), MigrationError> {
    match verify_set(migrator, pool).await {
        Err(MigrationError::Behind { .. }) => {}
        verified => return verified,
    }
    // Detached: a failed run leaves its lock on the session, which must then not go back to the pool.
    let mut connection = pool.acquire().await?.detach();
    migrator.run_direct(None, &mut connection, false).await.map_err(|error| {
        let table = migrator.table_name.to_string();
        match error {
            MigrateError::ExecuteMigration(source, version) => {
                MigrationError::Refused { table, version, source }
            }
            MigrateError::VersionMismatch(version) | MigrateError::VersionMissing(version) => {
                MigrationError::Changed { table, version }
            }
            MigrateError::Execute(source) => MigrationError::Database(source),
            other => MigrationError::Library(other),
        }
    })
}

/// Compares one set with the database; changes nothing.
///
/// # Errors
/// [`MigrationError`].
pub async fn verify_set(migrator: &Migrator, pool: &PgPool) -> Result<(), MigrationError> {
    let table = migrator.table_name.to_string();
    let known: BTreeMap<i64, &[u8]> =
        migrator.iter().map(|one| (one.version, &*one.checksum)).collect();
    let exists: bool =
        sqlx::query_scalar("-- migrations: is there a table\nselect to_regclass($1) is not null")
            .bind(&table)
            .fetch_one(pool)
            .await?;
    let applied: Vec<(i64, Vec<u8>, String)> = if exists {
        let bookkeeping = format!(
            "-- migrations: applied\nselect version, checksum, description from {table} order by version desc"
        );
        sqlx::query_as(AssertSqlSafe(bookkeeping)).fetch_all(pool).await?
    } else {
        Vec::new()
    };
    let newest = known.keys().last().copied().unwrap_or(0);
    let (newer, applied): (Vec<_>, Vec<_>) =
        applied.into_iter().partition(|(version, ..)| *version > newest);
    if let Some((found, ..)) = newer.iter().find(|(.., is)| is.starts_with(CONTRACTS)) {
        return Err(MigrationError::Newer { table, found: *found, known: newest });
    }
    for (version, checksum, _) in &applied {
        if known.get(version).is_none_or(|known| *known != checksum.as_slice()) {
            return Err(MigrationError::Changed { table, version: *version });
        }
    }
    match known.len() - applied.len() {
        0 => Ok(()),
        missing => Err(MigrationError::Behind { table, missing }),
    }
}

#[cfg(test)]
mod tests;
