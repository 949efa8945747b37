//! Deadlines: an instance that has one ([`crate::Start::within`]) and has not ended by then is called off.
//!
//! Before its pivot it unwinds ([`crate::CalledOff::Deadline`]), whatever it waits for just then: a turn, a signal, a timer, its next
//! attempt, its children. An attempt in flight is settled first. Past its pivot nothing unwinds: its journal says that the deadline passed,
//! and operators are told. Deadlines go by the business clock, are found within [`crate::WorkerConfig::poll`] of a living worker, and each
//! is acted on once: under the instance's row lock, so that an instance that ends in that moment has either ended or not.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    commit::{self, Mode},
    family::CallOff,
    row::{Row, row_columns},
    saga::CalledOff,
    worker::Shift,
};

/// So many are called off by one transaction.
const BATCH: usize = 256;

const OVERDUE: &str = concat!(
    "-- name: lock overdue
with known as (select * from unnest($1::text[], $2::smallint[]) as k(name, version))
select ",
    row_columns!(),
    " from saga.instance i
where i.deadline_at <= (select saga.now()) and i.deadline_at is not null and i.ended_at is null and not i.overdue
    and exists (select from known k where k.name = i.name and k.version >= i.version)
order by i.deadline_at
limit 256
for no key update of i skip locked"
);

/// Acts on the deadlines that have passed; whose row somebody holds is left to the next round.
///
/// Round trips: 5 per 256 instances. Row operations: 3 an instance (its commit, journal, the mark).
pub(crate) async fn enforce(
    shift: &Shift,
    connection: &mut PgConnection,
    names: &[&str],
    versions: &[i16],
) -> Result<(), sqlx::Error> {
    loop {
        let mut tx = connection.begin().await?;
        let rows: Vec<Row> =
            sqlx::query_as(OVERDUE).bind(names).bind(versions).fetch_all(&mut *tx).await?;
        let full = rows.len() == BATCH;
        let mut commits = Vec::with_capacity(rows.len());
        let mut told = Vec::new();
        let (shards, ids): (Vec<i16>, Vec<Uuid>) =
            rows.iter().map(|row| (row.shard, row.saga_id)).unzip();
        for row in rows {
            let id = row.saga_id;
            let why = CalledOff::<Infallible>::Deadline;
            match catch_unwind(AssertUnwindSafe(|| shift.engine.call_off(row, why))) {
                Ok(Ok((called_off, commit))) => {
                    commits.extend(commit);
                    if called_off == CallOff::PastPivot {
                        told.push((id, "its deadline passed after its pivot".to_owned()));
                    }
                }
                Ok(Err(error)) => told.push((id, format!("its deadline passed, and {error}"))),
                Err(_) => told.push((id, "its deadline passed, and the saga panicked".to_owned())),
            }
        }
        if !commits.is_empty() {
            commit::write(&mut tx, &commits, Mode::Waiting).await?;
        }
        sqlx::query(
            "-- name: mark overdue
            update saga.instance i set overdue = true
            from unnest($1::smallint[], $2::uuid[]) as o(shard, saga_id)
            where i.shard = o.shard and i.saga_id = o.saga_id",
        )
        .bind(shards)
        .bind(ids)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        told.iter().for_each(|(id, what)| tell_operators(*id, what));
        for commit in &commits {
            shift.committed(commit.id, commit.status, &commit.wake);
            if commit.status.is_final() {
                shift.left_queue();
            }
        }
        if !full {
            return Ok(());
        }
    }
}

/// Nothing can be done about it by the engine.
fn tell_operators(id: Uuid, what: &str) {
    tracing::warn!(saga_id = %id, what, "an operator should look at an instance");
}
