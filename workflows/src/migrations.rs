//! The shop's tables, migrated after the engine's and kept apart from them.

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use stepwise_engine::migrations::{self as engine, MigrationError};

/// The shop's migrations, kept in `shop._migrations`. They may refer to the engine's tables.
pub fn migrations() -> Migrator {
    engine::in_schema(sqlx::migrate!("../migrations/shop"), "shop")
}

/// Brings the shop's tables up to date; the engine's must be there already.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrationError> {
    engine::run(&migrations(), pool).await
}

/// Tells whether the shop's tables are exactly those this binary needs; changes nothing.
pub async fn verify(pool: &PgPool) -> Result<(), MigrationError> {
    engine::verify_set(&migrations(), pool).await
}
