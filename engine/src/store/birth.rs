//! Inserting new instances, with their first journal rows and the intent of their first call.

use sqlx::{PgConnection, error::BoxDynError, postgres::types::PgRecordEncoder};

use crate::{
    base::{build, json::JsonText, limits, status::WaitingOn},
    record::{commit::Birth, row::row_type},
    store::{
        commit, join,
        wake::{ROUND, WAKE_CHANNEL},
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
    births: &[Birth],
    notify: bool,
) -> Result<(), sqlx::Error> {
    for batch in births.chunks(BATCH) {
        write(tx, INSERT, batch, notify).await?;
        let families =
            batch.iter().filter_map(|birth| Some((birth, birth.commit.family.as_deref()?)));
        for (birth, family) in families {
            join::expect_children(tx, &[(birth.commit.shard, birth.commit.id)]).await?;
            Box::pin(insert(tx, &family.births, false)).await?;
        }
    }
    Ok(())
}

/// Inserts one instance whose first decision starts no others; false, and nothing is written, if one is open already. The transaction goes on
/// in either case. Round trips: 1. Row operations: 2, 1 more for an effect.
///
/// # Errors
/// The database's.
pub(crate) async fn insert_unless_open(
    tx: &mut PgConnection,
    birth: &Birth,
    notify: bool,
) -> Result<bool, sqlx::Error> {
    debug_assert!(birth.commit.family.is_none(), "a refused child would abort the transaction");
    Ok(write(tx, INSERT_UNLESS_OPEN, std::slice::from_ref(birth), notify).await? == 1)
}

/// A birth as the statement takes it: the row type `saga.newborn`.
struct Newborn<'a>(&'a Birth);

row_type!(Newborn, "saga.newborn");

impl Newborn<'_> {
    fn write(&self, row: &mut PgRecordEncoder<'_>) -> Result<(), BoxDynError> {
        let Birth { name, commit, options, parent, owner } = self.0;
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
            .encode(parent.is_some_and(|parent| parent.holds))?
            .encode(options.priority.as_i16())?
            .encode(options.tags.as_deref())?
            .encode(options.deadline.map(limits::ms))?
            .encode(options.queue_key.as_deref())?;
        commit::write_intent(commit.intent.as_ref(), row)?;
        row.encode(options.because.as_deref())?;
        Ok(())
    }
}

/// Answers 1 if the births were inserted.
async fn write(
    tx: &mut PgConnection,
    statement: &'static str,
    births: &[Birth],
    notify: bool,
) -> Result<u64, sqlx::Error> {
    let queued = births.iter().any(|birth| birth.options.queue_key.is_some());
    let written = sqlx::query(statement)
        .bind(births.iter().map(Newborn).collect::<Vec<_>>())
        .bind(commit::entries(births.iter().map(|birth| &birth.commit), 0))
        .bind(notify.then_some(WAKE_CHANNEL))
        .bind(if queued { ROUND } else { "" })
        .bind(build::made_at())
        .execute(tx)
        .await?;
    Ok(written.rows_affected())
}

macro_rules! insert_sql {
    ($name:literal, $conflict:literal) => {
        concat!(
            "-- name: ",
            $name,
            "
with clock as materialized (select now() + offset_by as now, clock_timestamp() as real from saga.clock),
newborn as materialized (select * from unnest($1::saga.newborn[])),
born as (
    insert into saga.instance (shard, saga_id, name, version, subject, start_key, status, waiting_on, state, pending, undos,
        reason, past_pivot, epoch, seq, owner, wake_at, timer_at, created_at, updated_at, ended_at, parent_id, parent_step, held,
        priority, tags, deadline_at, queue_key, queued, kept, build, because)
    select b.shard, b.saga_id, b.name, b.version, b.subject, b.start_key, b.status,
        case when q.queued then 'worker' else b.waiting_on end, b.state, b.pending, b.undos,
        b.reason, b.past_pivot, 1, b.seq, b.owner,
        case when b.wake > 1 and not q.queued then c.now + b.delay_ms * interval '1 ms' end,
        case when b.wake = 3 then c.now + b.delay_ms * interval '1 ms' end, c.real, c.real,
        case when b.waiting_on is null or b.waiting_on = 'parent' then c.real end, b.parent_id, b.parent_step, b.held,
        b.priority, b.tags::jsonb, c.now + b.deadline_ms * interval '1 ms', b.queue_key, q.queued, b.kept, $5, b.because
    from newborn b, clock c, lateral (select b.queue_key is not null and b.status = 'running' as queued) q
    ",
            $conflict,
            "
    returning 1
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, event, step_no, next, undo, epoch)
    select j.shard, j.saga_id, j.seq, c.real, j.kind, j.event, j.step_no, j.next, j.undo, j.epoch
    from unnest($2::saga.entry[]) j, clock c where exists (select from born)
),
intended as (
    insert into saga.effect (shard, saga_id, step_no, kind, amount, currency, status, at)
    select b.shard, b.saga_id, b.intent_no, b.intent_kind, b.intent_amount::numeric, b.intent_currency, 'intent', c.real
    from newborn b, clock c where b.intent_no is not null and exists (select from born)
)
select case when $3 is not null then pg_notify($3, $4)::text end from born limit 1"
        )
    };
}

const INSERT: &str = insert_sql!("start instances", "");

const INSERT_UNLESS_OPEN: &str = insert_sql!(
    "start an instance",
    "on conflict (shard, name, subject, start_key) where status not in ('completed', 'unwound', 'abandoned') do nothing"
);
