//! Ticks that are due: each starts its instance, or records why not.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize as _;
use serde_json::Value;
use sqlx::{Connection as _, FromRow, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{CatchUp, Ticks};
use crate::{
    base::id::shard_of,
    database::Failure,
    saga::start::Start,
    store::new_instance::{insert, is_already_open},
    worker::state::Worker,
};

/// A schedule whose tick is due.
#[derive(FromRow)]
struct Due {
    shard: i16,
    name: String,
    saga: String,
    cron: String,
    zone: String,
    start: Value,
    catch_up: String,
    catch_up_limit: Option<i32>,
    overlap: String,
    next_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// Decides the ticks that are due of one schedule after the other, each in a transaction of its own.
///
/// Round trips: 4 a schedule, 1 to 4 more a tick. Row operations: 1 a schedule, 2 an instance.
pub(crate) async fn fire(
    worker: &Worker,
    connection: &mut PgConnection,
    names: &[&str],
) -> Result<(), sqlx::Error> {
    let mut seen = Vec::new();
    loop {
        let mut tx = connection.begin().await?;
        let due: Option<Due> = sqlx::query_as(
            "-- name: lock due schedule
            select shard, name, saga, cron, zone, start, catch_up, catch_up_limit, overlap, next_at, saga.now() as now
            from saga.schedule
            where next_at <= (select saga.now()) and saga = any($1) and name <> all($2)
            order by next_at limit 1 for no key update skip locked",
        )
        .bind(names)
        .bind(&seen)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(due) = due else { return tx.rollback().await };
        seen.push(due.name.clone());
        let refusal = match decide(worker, tx, &due).await {
            Ok(decided) => decided.err(),
            // The failure concerns this schedule only, so the pass continues.
            Err(error @ sqlx::Error::Database(_)) if !Failure::of(&error).is_worth_retrying() => {
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        match refusal {
            Some(why) => say_why(connection, &due, &why).await?,
            None => worker.hint.notify_one(),
        }
    }
}

/// Starts the due ticks of a schedule and decides its next tick, or does nothing and returns why.
async fn decide(
    worker: &Worker,
    mut tx: Transaction<'_, Postgres>,
    due: &Due,
) -> Result<Result<(), String>, sqlx::Error> {
    let Decided { next, last, left_out } = match start_all(worker, &mut tx, due).await? {
        Ok(decided) => decided,
        Err(why) => return tx.rollback().await.map(|()| Err(why)),
    };
    sqlx::query(
        "-- name: decide ticks
        update saga.schedule set next_at = coalesce($3, '9999-12-31'), last_at = coalesce($4, last_at),
            last_saga_id = coalesce($5, last_saga_id), last_error = null, left_out_at = coalesce($6, left_out_at),
            left_out_why = coalesce($7, left_out_why)
        where shard = $1 and name = $2",
    )
    .bind(due.shard)
    .bind(&due.name)
    .bind(next)
    .bind(last.map(|last| last.0))
    .bind(last.map(|last| last.1))
    .bind(left_out.as_ref().map(|left_out| left_out.0))
    .bind(left_out.as_ref().map(|left_out| left_out.1))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    if let Some((tick, why)) = left_out {
        tracing::info!(schedule = due.name, %tick, why, "a tick is left out");
    }
    Ok(Ok(()))
}

/// Records why the tick is not started, unless another worker has decided it meanwhile.
async fn say_why(connection: &mut PgConnection, due: &Due, why: &str) -> Result<(), sqlx::Error> {
    let said = sqlx::query(
        "-- name: say why a tick is not started
        update saga.schedule set last_error = $4
        where shard = $1 and name = $2 and next_at = $3 and last_error is distinct from $4",
    )
    .bind(due.shard)
    .bind(&due.name)
    .bind(due.next_at)
    .bind(why)
    .execute(connection)
    .await?;
    if said.rows_affected() == 1 {
        tracing::error!(schedule = due.name, why, "a tick cannot be started");
    }
    Ok(())
}

/// The decision about the ticks that are due.
struct Decided {
    /// The tick after them.
    next: Option<DateTime<Utc>>,
    /// The newest that started an instance.
    last: Option<(DateTime<Utc>, Uuid)>,
    /// The newest that did not, and why.
    left_out: Option<(DateTime<Utc>, &'static str)>,
}

async fn start_all(
    worker: &Worker,
    tx: &mut PgConnection,
    due: &Due,
) -> Result<Result<Decided, String>, sqlx::Error> {
    let ticks = match Ticks::of(&due.cron, &due.zone) {
        Ok(ticks) => ticks,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let catch_up = match due.catch_up.as_str() {
        "all" => CatchUp::All(
            due.catch_up_limit.and_then(|limit| u16::try_from(limit).ok()).unwrap_or(u16::MAX),
        ),
        "one" => CatchUp::One,
        _ => CatchUp::Skip,
    };
    let Some(kind) = worker.engine.kind(&due.saga) else {
        return Ok(Err(format!("{} is not registered here", due.saga)));
    };
    let start = match Start::<Value>::deserialize(&due.start) {
        Ok(start) => start,
        Err(error) => return Ok(Err(format!("its start cannot be read: {error}"))),
    };
    let (ticking, missed) = ticks.due(due.next_at, due.now, catch_up);
    let mut last = None;
    let mut left_out = missed.map(|tick| (tick, "it was missed: no worker was there to start it"));
    for tick in ticking {
        if due.overlap == "skip" && overlaps(tx, due, &start.subject).await? {
            left_out = Some((tick, "an earlier instance of this schedule is open"));
            continue;
        }
        let key = format!("{}@{}", due.name, tick.to_rfc3339_opts(SecondsFormat::Secs, true));
        let new = match kind.new_instance(start.clone().key(key)) {
            Ok(new) => new,
            Err(why) => return Ok(Err(why)),
        };
        // An instance of that very key that is open is this tick's: the clock was set back.
        let mut save = tx.begin().await?;
        match insert(&mut save, std::slice::from_ref(&new), false).await {
            Ok(()) => {
                save.commit().await?;
                last = Some((tick, new.commit.id));
            }
            Err(error) if is_already_open(&error) => {
                save.rollback().await?;
                left_out = Some((tick, "its instance is open already: it had ticked before"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(Decided { next: ticks.after(due.now), last, left_out }))
}

/// Is an instance open that this schedule started?
async fn overlaps(tx: &mut PgConnection, due: &Due, subject: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- name: overlaps
        select exists (select from saga.instance i
            where i.shard = $1 and i.subject = $2 and i.name = $3 and i.ended_at is null
                -- A tick's time has 20 characters. What stands before it is the schedule's whole name, which may hold an @ itself.
                and left(i.start_key, -20) = $4 || '@')",
    )
    .bind(shard_of(subject))
    .bind(subject)
    .bind(&due.saga)
    .bind(&due.name)
    .fetch_one(tx)
    .await
}
