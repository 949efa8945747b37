//! Deadlines: an instance that has one ([`crate::Start::within`]) and has not ended by then is called off.
//!
//! Before its pivot it unwinds ([`crate::CalledOff::Deadline`]), whatever it waits for: admission from a queue, a signal, a timer, its next attempt,
//! its children. If an attempt is in flight, its outcome is found out first. After its pivot nothing unwinds: the journal records that the deadline
//! has passed, and operators are told. Deadlines use the business clock, and a living worker finds them within [`crate::WorkerConfig::poll`]. Each
//! takes effect once, under the lock of the instance's row. If a process cannot read the instance, it tells operators and postpones the deadline by a
//! minute, for a process that can.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    instance::family::CallOff,
    record::{
        kinds::Kinds,
        row::{Row, row_columns},
    },
    saga::CalledOff,
    store::commit::{self, Mode},
    worker::state::Worker,
};

/// How many instances one transaction calls off.
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

/// Instances, as two columns.
type Keys = (Vec<i16>, Vec<Uuid>);

/// Acts on the deadlines that have passed. Instances whose row is locked wait for the next pass.
///
/// Round trips: 5 per 256 instances, 1 more if some cannot be read. Row operations: 3 an instance (its commit, journal, the mark).
pub(crate) async fn enforce(
    worker: &Worker,
    connection: &mut PgConnection,
    known: &Kinds,
) -> Result<(), sqlx::Error> {
    loop {
        let mut tx = connection.begin().await?;
        let rows: Vec<Row> = sqlx::query_as(OVERDUE)
            .bind(&known.names)
            .bind(&known.versions)
            .fetch_all(&mut *tx)
            .await?;
        let full = rows.len() == BATCH;
        let mut commits = Vec::with_capacity(rows.len());
        let (mut acted_on, mut unread, mut told) = (Keys::default(), Keys::default(), Vec::new());
        let mut whys = Vec::new();
        for row in rows {
            let (key, why) = ((row.shard, row.saga_id), CalledOff::<Infallible>::Deadline);
            let called_off = catch_unwind(AssertUnwindSafe(|| worker.engine.call_off(row, why)))
                .map_err(|_| "the saga panicked".to_owned())
                .and_then(|called_off| called_off.map_err(|error| error.to_string()));
            match called_off {
                Ok((called_off, commit)) => {
                    acted_on.extend([key]);
                    commits.extend(commit);
                    if called_off == CallOff::PastPivot {
                        told.push((key.1, "its deadline passed after its pivot".to_owned()));
                    }
                }
                Err(why) => {
                    let why = format!("its deadline passed, and {why}");
                    unread.extend([key]);
                    whys.push(why.clone());
                    told.push((key.1, why));
                }
            }
        }
        if !commits.is_empty() {
            commit::write(&mut tx, &commits, Mode::Waiting).await?;
        }
        mark(&mut tx, acted_on).await?;
        if !whys.is_empty() {
            put_off(&mut tx, unread, &whys).await?;
        }
        tx.commit().await?;
        told.iter().for_each(|(id, what)| tell_operators(*id, what));
        for commit in &commits {
            worker.committed(commit.id, commit.status, &commit.wake);
            if commit.status.is_final() {
                worker.left_queue();
            }
        }
        if !full {
            return Ok(());
        }
    }
}

/// Removes the deadlines that have taken effect.
async fn mark(tx: &mut PgConnection, (shards, ids): Keys) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: mark overdue
        update saga.instance i set overdue = true
        from unnest($1::smallint[], $2::uuid[]) as o(shard, saga_id)
        where i.shard = o.shard and i.saga_id = o.saga_id",
    )
    .bind(shards)
    .bind(ids)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Postpones by a minute the deadlines of instances that this process cannot read, so that they delay no others. Operators are told once for each
/// position of such an instance.
async fn put_off(
    tx: &mut PgConnection,
    (shards, ids): Keys,
    whys: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: put off deadlines
        with put_off as (
            update saga.instance i set deadline_at = saga.now() + interval '1 minute'
            from unnest($1::smallint[], $2::uuid[], $3::text[]) as o(shard, saga_id, why)
            where i.shard = o.shard and i.saga_id = o.saga_id
            returning i.shard, i.saga_id, i.seq, i.name, o.why
        )
        insert into saga.notice (shard, saga_id, seq, kind, detail, at)
        select shard, saga_id, seq, 'deadline', jsonb_build_object('saga', name, 'why', why), clock_timestamp() from put_off
        on conflict do nothing
        returning pg_notify('saga_notice', '')",
    )
    .bind(shards)
    .bind(ids)
    .bind(whys)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Logs what the engine itself can do nothing about.
fn tell_operators(id: Uuid, what: &str) {
    tracing::warn!(saga_id = %id, what, "an operator should look at an instance");
}
