//! Signals that an instance was given: the table `saga.signal`.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::record::commit::Commit;

/// The kept signals in the order of their arrival: (id, event as JSON, the version that stored it).
pub(crate) async fn kept_signals(
    db: impl PgExecutor<'_>,
    shard: i16,
    id: Uuid,
) -> Result<Vec<(String, String, i16)>, sqlx::Error> {
    sqlx::query_as(
        "-- name: read kept signals
        select signal_id, event::text, version from saga.signal
        where shard = $1 and saga_id = $2 and answer = 'kept' order by at, signal_id",
    )
    .bind(shard)
    .bind(id)
    .fetch_all(db)
    .await
}

/// Records that a transition took these kept signals. The instance's row is locked before them, as by who gives one.
pub(crate) async fn take_signals(
    tx: &mut PgConnection,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: take kept signals
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

/// Raises the seq of a locked row for a signal that this process cannot offer to it. If the signal is kept and the instance waits, it is
/// woken for a process that can.
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
