//! Claims due instances.
//!
//! The index entry of a claimed instance stays in the index of due instances until it is vacuumed, and an old snapshot delays that for as long as it
//! lives. Due instances of a paused saga stay there as well. So a claim begins where the last one ended, at its [`Frontier`]. Only after each
//! sweep does it begin at the start of the index: there it finds instances that became due behind the frontier (taken over from a dead worker,
//! written by a long transaction, locked when the claim passed them, or resumed).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, Row as _, postgres::PgRow};

use crate::{
    base::build,
    record::row::{Row, readable_time, row_columns},
    worker::{back_off, state::Worker},
};

/// How far the index has been claimed.
pub(crate) struct Frontier {
    /// The business time up to which each class was claimed.
    reached: [DateTime<Utc>; 3],
    /// Claims in a row that found nothing although an instance is due: another session has locked it.
    locked_out: u32,
}

impl Frontier {
    /// Nothing has been claimed yet.
    pub(crate) fn start() -> Self {
        Self { reached: [DateTime::UNIX_EPOCH; 3], locked_out: 0 }
    }

    /// Makes the next claim begin at the start of the index.
    pub(crate) fn restart(&mut self) {
        self.reached = Self::start().reached;
    }
}

// The limit is a literal: with a parameter the planner reads a tenth of the table. It is not more than 64, because a claim's time grows with the
// number of rows, and other sessions wait for its locks and its commit. It is not less, because with half of it the batchers commit smaller batches, and
// draining a backlog loses a fifth of the throughput. A transaction that makes an instance due may commit a little later than its time says, so
// a claim begins a second before its frontier.
macro_rules! due_of {
    ($class:literal, $limit:literal) => {
        concat!(
            "select i.ctid, i.wake_at, i.wake_at + ",
            $class,
            " * interval '60 seconds' as turn
    from saga.instance i
    where i.priority = ",
            $class,
            " and i.wake_at <= (select now from clock)
        and i.wake_at >= (select least(($4::timestamptz[])[",
            $class,
            " + 1], now - interval '1 second') from clock)
        and exists (select from known k where k.name = i.name and k.version >= i.version)
        and (i.unread_by is null or i.unread_by < $5)
    order by i.wake_at
    limit ",
            $limit,
            "
    for no key update skip locked"
        )
    };
}

// Each class is read from its own range of the index; [`crate::Priority::HEAD_START`] merges them. Rows are updated by `ctid`: a row that another
// transaction has changed since the statement began is not claimed, and stays due.
macro_rules! claim_due {
    ($limit:literal) => {
        ($limit, concat!(
            "-- name: claim due
with known as (select * from unnest($2::text[], $3::smallint[]) as k(name, version)),
clock as materialized (select now() + offset_by as now from saga.clock),
high as materialized (
    ", due_of!(0, $limit), "
),
normal as materialized (
    ", due_of!(1, $limit), "
),
low as materialized (
    ", due_of!(2, $limit), "
),
due as materialized (
    select * from high union all select * from normal union all select * from low
    order by turn
    limit ", $limit, "
)
update saga.instance i
set owner = $1, epoch = i.epoch + 1, wake_at = null, waiting_on = 'worker', updated_at = clock_timestamp()
from due d where i.ctid = d.ctid
returning ", row_columns!(), ", i.priority, ", readable_time!("d.wake_at"), " as since"))
    };
}

const DUE: [(usize, &str); 3] = [claim_due!(64), claim_due!(8), claim_due!(1)];

struct Due {
    row: Row,
    class: i16,
    since: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Due {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let [class, since] = [row.len() - 2, row.len() - 1];
        Ok(Self {
            row: Row::from_row(row)?,
            class: row.try_get(class)?,
            since: row.try_get(since)?,
        })
    }
}

/// Claims due instances, as many as there is room for, and returns how long to sleep: not at all after a full batch.
///
/// Round trips: 1, and 1 for the next wake-up when nothing is left. Row operations: 1 per instance.
///
/// # Errors
/// The database's.
pub(crate) async fn claim(
    worker: &Arc<Worker>,
    connection: &mut PgConnection,
    poll: Duration,
    frontier: &mut Frontier,
) -> Result<Duration, sqlx::Error> {
    let mut permits = worker.permits(DUE[0].0);
    let Some((limit, statement)) = DUE.iter().find(|(limit, _)| *limit <= permits.len()) else {
        // No room: a driver that finishes gives a hint.
        return Ok(Duration::from_millis(50));
    };
    permits.truncate(*limit);
    let driven = worker.driven();
    let asked = Instant::now();
    let claimed: Vec<Due> = sqlx::query_as(*statement)
        .bind(worker.lease.worker_id)
        .bind(&driven.names)
        .bind(&driven.versions)
        .bind(frontier.reached)
        .bind(build::made_at())
        .fetch_all(&mut *connection)
        .await?;
    metrics::histogram!("stepwise_claim_seconds").record(asked.elapsed().as_secs_f64());
    let (full, none) = (claimed.len() == *limit, claimed.is_empty());
    for (due, permit) in claimed.into_iter().zip(permits) {
        let reached = &mut frontier.reached[due.class.cast_unsigned() as usize];
        *reached = due.since.max(*reached);
        worker.claimed(due.row, permit);
    }
    if full {
        return Ok(Duration::ZERO);
    }
    let (now, next_ms): (DateTime<Utc>, Option<i64>) = sqlx::query_as(
        "-- name: next wake-up
        with known as (select * from unnest($1::text[], $2::smallint[]) as k(name, version)),
        clock as materialized (select now() + offset_by as now from saga.clock)
        select c.now, (
            select ceil(extract(epoch from min(n.wake_at) - c.now) * 1000)::bigint
            from generate_series(0, 2) as class(priority), lateral (
                select i.wake_at from saga.instance i
                -- No further than it rests anyway: others may have a million asleep.
                where i.priority = class.priority and i.wake_at >= (select now - interval '1 second' from clock)
                    and i.wake_at < (select now + $3 * interval '1 ms' from clock)
                    and exists (select from known k where k.name = i.name and k.version >= i.version)
                    and (i.unread_by is null or i.unread_by < $4)
                order by i.wake_at limit 1) n)
        from clock c",
    )
    .bind(&driven.names)
    .bind(&driven.versions)
    .bind(i64::try_from(poll.as_millis()).unwrap_or(i64::MAX))
    .bind(build::made_at())
    .fetch_one(&mut *connection)
    .await?;
    frontier.reached = [now; 3];
    let next = next_ms.map_or(poll, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    let locked_out = none && next.is_zero();
    frontier.locked_out = if locked_out { frontier.locked_out + 1 } else { 0 };
    let least = match frontier.locked_out {
        0 => Duration::from_millis(1),
        tries => back_off::back_off(tries - 1),
    };
    Ok(next.max(least).min(poll))
}
