//! One verb over many instances: planned first, then applied as it was planned.
//!
//! A **plan** ([`Engine::plan_bulk`]) asks what the verb would do to every open instance that passes a filter, and stores the answers as **items**:
//! the next step, what is taken back, or why the verb is refused. It locks and changes no instance. A person reads it ([`Engine::bulk_summary`], [`Engine::bulk_items`]) and
//! starts it by its id, repeating the number of instances that will be changed ([`Engine::apply_bulk`]).
//!
//! The promises:
//! - Only what was planned is done. If an instance has had a commit since, or the verb would now do something else, its item is `moved_on`. An item
//!   that the plan refused stays refused.
//! - Each item is done once or not at all: its result is in the commit of its verb.
//! - It needs no caller: workers apply it in their upkeep passes, one at a time, by the lock on the bulk's row. A worker that dies leaves nothing half
//!   done, and another continues.
//! - All workers together do at most the given number of items per second. [`Engine::stop_bulk`] holds from its commit on.
//! - If a newer build has planned a verb, or an item, that this build cannot read, the bulk is listed ([`Stored::Unknown`]) and can be stopped, and
//!   delays no other. Only workers that can read it apply it.
//! - An item that the database refuses is tried five times; then it is `failed`, with the reason. It delays no other.

mod advance;
mod plan;
mod read;
mod stored;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    base::{
        id::shard_in,
        limits::{self, Limit, Refused, Unstorable},
        words::words,
    },
    inspect::Filter,
    instance::verb::{Outlook, Refusal, Verb},
    store::wake::{UPKEEP, WAKE_CHANNEL},
    worker::engine::Engine,
};

use self::read::find;

pub(crate) use self::advance::advance;

pub use self::{
    read::{Count, Summary},
    stored::Stored,
};

/// The most items that a plan may have.
pub const MOST_ITEMS: i64 = 100_000;

/// The default number of items per second.
pub const PER_SECOND: u16 = 100;

/// An order for a bulk: the verb, the instances, the person and the reason.
///
/// ```
/// # use stepwise_engine::*;
/// use stepwise_engine::{bulk::{Bulk, Order, PER_SECOND}, inspect::Filter, operate::Verb};
///
/// # async fn f(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let order = Order {
///     verb: Verb::Retry,
///     by: "ann".to_owned(),
///     reason: "the bank answers again".to_owned(),
///     filter: Filter { status: Some(Status::Stuck), ..Filter::default() },
/// };
/// let Bulk { bulk_id, left, refused, .. } = engine.plan_bulk(&order).await?;
/// println!("{left} would be tried again, {refused} would not");
/// let mut tx = engine.begin().await?;
/// engine.apply_bulk(&mut tx, bulk_id, left.unsigned_abs(), PER_SECOND, "ann").await?;
/// tx.commit().await?; // from now on workers apply it
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Order {
    /// The verb.
    pub verb: Verb,
    /// The person.
    pub by: String,
    /// The reason. It is stored in the journal of each instance; no personal data.
    pub reason: String,
    /// The open instances that pass this filter. More than its `limit` (0: [`MOST_ITEMS`]) are refused; `before` is ignored.
    pub filter: Filter,
}

words! {
    /// The progress of a bulk.
    pub enum Status {
        /// Nothing is done until somebody starts it.
        Planned = "planned",
        /// Workers go on with it.
        Running = "running",
        /// A person stopped it; it can be resumed.
        Stopped = "stopped",
        /// Nothing is left.
        Done = "done",
    }
}

words! {
    /// The result of an item.
    pub enum ItemResult {
        /// The verb was followed.
        Applied = "applied",
        /// The verb was refused, in the plan or when it was applied.
        Refused = "refused",
        /// The instance had changed since the plan, and was left alone.
        MovedOn = "moved_on",
        /// The database refused it five times.
        Failed = "failed",
    }
}

