//! Parents that wait for their children: the table `saga.join_wait`.

use sqlx::PgConnection;
use uuid::Uuid;

/// These parents wait for their children.
pub(crate) async fn expect_children(
    tx: &mut PgConnection,
    parents: &[(i16, Uuid)],
) -> Result<(), sqlx::Error> {
    let (shards, ids): (Vec<i16>, Vec<Uuid>) = parents.iter().copied().unzip();
    sqlx::query(
        "-- name: wait for children
        insert into saga.join_wait (shard, saga_id) select * from unnest($1::smallint[], $2::uuid[]) on conflict do nothing",
    )
    .bind(shards)
    .bind(ids)
    .execute(tx)
    .await
    .map(|_| ())
}

/// Wakes the parents whose last child has ended, up to 64; each at most once, however many workers ask. A parent whose row is locked is left for
/// the next time.
/// Row operations: 2 per parent.
pub(crate) const WAKE_JOINED: &str = "-- name: wake joined parents
with joined as materialized (
    select p.shard, p.saga_id from saga.join_wait j
    join saga.instance p on p.shard = j.shard and p.saga_id = j.saga_id
    where p.waiting_on = 'children' and p.wake_at is null and not exists (
        select from saga.instance c where c.shard = j.shard and c.parent_id = j.saga_id and c.ended_at is null)
    limit 64
    for no key update of p skip locked
),
joins as (
    delete from saga.join_wait j using joined p where j.shard = p.shard and j.saga_id = p.saga_id
)
update saga.instance p set wake_at = saga.now()
from joined j where p.shard = j.shard and p.saga_id = j.saga_id";
