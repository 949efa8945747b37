//! Reads and small writes of single instances.

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::record::row::{Row, row_columns};

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

/// Marks a row that this worker holds as stuck, without reading it; operators are told, and once more after an hour. A call in flight may have
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

/// Releases a row that this worker holds and cannot read, for a worker that can. Builds up to `unread_by`, if given, leave it alone from now on. The
/// next driver asks the provider about a call in flight.
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