/// A bulk as it stands.
#[derive(Debug, Clone, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bulk {
    /// Its id.
    #[serde(rename = "id")]
    pub bulk_id: Uuid,
    /// The verb.
    #[sqlx(json)]
    pub verb: Stored<Verb>,
    /// The person who planned it.
    pub planned_by: String,
    /// The reason that the person gave.
    pub reason: String,
    /// The filter.
    pub filter: Value,
    /// Its progress.
    pub status: Status,
    /// The number of its instances.
    pub items: i32,
    /// How many had the verb applied.
    pub applied: i32,
    /// How many were refused, in the plan or when the verb was applied.
    pub refused: i32,
    /// How many had changed since the plan, and were left alone.
    pub moved_on: i32,
    /// How many the database refused.
    pub failed: i32,
    /// How many are still to be done: the number that [`Engine::apply_bulk`] wants repeated.
    pub left: i32,
    /// Items per second at most.
    pub per_second: Option<i32>,
    /// When it was planned; real time, as the others.
    pub created_at: DateTime<Utc>,
    /// The person who started it.
    pub applied_by: Option<String>,
    /// When it was started.
    pub started_at: Option<DateTime<Utc>>,
    /// The person who stopped it last.
    pub stopped_by: Option<String>,
    /// When nothing was left.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One instance of a bulk, and what is done to it.
#[derive(Debug, Clone, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The instance.
    pub saga_id: Uuid,
    /// Its saga.
    pub name: String,
    /// Its seq when it was looked at.
    pub seq: i32,
    /// The effect of the verb, by the plan. `None` if the plan refused it.
    #[sqlx(json(nullable))]
    pub outlook: Option<Stored<Outlook>>,
    /// Why it was not done.
    #[sqlx(json(nullable))]
    pub refusal: Option<Stored<Refusal>>,
    /// Its result; none while it is still to be done.
    pub result: Option<ItemResult>,
    /// The error of the database at the last try.
    pub error: Option<String>,
    /// When it had its result; real time.
    pub done_at: Option<DateTime<Utc>>,
}

/// Why a bulk is not planned, started, stopped or resumed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The person and the reason are required.
    #[error("say who you are, and why")]
    NoReason,
    /// The verb, the reason or the name cannot be stored, or is too long.
    #[error("{0}")]
    DoesNotFit(Refusal),
    /// The name of the person is too long.
    #[error(transparent)]
    OverLimit(#[from] Limit),
    /// The filter, or the name of the person, holds NUL.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// Too many instances pass the filter.
    #[error("more than {0} sagas: narrow it down")]
    TooMany(i64),
    /// There is no such bulk.
    #[error("there is no bulk {0}")]
    NotFound(Uuid),
    /// The number of instances is not the one that the caller named.
    #[error("{left} sagas would be touched, not {expected}: look at the plan again")]
    WrongCount {
        /// The number that the caller gave.
        expected: u32,
        /// The number that it is.
        left: i32,
    },
    /// A bulk in this status does not allow it.
    #[error("it is {0}")]
    WrongStatus(Status),
    /// A newer build planned it, and this one cannot read its verb; a newer build can start and resume it.
    #[error("this build does not know its verb, {0}: use a newer one")]
    UnknownVerb(Value),
    /// With a rate of 0 it would never end.
    #[error("at least 1 per second")]
    NoRate,
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

impl Bulk {
    fn knows_its_verb(&self) -> Result<(), BulkError> {
        match &self.verb {
            Stored::Known(_) => Ok(()),
            Stored::Unknown(json) => Err(BulkError::UnknownVerb(json.clone())),
        }
    }
}

impl From<Refused> for BulkError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => limit.into(),
            Refused::Unstorable(unstorable) => unstorable.into(),
        }
    }
}

