//! Notices: messages for operators, written by the very commit that causes them.
//!
//! Nothing is lost and nobody who writes waits: a notice is written without a place, and readers, one after the other, give places to
//! those that have none yet. A reader that sees a place therefore sees all places before it, however late their transactions were committed.
//! The channel [`CHANNEL`] is a hint, for latency only; [`after`] alone finds everything.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::{base::limits, record::commit::Commit};

pub use crate::record::notice::Kind;

/// `LISTEN` on it to learn at once that there is something to read. No payload.
pub const CHANNEL: &str = "saga_notice";

/// A message for operators about one instance.
///
/// ```
/// use stepwise_engine::notice::{self, Kind, Notice};
///
/// # async fn f(pool: &sqlx::PgPool, mut place: i64) -> Result<(), sqlx::Error> {
/// for Notice { place: at, kind, saga, why, .. } in notice::after(pool, place, 100).await? {
///     if kind == Kind::Stuck {
///         println!("a {saga} needs a person: {why}");
///     }
///     place = at; // keep it: go on from here the next time
/// }
/// # let _ = place;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Notice {
    /// Its place: give the newest one to [`after`] to go on from here. Places are never given twice; some may be missing.
    pub place: i64,
    /// The instance.
    pub saga_id: Uuid,
    /// The commit that wrote it.
    pub seq: i32,
    /// Why.
    pub kind: Kind,
    /// The saga's name.
    pub saga: String,
    /// The reason, in words for an operator.
    pub why: String,
    /// When it was written, in real time.
    pub at: DateTime<Utc>,
}

/// How long notices can be read.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Up to `limit` notices after a place (0: from the oldest that is kept, 30 days), in order of their places.
///
/// Round trips: 2, and 4 more when new ones have come since anybody looked.
///
/// # Errors
/// The database's.
pub async fn after(pool: &PgPool, place: i64, limit: i64) -> Result<Vec<Notice>, sqlx::Error> {
    give_places(pool).await?;
    sqlx::query_as(
        "-- name: read notices
        select n as place, saga_id, seq, kind, coalesce(detail ->> 'saga', '') as saga, coalesce(detail ->> 'why', '') as why, at
        from saga.notice where n > $1 order by n limit $2",
    )
    .bind(place)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// The newest place given so far: read on from here to see only what is new. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn newest(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("-- name: newest notice\nselect n from saga.notice_place")
        .fetch_one(pool)
        .await
}

/// One giver at a time: the next one begins after this one's commit, with a snapshot of its own.
async fn give_places(pool: &PgPool) -> Result<(), sqlx::Error> {
    let some: bool = sqlx::query_scalar(
        "-- name: any new notice\nselect exists (select from saga.notice where n is null)",
    )
    .fetch_one(pool)
    .await?;
    if !some {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    let newest: i64 = sqlx::query_scalar(
        "-- name: lock notice place\nselect n from saga.notice_place for update",
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        "-- name: give places to notices
        with fresh as (
            select shard, saga_id, seq, kind, $1 + row_number() over (order by at, saga_id, seq, kind) as n
            from saga.notice where n is null
        ),
        placed as (
            update saga.notice o set n = f.n from fresh f
            where o.shard = f.shard and o.saga_id = f.saga_id and o.seq = f.seq and o.kind = f.kind
            returning o.n
        )
        update saga.notice_place set n = (select max(n) from placed) where exists (select from placed)",
    )
    .bind(newest)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Written in the transaction of the commits that tell it. Round trips: 1. Row operations: 1 each, 1 more for an escalation or a slow step.
///
/// # Errors
/// The database's.
pub(crate) async fn insert(tx: &mut PgConnection, telling: &[&Commit]) -> Result<(), sqlx::Error> {
    let told = || telling.iter().filter_map(|c| c.tell.as_ref());
    sqlx::query(
        "-- name: insert notices
        with told as (
            select * from unnest($1::smallint[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::bigint[])
                as t(shard, saga_id, seq, kind, saga, why, escalate_ms)
        ),
        noticed as (
            insert into saga.notice (shard, saga_id, seq, kind, detail, at)
            select shard, saga_id, seq, kind, jsonb_build_object('saga', saga, 'why', why), clock_timestamp() from told
            on conflict do nothing
        ),
        escalating as (
            insert into saga.escalation (shard, saga_id, due_at)
            select shard, saga_id, saga.now() + escalate_ms * interval '1 ms' from told where escalate_ms is not null
            on conflict (shard, saga_id) do update set due_at = excluded.due_at
        ),
        slow as (
            update saga.instance i set slow = true from told t
            where t.kind = 'slow' and i.shard = t.shard and i.saga_id = t.saga_id
        )
        select pg_notify($8, '')",
    )
    .bind(telling.iter().map(|c| c.shard).collect::<Vec<_>>())
    .bind(telling.iter().map(|c| c.id).collect::<Vec<_>>())
    .bind(telling.iter().map(|c| c.new_seq).collect::<Vec<_>>())
    .bind(told().map(|t| t.kind.as_str()).collect::<Vec<_>>())
    .bind(told().map(|t| t.saga).collect::<Vec<_>>())
    .bind(told().map(|t| t.why.as_str()).collect::<Vec<_>>())
    .bind(told().map(|t| t.escalate_after.map(limits::ms)).collect::<Vec<_>>())
    .bind(CHANNEL)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Tells once more of what has been stuck for too long; what is not stuck any more is dropped. For the sweep.
pub(crate) const ESCALATE: &str = "-- name: escalate
with due as (
    delete from saga.escalation e
    where (e.shard, e.saga_id) in (
        select shard, saga_id from saga.escalation where due_at <= (select saga.now()) limit 500 for update skip locked)
    returning e.shard, e.saga_id
)
insert into saga.notice (shard, saga_id, seq, kind, detail, at)
select i.shard, i.saga_id, i.seq, 'escalated', jsonb_build_object('saga', i.name, 'why', i.last_error), clock_timestamp()
from due d join saga.instance i on i.shard = d.shard and i.saga_id = d.saga_id
where i.status = 'stuck'
on conflict do nothing
returning pg_notify('saga_notice', '')";

/// Forgets 5,000 notices older than [`KEPT`]; true if there may be more.
///
/// # Errors
/// The database's.
pub(crate) async fn forget_old(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let forgotten = sqlx::query(
        "-- name: forget notices
        delete from saga.notice where ctid = any (array(
            select ctid from saga.notice
            where n is not null and at < clock_timestamp() - $1 * interval '1 second' limit 5000))",
    )
    .bind(KEPT.as_secs() as i64)
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected() == 5_000)
}
