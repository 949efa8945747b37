//! Inserting new instances, with their first journal rows and the intent of their first call.

use sqlx::{PgConnection, error::BoxDynError, postgres::types::PgRecordEncoder};

use crate::{
    base::{build, json::JsonText, limits, status::WaitingOn},
    record::{commit::NewInstance, row::row_type},
    store::{
        commit, join,
        wake::{UPKEEP, WAKE_CHANNEL},
    },
};

/// Does the database refuse a second open instance?
pub(crate) fn is_already_open(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.constraint()) == Some("one_open_instance_per_subject")
}

/// The most instances that one statement inserts.
const BATCH: usize = 1_000;

/// Inserts instances, and those that their own first decisions start.
///
/// Round trips: 1 per 1,000 instances (and generation). Row operations: 2 each, 1 more for an effect.
///
/// # Errors
/// The database's; [`is_already_open`] tells one apart. All of them abort the transaction.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    new_instances: &[NewInstance],
    notify: bool,
) -> Result<(), sqlx::Error> {
    for batch in new_instances.chunks(BATCH) {
        write(tx, INSERT, batch, notify).await?;
        let families =
            batch.iter().filter_map(|parent| Some((parent, parent.commit.family.as_deref()?)));
        for (parent, family) in families {
            join::expect_children(tx, &[(parent.commit.shard, parent.commit.id)]).await?;
            Box::pin(insert(tx, &family.new_instances, false)).await?;
        }
    }
    Ok(())
}

/// Inserts instances whose first decisions start no others; false, and nothing is written, if one of the same subject is open already. The transaction
/// goes on in either case. Round trips: 1 per 1,000 instances, and 1 more if some were inserted and are taken back. Row operations: 2 each, 1 more for an effect.
///
/// # Errors
/// The database's; the transaction is aborted then.
pub(crate) async fn insert_unless_open(
    tx: &mut PgConnection,
    new_instances: &[NewInstance],
    notify: bool,
) -> Result<bool, sqlx::Error> {
    debug_assert!(
        new_instances.iter().all(|new| new.commit.family.is_none()),
        "a refused child would abort the transaction"
    );
    let mut written = 0;
    for batch in new_instances.chunks(BATCH) {
        written += write(tx, INSERT_UNLESS_OPEN, batch, notify).await?;
    }
    if written == new_instances.len() {
        return Ok(true);
    }
    if written > 0 {
        take_back(tx, new_instances).await?;
    }
    Ok(false)
}

/// Deletes what this transaction has inserted of them. 1 round trip.
async fn take_back(
    tx: &mut PgConnection,
    new_instances: &[NewInstance],
) -> Result<(), sqlx::Error> {
    let (shards, ids): (Vec<_>, Vec<_>) =
        new_instances.iter().map(|new| (new.commit.shard, new.commit.id)).unzip();
    sqlx::query(
        "-- name: take new instances back
        with new as (select * from unnest($1::smallint[], $2::uuid[]) as n(shard, saga_id)),
        journalled as (
            -- The partitions of the days before are not visited. Rows of this transaction are written with clock_timestamp(), later than now(), which is
            -- when it began; an hour is left for a clock that was set back since.
            delete from saga.journal j using new n
            where j.shard = n.shard and j.saga_id = n.saga_id and j.at >= now() - interval '1 hour'
        ),
        intended as (
            delete from saga.effect e using new n where e.shard = n.shard and e.saga_id = n.saga_id
        )
        delete from saga.instance i using new n where i.shard = n.shard and i.saga_id = n.saga_id",
    )
    .bind(shards)
    .bind(ids)
    .execute(tx)
    .await
    .map(|_| ())
}

/// A new instance as the statement takes it. Its row type in the database is called `saga.newborn`.
struct NewInstanceRow<'a>(&'a NewInstance);

row_type!(NewInstanceRow, "saga.newborn");