impl Engine {
    /// Starts a plan with the caller's commit: `expect` is its [`Bulk::left`], `per_second` how many items are done per second at most.
    ///
    /// Round trips: 3.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn apply_bulk(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        expect: u32,
        per_second: u16,
        by: &str,
    ) -> Result<Bulk, BulkError> {
        limits::check_person(by, "")?;
        let bulk = locked(tx, id, Status::Planned).await?;
        bulk.knows_its_verb()?;
        if i64::from(bulk.left) != i64::from(expect) {
            return Err(BulkError::WrongCount { expected: expect, left: bulk.left });
        }
        if by.trim().is_empty() {
            return Err(BulkError::NoReason);
        }
        if per_second == 0 {
            return Err(BulkError::NoRate);
        }
        sqlx::query(
            "-- name: apply bulk
            with applied as (
                update saga.bulk set applied_by = $3, per_second = $4, started_at = clock_timestamp(), next_at = clock_timestamp(),
                    status = case when $5 then 'done' else 'running' end, ended_at = case when $5 then clock_timestamp() end
                where shard = $1 and bulk_id = $2
                returning 1
            )
            select pg_notify($6, $7) from applied",
        )
        .bind(shard_in(id))
        .bind(id)
        .bind(by)
        .bind(i32::from(per_second))
        .bind(bulk.left == 0)
        .bind(WAKE_CHANNEL)
        .bind(UPKEEP)
        .execute(&mut *tx)
        .await?;
        find(tx, id).await?.ok_or(BulkError::NotFound(id))
    }

    /// Stops a running bulk: from the caller's commit on, none of its items is done. Waits for the items that are being done. Round trips: 3.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn stop_bulk(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        by: &str,
    ) -> Result<Bulk, BulkError> {
        limits::check_person(by, "")?;
        locked(tx, id, Status::Running).await?;
        if by.trim().is_empty() {
            return Err(BulkError::NoReason);
        }
        sqlx::query(
            "-- name: stop bulk
            update saga.bulk set status = 'stopped', stopped_by = $3 where shard = $1 and bulk_id = $2",
        )
        .bind(shard_in(id))
        .bind(id)
        .bind(by)
        .execute(&mut *tx)
        .await?;
        find(tx, id).await?.ok_or(BulkError::NotFound(id))
    }

    /// Resumes a stopped bulk with the caller's commit, at another rate if one is given. Round trips: 3.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn resume_bulk(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        per_second: Option<u16>,
    ) -> Result<Bulk, BulkError> {
        locked(tx, id, Status::Stopped).await?.knows_its_verb()?;
        if per_second == Some(0) {
            return Err(BulkError::NoRate);
        }
        sqlx::query(
            "-- name: resume bulk
            with resumed as (
                update saga.bulk set status = 'running', per_second = coalesce($3, per_second),
                    next_at = greatest(next_at, clock_timestamp())
                where shard = $1 and bulk_id = $2
                returning 1
            )
            select pg_notify($4, $5) from resumed",
        )
        .bind(shard_in(id))
        .bind(id)
        .bind(per_second.map(i32::from))
        .bind(WAKE_CHANNEL)
        .bind(UPKEEP)
        .execute(&mut *tx)
        .await?;
        find(tx, id).await?.ok_or(BulkError::NotFound(id))
    }
}

async fn locked(tx: &mut PgConnection, id: Uuid, is: Status) -> Result<Bulk, BulkError> {
    sqlx::query("-- name: lock bulk\nselect from saga.bulk where shard = $1 and bulk_id = $2 for no key update")
        .bind(shard_in(id))
        .bind(id)
        .execute(&mut *tx)
        .await?;
    let bulk = find(tx, id).await?.ok_or(BulkError::NotFound(id))?;
    if bulk.status == is { Ok(bulk) } else { Err(BulkError::WrongStatus(bulk.status)) }
}

/// Columns as JSON of the engine's own types.
fn json_of<T: Serialize>(value: Option<T>) -> Option<Json<T>> {
    value.map(Json)
}
