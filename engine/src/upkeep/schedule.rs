//! Durable schedules: instances started by the clock.
//!
//! A tick is a business time ([`saga.now()`](crate::testing::Clock)) that the cron expression names in its zone. Each tick starts one
//! instance, once, however many processes there are: the schedule's row is locked, and the instance and the next tick are written by
//! one commit. The instance's start key is `<schedule>@<tick in UTC>`, which takes the place of a key of its own; its first tx steps run
//! when a worker claims it. No process is the leader; a tick is found within [`crate::WorkerConfig::poll`].
//!
//! A tick that is decided at most 30 seconds late is on time. Older ones were missed, because no worker was alive, and [`CatchUp`] says what
//! becomes of them. A paused schedule has no ticks, so none is missed meanwhile. [`Overlap::Skip`] leaves out a tick while an
//! instance that this schedule started is open.
//!
//! On a day on which the clocks go forward, a fixed time that does not exist (02:30) ticks at the first moment that does (03:00), and a schedule
//! that ticks in an interval leaves out the times that do not exist. On a day on which they go back, a fixed time ticks once, at its first
//! occurrence, and a schedule that ticks in an interval goes on through both.
//!
//! A tick whose instance cannot be started (its input does not fit the saga any more, the database refuses it) stays due, with the
//! error shown in [`Engine::schedules`], until a process can start it. It keeps no other schedule waiting. A tick that is left out (it was missed, or an
//! earlier instance is open) is shown in [`Engine::schedules`] too, with the reason: the newest one.

mod fire;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    base::{
        id::shard_of,
        json::{JsonText, json},
        limits,
    },
    record::row::readable_time,
    saga::{Saga, start::Start},
    worker::engine::Engine,
};

pub(crate) use fire::fire;

/// How late a tick may be decided and still be on time.
const ON_TIME: Duration = Duration::seconds(30);

/// An instance per tick.
///
/// ```
/// # use stepwise_engine::*;
/// use serde_json::json;
///
/// # async fn f(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let nightly = Schedule {
///     name: "nightly".to_owned(),
///     saga: "report".to_owned(),
///     cron: "30 2 * * *".to_owned(),
///     zone: "Europe/Berlin".to_owned(),
///     start: Start::new("shop", json!({ "days": 1 })),
///     catch_up: CatchUp::One, // after a night without workers, one report is enough
///     overlap: Overlap::Skip,
/// };
/// let mut tx = engine.begin().await?;
/// engine.put_schedule(&mut tx, &nightly).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its own name; unique.
    pub name: String,
    /// The name of the saga that a tick starts.
    pub saga: String,
    /// Five fields, or six with seconds first.
    pub cron: String,
    /// An IANA name, for example `Europe/Berlin`.
    pub zone: String,
    /// The input of each instance, as JSON.
    pub start: Start<Value>,
    /// The fate of ticks that were missed.
    pub catch_up: CatchUp,
    /// The fate of a tick while an earlier instance is open.
    pub overlap: Overlap,
}

/// The fate of ticks that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// They are left out.
    Skip,
    /// The newest of them is made up for.
    One,
    /// The newest of them, at most this many, are made up for, oldest first.
    All(u16),
}

/// The fate of a tick while an earlier instance of the schedule is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It starts another.
    Allow,
    /// It is left out.
    Skip,
}

/// Why a schedule cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression does not read.
    #[error("{cron:?} is no cron expression: {why}")]
    Cron {
        /// The expression that was given.
        cron: String,
        /// The mistake in it.
        why: String,
    },
    /// There is no such day (30 February).
    #[error("{0:?} never comes")]
    Never(String),
    /// No such time zone.
    #[error("{0:?} is no time zone")]
    Zone(String),
    /// The saga is not registered with this engine.
    #[error("{0} is not registered with this engine")]
    Unknown(String),
    /// The input is none of the saga's, or its first transition is not allowed.
    #[error("the input does not fit: {0}")]
    Input(String),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// A schedule as it stands.
