//! The work of a worker for the children of an instance that it drives.

use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    instance::family::CallOff,
    record::row::{Row, row_columns},
    saga::{
        CalledOff, Joined,
        steps::{Cause, StepError},
    },
    store::{
        commit::{self, Mode},
        new_instance,
    },
    worker::state::Worker,
};

/// How the children of a step have ended; `None` while one is open. Round trips: 1.
///
/// # Errors
/// The database's.
pub(crate) async fn ends(
    pool: &PgPool,
    shard: i16,
    parent: Uuid,
    step_no: i32,
) -> Result<Option<Joined>, sqlx::Error> {
    let (open, completed, unwound, abandoned): (i64, i64, i64, i64) = sqlx::query_as(
        "-- name: children's ends
        select count(*) filter (where ended_at is null),
            count(*) filter (where ended_at is not null and (status = 'completed' or waiting_on = 'parent')),
            count(*) filter (where status = 'unwound'), count(*) filter (where status = 'abandoned')
        from saga.instance where shard = $1 and parent_id = $2 and parent_step = $3",
    )
    .bind(shard)
    .bind(parent)
    .bind(step_no)
    .fetch_one(pool)
    .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok((open == 0).then(|| Joined {
        completed: count(completed),
        unwound: count(unwound),
        abandoned: count(abandoned),
    }))
}

/// Two open children of one saga, subject and key are a bug in the parent, not a failure that passes.
pub(crate) fn twice(error: StepError) -> StepError {
    match error {
        StepError::Database(error) if new_instance::is_already_open(&error) => {
            StepError::Broken("one of the instances that it starts is open already".to_owned())
        }
        other => other,
    }
}

/// How many children one transaction calls off.
const BATCH: i64 = 500;

/// Calls off the children of a step that are not unwinding yet; those that do so already are left alone, so it may be repeated. A child that cannot
/// be called off does not keep the others from being called off.
///
/// Round trips: 4 per 500 children. Row operations: 2 per child.
///
/// # Errors
/// The database's; a [`Cause`] when children cannot be called off by this process. All others are called off by then.
pub(crate) async fn call_off_children(
    worker: &Worker,
    shard: i16,
    parent: Uuid,
    step_no: i32,
) -> Result<Result<(), Cause>, sqlx::Error> {
    let mut refused = Vec::new();
    let mut after = Uuid::nil();
    loop {
        let mut tx = worker.pool.begin().await?;
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "-- name: lock children\nselect ",
            row_columns!(),
            " from saga.instance i where i.shard = $1 and i.parent_id = $2 and i.parent_step = $3
                and i.status in ('running', 'paused', 'stuck') and i.reason is null and i.saga_id > $5
            order by i.saga_id limit $4 for no key update"
        ))
        .bind(shard)
        .bind(parent)
        .bind(step_no)
        .bind(BATCH)
        .bind(after)
        .fetch_all(&mut *tx)
        .await?;
        let last = (rows.len() as i64) < BATCH;
        after = rows.last().map_or(after, |row| row.saga_id);
        let mut commits = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.saga_id;
            match worker.engine.call_off(row, CalledOff::ByParent) {
                Ok((CallOff::Begun | CallOff::Ended, commit)) => commits.extend(commit),
                Ok((CallOff::PastPivot, _)) => {
                    refused.push(format!("child {id} is past its pivot"))
                }
                Err(why) => refused.push(format!("child {id}: {why}")),
            }
        }
        if !commits.is_empty() {
            commit::write(&mut tx, &commits, Mode::Waiting).await?;
        }
        tx.commit().await?;
        if last {
            worker.hint.notify_one();
            return Ok(match &refused[..] {
                [] => Ok(()),
                [why] => Err(Cause::new(why)),
                [why, others @ ..] => {
                    Err(Cause::new(format_args!("{why} (and {} others)", others.len())))
                }
            });
        }
    }
}
