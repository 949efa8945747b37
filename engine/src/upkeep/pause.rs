//! Pausing a saga: none of its instances is driven until it is resumed.
//!
//! A pause is durable and holds for every worker: each sees it within a second, or at once if it is notified. Due instances are not claimed.
//! Instances that are being driven stop before their next step, after the attempt in flight. Events from outside are still taken: a start, a signal,
//! a tick of a schedule, a cancellation and a deadline change the instance, and the steps that follow wait. Queued instances are not admitted. An
//! instance of a paused saga waits on `worker`.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};

use crate::{
    base::{
        id::shard_of,
        limits::{self, Limit, Refused, Unstorable},
    },
    store::wake::{UPKEEP, WAKE_CHANNEL},
    worker::engine::Engine,
};

/// Why a saga could not be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// This engine has no saga of that name.
    #[error("{0} is not registered with this engine")]
    Unknown(String),
    /// The name of the person, or the reason, is too long.
    #[error(transparent)]
    OverLimit(#[from] Limit),
    /// The name of the person, or the reason, holds NUL.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<Refused> for PauseError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => limit.into(),
            Refused::Unstorable(unstorable) => unstorable.into(),
        }
    }
}

/// A saga that is paused.
///
/// ```
/// use stepwise_engine::{Engine, pause::Paused};
///
/// # async fn f(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = engine.begin().await?;
/// engine.pause(&mut tx, "seat", "ann", "the bank moves house").await?;
/// tx.commit().await?; // no worker takes another step of a seat
/// for Paused { name, paused_by, why, .. } in engine.paused().await? {
///     println!("{name} was paused by {paused_by}: {why}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, FromRow)]
pub struct Paused {
    /// The saga.
    pub name: String,
    /// Since when, in real time.
    pub paused_at: DateTime<Utc>,
    /// The person.
    pub paused_by: String,
    /// The reason.
    pub why: String,
}

impl Engine {
    /// Pauses a saga of this engine with the caller's commit. Returns false if it is paused already; the first person and reason are kept.
    ///
    /// Round trips: 1.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn pause(
        &self,
        tx: &mut PgConnection,
        name: &str,
        by: &str,
        why: &str,
    ) -> Result<bool, PauseError> {
        self.kind(name).ok_or_else(|| PauseError::Unknown(name.to_owned()))?;
        limits::check_person(by, why)?;
        let paused = sqlx::query(
            "-- name: pause saga
            with paused as (
                insert into saga.kind_pause (shard, name, paused_at, paused_by, why)
                values ($1, $2, clock_timestamp(), $3, $4)
                on conflict (shard, name) where resumed_at is null do nothing
                returning 1
            )
            select pg_notify($5, $6) from paused",
        )
        .bind(shard_of(name))
        .bind(name)
        .bind(by)
        .bind(why)
        .bind(WAKE_CHANNEL)
        .bind(UPKEEP)
        .execute(tx)
        .await?;
        Ok(paused.rows_affected() == 1)
    }

    /// Resumes a saga with the caller's commit. Returns false if it is not paused. Instances that became due meanwhile are due at once. Round
    /// trips: 1.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn resume(
        &self,
        tx: &mut PgConnection,
        name: &str,
        by: &str,
    ) -> Result<bool, PauseError> {
        self.kind(name).ok_or_else(|| PauseError::Unknown(name.to_owned()))?;
        limits::check_person(by, "")?;
        let resumed = sqlx::query(
            "-- name: resume saga
            with resumed as (
                update saga.kind_pause set resumed_at = clock_timestamp(), resumed_by = $3
                where shard = $1 and name = $2 and resumed_at is null
                returning 1
            )
            select pg_notify($4, $5) from resumed",
        )
        .bind(shard_of(name))
        .bind(name)
        .bind(by)
        .bind(WAKE_CHANNEL)
        .bind(UPKEEP)
        .execute(tx)
        .await?;
        Ok(resumed.rows_affected() == 1)
    }

    /// The sagas that are paused now, with who did it and why. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn paused(&self) -> Result<Vec<Paused>, sqlx::Error> {
        paused(self.pool()).await
    }
}

/// [`Engine::paused`].
pub(crate) async fn paused(pool: &PgPool) -> Result<Vec<Paused>, sqlx::Error> {
    sqlx::query_as(
        "-- name: inspect paused
        select name, paused_at, paused_by, why from saga.kind_pause where resumed_at is null order by name",
    )
    .fetch_all(pool)
    .await
}