#[derive(Debug, Clone, FromRow)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The saga that a tick starts.
    pub saga: String,
    /// Its cron expression.
    pub cron: String,
    /// Its time zone.
    pub zone: String,
    /// The business time of its next tick; none while it is paused.
    pub next_at: Option<DateTime<Utc>>,
    /// The newest tick that started an instance.
    pub last_at: Option<DateTime<Utc>>,
    /// That instance.
    pub last_saga_id: Option<Uuid>,
    /// Why the tick that is due cannot be started.
    pub last_error: Option<String>,
    /// The newest tick that was left out.
    pub left_out_at: Option<DateTime<Utc>>,
    /// Why it was left out.
    pub left_out_why: Option<String>,
}

impl Schedule {
    /// A schedule of a saga that skips what was missed and lets instances overlap.
    ///
    /// # Errors
    /// When the input cannot be written as JSON, or would be read as something else.
    pub fn of<S: Saga>(
        name: impl Into<String>,
        cron: impl Into<String>,
        zone: impl Into<String>,
        start: Start<S::Input>,
    ) -> Result<Self, serde_json::Error> {
        // JSON has no number that is infinite or none at all.
        json(&start.input).text().map_err(<serde_json::Error as serde::ser::Error>::custom)?;
        Ok(Self {
            name: name.into(),
            saga: S::NAME.to_owned(),
            cron: cron.into(),
            zone: zone.into(),
            start: start.try_map(serde_json::to_value)?,
            catch_up: CatchUp::Skip,
            overlap: Overlap::Allow,
        })
    }
}

/// A cron expression in its zone.
struct Ticks {
    cron: Cron,
    zone: Tz,
}

