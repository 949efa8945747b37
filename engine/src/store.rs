//! Reads and small writes of single instances.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::{
    commit::Commit,
    row::{Row, row_columns},
};

/// A row as a worker knows it. A write that is fenced by it changes the row only if it still is so.
pub(crate) struct Fence {
    pub(crate) shard: i16,
    pub(crate) id: Uuid,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i32,
    /// None where the worker cannot know it.
    pub(crate) seq: Option<i32>,
}

/// The row as it is now, without a lock.
pub(crate) async fn instance(
    db: impl PgExecutor<'_>,
    shard: i16,
    id: Uuid,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: read instance\nselect ",
        row_columns!(),
        " from saga.instance i where i.shard = $1 and i.saga_id = $2"
    ))
    .bind(shard)
    .bind(id)
    .fetch_optional(db)
    .await
}

/// These rows as they are now, without a lock: two columns of keys.
pub(crate) async fn instances(
    db: impl PgExecutor<'_>,
    shards: Vec<i16>,
    ids: Vec<Uuid>,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: read instances\nselect ",
        row_columns!(),
        " from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id)
        join saga.instance i on i.shard = k.shard and i.saga_id = k.saga_id"
    ))
    .bind(shards)
    .bind(ids)
    .fetch_all(db)
    .await
}

/// The row, locked until the caller's transaction ends. Take all domain locks first.
pub(crate) async fn lock_instance(
    tx: &mut PgConnection,
    shard: i16,
    id: Uuid,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: lock instance\nselect ",
        row_columns!(),
        " from saga.instance i where i.shard = $1 and i.saga_id = $2 for no key update"
    ))
    .bind(shard)
    .bind(id)
    .fetch_optional(tx)
    .await
}

/// The provider's reference of a step's effect, as the ledger knows it. Round trips: 1.
pub(crate) async fn reference(
    pool: &PgPool,
    shard: i16,
    id: Uuid,
    step_no: i32,
) -> Result<Option<String>, sqlx::Error> {
    let reference = sqlx::query_scalar(
        "-- name: read reference
        select reference from saga.effect where shard = $1 and saga_id = $2 and step_no = $3",
    )
    .bind(shard)
    .bind(id)
    .bind(step_no)
    .fetch_optional(pool)
    .await?;
    Ok(reference.flatten())
}

/// The references of all effects of an instance, by step. Round trips: 1.
pub(crate) async fn references(
    tx: &mut PgConnection,
    shard: i16,
    id: Uuid,
) -> Result<BTreeMap<i32, String>, sqlx::Error> {
    let known: Vec<(i32, String)> = sqlx::query_as(
        "-- name: read references
        select step_no, reference from saga.effect where shard = $1 and saga_id = $2 and reference is not null",
    )
    .bind(shard)
    .bind(id)
    .fetch_all(tx)
    .await?;
    Ok(known.into_iter().collect())
}

/// Tx undos have taken these effects back.
pub(crate) async fn take_effects_back(
    tx: &mut PgConnection,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: take effects back
        update saga.effect set status = 'undone', settled_at = clock_timestamp()
        where shard = $1 and saga_id = $2 and step_no = any($3) and status in ('intent', 'confirmed')",
    )
    .bind(commit.shard)
    .bind(commit.id)
    .bind(&commit.undone)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Early signals in the order of their arrival: (id, event as JSON, the version that stored it).
pub(crate) async fn early_signals(
    db: impl PgExecutor<'_>,
    shard: i16,
    id: Uuid,
) -> Result<Vec<(String, String, i16)>, sqlx::Error> {
    sqlx::query_as(
        "-- name: read early signals
        select signal_id, event::text, version from saga.signal
        where shard = $1 and saga_id = $2 and answer = 'kept' order by at, signal_id",
    )
    .bind(shard)
    .bind(id)
    .fetch_all(db)
    .await
}

/// Early signals that a transition took. The instance's row is locked before them, as by who gives one.
pub(crate) async fn take_signals(
    tx: &mut PgConnection,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: take early signals
        update saga.signal set answer = 'applied' where shard = $1 and saga_id = $2 and signal_id = any($3)",
    )
    .bind(commit.shard)
    .bind(commit.id)
    .bind(&commit.taken)
    .execute(tx)
    .await
    .map(|_| ())
}