impl NewInstanceRow<'_> {
    fn write(&self, row: &mut PgRecordEncoder<'_>) -> Result<(), BoxDynError> {
        let NewInstance { name, commit, options, parent, owner } = self.0;
        row.encode(commit.shard)?
            .encode(commit.id)?
            .encode(*name)?
            .encode(commit.version)?
            .encode(options.subject.as_str())?
            .encode(options.start_key.as_str())?
            .encode(commit.status.as_str())?
            .encode(commit.waiting_on.map(WaitingOn::as_str))?
            .encode(JsonText(&commit.state))?
            .encode(JsonText(&commit.pending))?
            .encode(JsonText(&commit.undos))?
            .encode(commit.reason.as_ref().map(JsonText))?
            .encode(commit.progress.past_pivot)?
            .encode(commit.progress.kept)?
            .encode(commit.new_seq)?
            .encode(*owner)?;
        let (wake, delay_ms) = commit.wake.encode();
        row.encode(wake)?
            .encode(delay_ms)?
            .encode(parent.map(|parent| parent.id))?
            .encode(parent.map(|parent| parent.step_no))?
            .encode(parent.is_some_and(|parent| parent.binds))?
            .encode(options.priority.as_i16())?
            .encode(options.tags.as_deref())?
            .encode(options.deadline.map(limits::ms))?
            .encode(options.queue_key.as_deref())?;
        commit::write_intent(commit.intent.as_ref(), row)?;
        row.encode(options.because.as_deref())?;
        Ok(())
    }
}

/// Returns how many were inserted.
async fn write(
    tx: &mut PgConnection,
    statement: &'static str,
    new_instances: &[NewInstance],
    notify: bool,
) -> Result<usize, sqlx::Error> {
    let queued = new_instances.iter().any(|new| new.options.queue_key.is_some());
    let written: i64 = sqlx::query_scalar(statement)
        .bind(new_instances.iter().map(NewInstanceRow).collect::<Vec<_>>())
        .bind(commit::entries(new_instances.iter().map(|new| &new.commit), 0))
        .bind(notify.then_some(WAKE_CHANNEL))
        .bind(if queued { UPKEEP } else { "" })
        .bind(build::made_at())
        .fetch_one(tx)
        .await?;
    Ok(usize::try_from(written).unwrap_or_default())
}

macro_rules! insert_sql {
    ($name:literal, $conflict:literal) => {
        concat!(
            "-- name: ",
            $name,
            "
with clock as materialized (select now() + offset_by as now, clock_timestamp() as real from saga.clock),
new_instance as materialized (select * from unnest($1::saga.newborn[])),
inserted as (
    insert into saga.instance (shard, saga_id, name, version, subject, start_key, status, waiting_on, state, pending, undos,
        reason, past_pivot, epoch, seq, owner, wake_at, timer_at, created_at, updated_at, ended_at, parent_id, parent_step, held,
        priority, tags, deadline_at, queue_key, queued, kept, build, because)
    select n.shard, n.saga_id, n.name, n.version, n.subject, n.start_key, n.status,
        case when q.queued then 'worker' else n.waiting_on end, n.state, n.pending, n.undos,
        n.reason, n.past_pivot, 1, n.seq, n.owner,
        case when n.wake > 1 and not q.queued then c.now + n.delay_ms * interval '1 ms' end,
        case when n.wake = 3 then c.now + n.delay_ms * interval '1 ms' end, c.real, c.real,
        case when n.waiting_on is null or n.waiting_on = 'parent' then c.real end, n.parent_id, n.parent_step, n.held,
        n.priority, n.tags::jsonb, c.now + n.deadline_ms * interval '1 ms', n.queue_key, q.queued, n.kept, $5, n.because
    from new_instance n, clock c, lateral (select n.queue_key is not null and n.status = 'running' as queued) q
    ",
            $conflict,
            "
    returning 1
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, event, step_no, next, undo, epoch)
    select j.shard, j.saga_id, j.seq, c.real, j.kind, j.event, j.step_no, j.next, j.undo, j.epoch
    from unnest($2::saga.entry[]) j, clock c where exists (select from inserted)
),
intended as (
    insert into saga.effect (shard, saga_id, step_no, kind, amount, currency, status, at)
    select n.shard, n.saga_id, n.intent_no, n.intent_kind, n.intent_amount::numeric, n.intent_currency, 'intent', c.real
    from new_instance n, clock c where n.intent_no is not null and exists (select from inserted)
)
select count(*), case when $3 is not null and count(*) > 0 then pg_notify($3, $4)::text end from inserted"
        )
    };
}

const INSERT: &str = insert_sql!("insert instances", "");

const INSERT_UNLESS_OPEN: &str = insert_sql!(
    "start instances",
    "on conflict (shard, name, subject, start_key) where status not in ('completed', 'unwound', 'abandoned') do nothing"
);
