//! The ledger: the table `saga.effect`.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::record::commit::Commit;

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