/// The signals that are kept for these members are refused. The instance's row is locked before them, as by who gives one.
pub(crate) async fn refuse_kept_signals(
    tx: &mut PgConnection,
    members: &[&Commit],
) -> Result<(), sqlx::Error> {
    let (shards, ids): (Vec<i16>, Vec<Uuid>) = members.iter().map(|c| (c.shard, c.id)).unzip();
    sqlx::query(
        "-- name: refuse kept signals
        update saga.signal s set answer = 'refused'
        from unnest($1::smallint[], $2::uuid[]) as m(shard, saga_id)
        where s.shard = m.shard and s.saga_id = m.saga_id and s.answer = 'kept'",
    )
    .bind(shards)
    .bind(ids)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Marks a row that this worker holds as stuck, without reading it; operators are told, and once more after an hour. What was called may have
/// been done. A row that has moved on since it was read is left as it is: the sweep finds that nobody drives it, and has it read again.
pub(crate) async fn stick(pool: &PgPool, fence: &Fence, why: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: stick unreadable
        with stuck as (
            update saga.instance set status = 'stuck', waiting_on = 'operator', owner = null, wake_at = null, seq = seq + 1,
                unsettled = unsettled or pending -> 'call' is not null, last_error = $4, updated_at = clock_timestamp()
            where shard = $1 and saga_id = $2 and owner = $3 and epoch = $5 and ($6::integer is null or seq = $6)
            returning shard, saga_id, seq, epoch, name
        ),
        journalled as (
            insert into saga.journal (shard, saga_id, seq, at, kind, event, epoch)
            select shard, saga_id, seq, clock_timestamp(), 'stuck', to_json($4::text), epoch from stuck
        ),
        escalating as (
            insert into saga.escalation (shard, saga_id, due_at)
            select shard, saga_id, saga.now() + interval '1 hour' from stuck
            on conflict (shard, saga_id) do update set due_at = excluded.due_at
        )
        insert into saga.notice (shard, saga_id, seq, kind, detail, at)
        select shard, saga_id, seq, 'stuck', jsonb_build_object('saga', name, 'why', $4::text), clock_timestamp() from stuck
        returning pg_notify('saga_notice', '')",
    )
    .bind(fence.shard)
    .bind(fence.id)
    .bind(fence.owner)
    .bind(why)
    .bind(fence.epoch)
    .bind(fence.seq)
    .execute(pool)
    .await
    .map(|_| ())
}

/// Lets go of a row that this worker holds and cannot read, for one that can. Builds up to `unread_by`, if given, leave it alone from now on. What was
/// in flight is asked for there.
pub(crate) async fn leave(
    pool: &PgPool,
    fence: &Fence,
    unread_by: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: leave to a newer version
        update saga.instance
        set unread_by = coalesce($6, unread_by), owner = null, waiting_on = 'worker', wake_at = saga.now(), unsettled = unsettled or pending -> 'call' is not null,
            timer_at = case when pending -> 'call' is not null then null else timer_at end, updated_at = clock_timestamp()
        where shard = $1 and saga_id = $2 and owner = $3 and epoch = $4 and ($5::integer is null or seq = $5)",
    )
    .bind(fence.shard)
    .bind(fence.id)
    .bind(fence.owner)
    .bind(fence.epoch)
    .bind(fence.seq)
    .bind(unread_by)
    .execute(pool)
    .await
    .map(|_| ())
}

/// Raises the seq of a locked row for a signal that nobody here can offer to it; `kept`: wakes it, if it waits, for one who can.
pub(crate) async fn note_signal(
    tx: &mut PgConnection,
    shard: i16,
    id: Uuid,
    event: &str,
    kept: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: note signal unread
        with noted as (
            update saga.instance i set seq = i.seq + 1, kept = i.kept + $4::integer, updated_at = clock_timestamp(),
                waiting_on = case when w.wakes then 'worker' else i.waiting_on end,
                wake_at = case when w.wakes then saga.now() else i.wake_at end
            from (select s.shard, s.saga_id, $4 = 1 and s.owner is null and not s.queued
                    and coalesce(s.waiting_on in ('signal', 'timer'), false) as wakes
                from saga.instance s where s.shard = $1 and s.saga_id = $2) w
            where i.shard = w.shard and i.saga_id = w.saga_id
            returning i.shard, i.saga_id, i.seq, i.epoch
        )
        insert into saga.journal (shard, saga_id, seq, at, kind, event, epoch)
        select shard, saga_id, seq, clock_timestamp(), case $4 when 1 then 'signal kept' else 'signal refused' end, $3::json, epoch
        from noted",
    )
    .bind(shard)
    .bind(id)
    .bind(event)
    .bind(i32::from(kept))
    .execute(tx)
    .await
    .map(|_| ())
}

/// Remembers a signal; false if one of that id was there already.
pub(crate) async fn insert_signal(
    tx: &mut PgConnection,
    (shard, id): (i16, Uuid),
    signal_id: &str,
    event: &str,
    answer: &str,
    version: u16,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "-- name: insert signal
        insert into saga.signal (shard, saga_id, signal_id, event, answer, at, version)
        values ($1, $2, $3, $4::jsonb, $5, clock_timestamp(), $6) on conflict do nothing",
    )
    .bind(shard)
    .bind(id)
    .bind(signal_id)
    .bind(event)
    .bind(answer)
    .bind(version.cast_signed())
    .execute(tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
