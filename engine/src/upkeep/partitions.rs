//! The journal's partitions, one a day, made a week ahead by a task that delays nothing else.
//!
//! A row whose day has no partition is in the default partition, where it works as well. It is moved when the partition is made. A session that has
//! locked the journal, such as a backup, makes this task wait and nothing else.

use std::{sync::Arc, time::Duration};

use chrono::NaiveDate;
use sqlx::PgPool;

use crate::{
    database::{Failure, Waits, connect, trouble::Trouble, within},
    worker::state::Worker,
};

/// How often a worker looks whether a partition is missing.
const EVERY: Duration = Duration::from_secs(3_600);

/// Before the first new try.
const SOON: Duration = Duration::from_secs(1);

/// Before a further one, at most.
const LATER: Duration = Duration::from_secs(60);

/// How long the server may take to make one and to move its rows.
const ONE: Duration = Duration::from_secs(62);

/// The days among the next seven without a partition, and days with rows in the default partition.
const MISSING: &str = "-- name: days without a journal partition
with stray as (
    select distinct (at at time zone 'UTC')::date as day
    from (select at from only saga.journal_default limit 20001) sample
),
ahead as (
    select (clock_timestamp() at time zone 'UTC')::date + n as day from generate_series(0, 7) as n
)
select day from (select day from stray union select day from ahead) wanted
where to_regclass(format('saga.journal_%s', to_char(day, 'YYYYMMDD'))) is null
order by day";

/// Looks at once and then every hour until aborted. A partition that could not be made is tried again, less and less often.
pub(crate) async fn run(worker: Arc<Worker>) {
    let trouble = Trouble::new(
        "the journal's partitions cannot be made ahead at the moment; trying again until they are",
    );
    let full = Trouble::new("no partition can be attached; move the rows of these days by hand");
    let mut wait = SOON;
    loop {
        match make_missing(&worker.pool, &full).await {
            Ok(()) => {
                trouble.end();
                wait = SOON;
                tokio::time::sleep(EVERY).await;
            }
            Err(error) => {
                trouble.begin_with(&error);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LATER);
            }
        }
    }
}

/// Makes each in a transaction of its own, so that one that cannot be made now does not keep the others from being made.
async fn make_missing(pool: &PgPool, full: &Trouble) -> Result<(), sqlx::Error> {
    let mut connection =
        connect(pool.connect_options().as_ref().clone(), Waits::HOUSEKEEPING).await?;
    let looking = sqlx::query_scalar(MISSING).fetch_all(&mut connection);
    let missing: Vec<NaiveDate> = within(ONE, looking).await?;
    let (mut busy, mut is_full) = (None, false);
    for day in missing {
        let making = sqlx::query_scalar(
            "-- name: make journal partition\nselect saga.make_journal_partition($1)",
        )
        .bind(day)
        .fetch_one(&mut connection);
        match within::<String, sqlx::Error>(ONE, making).await {
            Ok(done) if done == "full" => {
                is_full = true;
                let why = format_args!(
                    "the journal's default partition holds more than 20,000 rows of {day}"
                );
                full.begin(&why);
            }
            // Made, there, or being made by another worker, which looks again as this one does.
            Ok(_) => {}
            Err(error @ sqlx::Error::Database(_)) if Failure::of(&error).is_worth_retrying() => {
                busy = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    if !is_full {
        full.end();
    }
    busy.map_or(Ok(()), Err)
}
