//! The channel by which a commit wakes workers.

use sqlx::PgConnection;

use crate::record::commit::Commit;

/// A start or a signal in a process without a worker says that something is due.
pub(crate) const WAKE_CHANNEL: &str = "saga_wake";

/// The payload that asks workers for a pass over their upkeep tasks at once. There is no other payload, and workers of earlier builds know this word.
pub(crate) const UPKEEP: &str = "round";

pub(crate) async fn wake_workers(
    tx: &mut PgConnection,
    commits: &[Commit],
) -> Result<(), sqlx::Error> {
    if commits.iter().any(|commit| commit.wake.delay().is_some() || commit.starts_instances()) {
        notify(tx, "").await?;
    }
    if commits.iter().any(|commit| commit.status.is_final()) {
        // Somebody may wait for its end.
        notify(tx, UPKEEP).await?;
    }
    Ok(())
}

pub(crate) async fn notify(tx: &mut PgConnection, what: &str) -> Result<(), sqlx::Error> {
    sqlx::query("-- name: wake workers\nselect pg_notify($1, $2)")
        .bind(WAKE_CHANNEL)
        .bind(what)
        .execute(tx)
        .await
        .map(|_| ())
}
