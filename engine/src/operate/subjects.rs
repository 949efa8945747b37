//! The data that a verb reads beside the rows, and writes beside the commits, for many instances at once.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    instance::verb::{Instruction, Subject, Verb},
    record::row::Row,
};

/// Instances, as two columns.
pub(super) type Keys = (Vec<i16>, Vec<Uuid>);

/// Reads for each row what the verb needs to know. Round trips: 0 to 3, however many rows there are.
pub(crate) async fn look(
    tx: &mut PgConnection,
    rows: Vec<Row>,
    verb: &Verb,
) -> Result<Vec<Subject>, sqlx::Error> {
    let keeping = rows.iter().filter(|row| row.progress.kept > 0).map(key).collect::<Keys>();
    let (mut kept, mut live, mut open) = (HashMap::new(), HashMap::new(), HashMap::new());
    if !keeping.0.is_empty() {
        kept = kept_signals(&mut *tx, &keeping).await?;
    }
    if matches!(verb, Verb::HandOver { .. }) {
        let keys = rows.iter().map(key).collect();
        live = live_effects(&mut *tx, &keys).await?;
        open = open_children(tx, &keys).await?;
    }
    let subject = |row: Row| Subject {
        kept: kept.remove(&row.saga_id).unwrap_or_default(),
        live: live.remove(&row.saga_id).unwrap_or_default(),
        open_children: open.remove(&row.saga_id).unwrap_or_default(),
        row,
    };
    Ok(rows.into_iter().map(subject).collect())
}

pub(super) fn key(row: &Row) -> (i16, Uuid) {
    (row.shard, row.saga_id)
}

type KeptSignals = HashMap<Uuid, Vec<(String, String, i16)>>;

async fn kept_signals(tx: &mut PgConnection, keys: &Keys) -> Result<KeptSignals, sqlx::Error> {
    let rows: Vec<(Uuid, String, String, i16)> = sqlx::query_as(
        "-- name: read kept signals of many
        select s.saga_id, s.signal_id, s.event::text, s.version
        from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id) join saga.signal s using (shard, saga_id)
        where s.answer = 'kept' order by s.at, s.signal_id",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .fetch_all(tx)
    .await?;
    let mut kept = KeptSignals::new();
    for (id, signal, event, version) in rows {
        kept.entry(id).or_default().push((signal, event, version));
    }
    Ok(kept)
}

/// Effects that stand or may stand.
async fn live_effects(
    tx: &mut PgConnection,
    keys: &Keys,
) -> Result<HashMap<Uuid, Vec<Value>>, sqlx::Error> {
    let rows: Vec<(Uuid, Value)> = sqlx::query_as(
        "-- name: live effects
        select e.saga_id, jsonb_strip_nulls(jsonb_build_object('step', e.step_no, 'kind', e.kind, 'amount', e.amount::text,
            'currency', e.currency, 'reference', e.reference, 'status', e.status))
        from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id) join saga.effect e using (shard, saga_id)
        where e.status in ('intent', 'confirmed') order by e.step_no",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .fetch_all(tx)
    .await?;
    let mut live = HashMap::<_, Vec<_>>::new();
    rows.into_iter().for_each(|(id, effect)| live.entry(id).or_default().push(effect));
    Ok(live)
}

/// The number of open children, for each instance that has some.
async fn open_children(
    tx: &mut PgConnection,
    keys: &Keys,
) -> Result<HashMap<Uuid, i64>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "-- name: open children
        select k.saga_id, count(*) from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id)
        join saga.instance c on c.shard = k.shard and c.parent_id = k.saga_id
        where c.ended_at is null group by k.saga_id",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Waives the effects that are still live.
pub(super) async fn waive_effects(tx: &mut PgConnection, keys: &Keys) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: waive effects
        update saga.effect e set status = 'waived', settled_at = clock_timestamp()
        from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id)
        where e.shard = k.shard and e.saga_id = k.saga_id and e.status in ('intent', 'confirmed')",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .execute(tx)
    .await
    .map(|_| ())
}

/// The instances that have applied an instruction with this id, and whether it was this one: the same verb, with the same arguments, for the same
/// undo.
pub(super) async fn followed(
    tx: &mut PgConnection,
    keys: &Keys,
    signal_id: &str,
    order: &Instruction,
) -> Result<HashMap<Uuid, bool>, sqlx::Error> {
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(
        "-- name: who followed
        select s.saga_id, s.event -> 'verb' is not distinct from $4 and coalesce(s.event -> 'undo', 'null') = $5
        from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id) join saga.signal s using (shard, saga_id)
        where s.signal_id = $3",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .bind(signal_id)
    .bind(json!(order.verb))
    .bind(json!(order.undo))
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Records that they apply it now.
pub(super) async fn follow(
    tx: &mut PgConnection,
    keys: &Keys,
    signal_id: &str,
    orders: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- name: follow
        insert into saga.signal (shard, saga_id, signal_id, event, answer, at, version)
        select k.shard, k.saga_id, $3, k.event::jsonb, 'applied', clock_timestamp(), 0
        from unnest($1::smallint[], $2::uuid[], $4::text[]) as k(shard, saga_id, event)",
    )
    .bind(&keys.0)
    .bind(&keys.1)
    .bind(signal_id)
    .bind(orders)
    .execute(tx)
    .await
    .map(|_| ())
}