impl Ticks {
    fn of(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone: Tz = zone.parse().map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        let cron = cron.parse::<Cron>().map_err(|error| ScheduleError::Cron {
            cron: cron.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self { cron, zone })
    }

    /// The first one after that time; none if it never comes.
    fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&time.with_timezone(&self.zone), false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    fn before(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last =
            self.cron.find_previous_occurrence(&time.with_timezone(&self.zone), true).ok()?;
        Some(last.with_timezone(&Utc))
    }

    /// The ticks from `next` to `now` that are to be started, oldest first; and the newest that was missed and is not made up for.
    fn due(
        &self,
        next: DateTime<Utc>,
        now: DateTime<Utc>,
        catch_up: CatchUp,
    ) -> (Vec<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let made_up_for = match catch_up {
            CatchUp::Skip => 0,
            CatchUp::One => 1,
            CatchUp::All(limit) => usize::from(limit),
        };
        let (mut ticks, mut missed, mut at, mut left_out) = (Vec::new(), 0, now, None);
        while let Some(tick) = self.before(at).filter(|tick| *tick >= next) {
            missed += usize::from(now - tick > ON_TIME);
            if missed > made_up_for {
                left_out = Some(tick);
                break;
            }
            ticks.push(tick);
            at = tick - Duration::milliseconds(1);
        }
        ticks.reverse();
        (ticks, left_out)
    }
}

impl Engine {
    /// Creates a schedule, or replaces the one of its name, with the caller's commit. The same schedule again changes nothing. A new
    /// cron expression or zone counts from now on; a paused schedule stays paused.
    ///
    /// Round trips: 2.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub async fn put_schedule(
        &self,
        tx: &mut PgConnection,
        schedule: &Schedule,
    ) -> Result<(), ScheduleError> {
        let ticks = Ticks::of(&schedule.cron, &schedule.zone)?;
        let kind = self
            .kind(&schedule.saga)
            .ok_or_else(|| ScheduleError::Unknown(schedule.saga.clone()))?;
        limits::check_name("schedule's name", &schedule.name)
            .map_err(|refused| ScheduleError::Input(refused.to_string()))?;
        kind.new_instance(schedule.start.clone()).map_err(ScheduleError::Input)?;
        let now: DateTime<Utc> = sqlx::query_scalar("-- name: business time\nselect saga.now()")
            .fetch_one(&mut *tx)
            .await?;
        let next = ticks.after(now).ok_or_else(|| ScheduleError::Never(schedule.cron.clone()))?;
        let (catch_up, limit) = match schedule.catch_up {
            CatchUp::Skip => ("skip", None),
            CatchUp::One => ("one", None),
            CatchUp::All(limit) => ("all", Some(i32::from(limit))),
        };
        sqlx::query(
            "-- name: put schedule
            insert into saga.schedule as s (shard, name, saga, cron, zone, start, catch_up, catch_up_limit, overlap, next_at,
                created_at)
            values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11)
            on conflict (shard, name) do update set
                saga = excluded.saga, cron = excluded.cron, zone = excluded.zone, start = excluded.start,
                catch_up = excluded.catch_up, catch_up_limit = excluded.catch_up_limit, overlap = excluded.overlap,
                last_error = null,
                next_at = case when s.paused then null when (s.cron, s.zone) = (excluded.cron, excluded.zone) then s.next_at
                    else excluded.next_at end",
        )
        .bind(shard_of(&schedule.name))
        .bind(&schedule.name)
        .bind(&schedule.saga)
        .bind(&schedule.cron)
        .bind(&schedule.zone)
        .bind(JsonText(&json(&schedule.start)))
        .bind(catch_up)
        .bind(limit)
        .bind(if schedule.overlap == Overlap::Skip { "skip" } else { "allow" })
        .bind(next)
        .bind(now)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Pauses a schedule with the caller's commit; false if there is none or it is paused. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn pause_schedule(
        &self,
        tx: &mut PgConnection,
        name: &str,
    ) -> Result<bool, sqlx::Error> {
        let paused = sqlx::query(
            "-- name: pause schedule
            update saga.schedule set paused = true, next_at = null where shard = $1 and name = $2 and not paused",
        )
        .bind(shard_of(name))
        .bind(name)
        .execute(tx)
        .await?;
        Ok(paused.rows_affected() == 1)
    }

    /// Resumes a schedule from now on, with the caller's commit; false if there is none or it is not paused. Round trips: 3.
    ///
    /// # Errors
    /// [`ScheduleError`], when its expression or zone cannot be read by this process.
    pub async fn resume_schedule(
        &self,
        tx: &mut PgConnection,
        name: &str,
    ) -> Result<bool, ScheduleError> {
        let paused: Option<(String, String, DateTime<Utc>)> = sqlx::query_as(
            "-- name: lock paused schedule
            select cron, zone, saga.now() from saga.schedule where shard = $1 and name = $2 and paused for update",
        )
        .bind(shard_of(name))
        .bind(name)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((cron, zone, now)) = paused else { return Ok(false) };
        let next = Ticks::of(&cron, &zone)?.after(now).ok_or(ScheduleError::Never(cron))?;
        sqlx::query(
            "-- name: resume schedule
            update saga.schedule set paused = false, next_at = $3 where shard = $1 and name = $2",
        )
        .bind(shard_of(name))
        .bind(name)
        .bind(next)
        .execute(tx)
        .await?;
        Ok(true)
    }

    /// Removes a schedule with the caller's commit; false if there is none. Its instances go on. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_schedule(
        &self,
        tx: &mut PgConnection,
        name: &str,
    ) -> Result<bool, sqlx::Error> {
        let removed = sqlx::query(
            "-- name: remove schedule\ndelete from saga.schedule where shard = $1 and name = $2",
        )
        .bind(shard_of(name))
        .bind(name)
        .execute(tx)
        .await?;
        Ok(removed.rows_affected() == 1)
    }

    /// All schedules by name. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn schedules(&self) -> Result<Vec<Listed>, sqlx::Error> {
        sqlx::query_as(concat!(
            "-- name: list schedules
                select name, saga, cron, zone, ",
            readable_time!("next_at"),
            " as next_at, ",
            readable_time!("last_at"),
            " as last_at, last_saga_id, last_error, ",
            readable_time!("left_out_at"),
            " as left_out_at, left_out_why
                from saga.schedule order by name"
        ))
        .fetch_all(self.pool())
        .await
    }
}

#[cfg(test)]
mod tests;
