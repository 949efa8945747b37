//! Planning: asks what the verb would do to every instance, and writes nothing but the answers.

use sqlx::{PgConnection, QueryBuilder, types::Json};
use uuid::Uuid;

use super::{Bulk, BulkError, MOST_ITEMS, Order, find, json_of};
use crate::{
    base::{
        id::{new_id, shard_in, shard_of},
        json,
    },
    instance::verb::{Instruction, Refusal},
    operate::look,
    record::row::{Row, row_columns},
    worker::engine::Engine,
};

/// How many instances are read at once.
const PAGE: usize = 500;

impl Engine {
    /// Plans a verb for the open instances that pass a filter; [`Engine::apply_bulk`] starts it.
    ///
    /// All instances are seen as of one moment, without a lock. Round trips: 6, and 2 to 5 per 500 instances. Row operations: 1 an instance.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn plan_bulk(&self, order: &Order) -> Result<Bulk, BulkError> {
        let id = new_id(shard_of(&order.by));
        order.instruction(id).check().map_err(|refusal| match refusal {
            Refusal::NoReason => BulkError::NoReason,
            refusal => BulkError::DoesNotFit(refusal),
        })?;
        json::check_given("filter", &order.filter)?;
        let mut tx = self.pool().begin().await?;
        sqlx::query("-- name: one moment\nset transaction isolation level repeatable read")
            .execute(&mut *tx)
            .await?;
        let found = matching(&mut tx, order).await?;
        let mut refused = 0;
        for page in found.chunks(PAGE) {
            refused += self.plan_page(&mut tx, id, order, page).await?;
        }
        insert(&mut tx, id, order, found.len(), refused).await?;
        let bulk = find(&mut tx, id).await?.ok_or(BulkError::NotFound(id))?;
        tx.commit().await?;
        Ok(bulk)
    }

    /// Returns how many are refused.
    async fn plan_page(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        order: &Order,
        page: &[(i16, Uuid)],
    ) -> Result<usize, sqlx::Error> {
        let (shards, ids): (Vec<i16>, Vec<Uuid>) = page.iter().copied().unzip();
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "-- name: read for bulk\nselect ",
            row_columns!(),
            " from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id)
            join saga.instance i on i.shard = k.shard and i.saga_id = k.saga_id"
        ))
        .bind(shards)
        .bind(ids)
        .fetch_all(&mut *tx)
        .await?;
        let asked = order.instruction(id);
        let planned = look(tx, rows, &order.verb).await?.into_iter().map(|subject| {
            let row = &subject.row;
            let is = (row.saga_id, row.saga.clone(), row.seq);
            (is, self.decide(subject, &asked).map(|decided| decided.outlook))
        });
        let planned = planned.collect::<Vec<_>>();
        let refusals = planned.iter().map(|(_, planned)| planned.as_ref().err());
        let refusals = refusals.map(json_of::<&Refusal>).collect::<Vec<_>>();
        let outlooks = planned.iter().map(|(_, planned)| json_of(planned.as_ref().ok()));
        let refused = refusals.iter().flatten().count();
        sqlx::query(
            "-- name: plan items of bulk
            insert into saga.bulk_item (shard, bulk_id, saga_id, name, version, seq, outlook, refusal, result, done_at)
            select k.shard, $1, k.saga_id, k.name, k.version, k.seq, k.outlook, k.refusal,
                case when k.refusal is not null then 'refused' end, case when k.refusal is not null then clock_timestamp() end
            from unnest($2::smallint[], $3::uuid[], $4::text[], $5::smallint[], $6::integer[], $7::jsonb[], $8::jsonb[])
                as k(shard, saga_id, name, version, seq, outlook, refusal)",
        )
        .bind(id)
        .bind(planned.iter().map(|((id, ..), _)| shard_in(*id)).collect::<Vec<_>>())
        .bind(planned.iter().map(|((id, ..), _)| *id).collect::<Vec<_>>())
        .bind(planned.iter().map(|((_, saga, _), _)| saga.name.as_str()).collect::<Vec<_>>())
        .bind(planned.iter().map(|((_, saga, _), _)| saga.version).collect::<Vec<_>>())
        .bind(planned.iter().map(|((.., seq), _)| *seq).collect::<Vec<_>>())
        .bind(outlooks.collect::<Vec<_>>())
        .bind(refusals)
        .execute(tx)
        .await?;
        Ok(refused)
    }
}

impl Order {
    fn instruction(&self, id: Uuid) -> Instruction {
        let Self { verb, by, reason, .. } = self.clone();
        Instruction { id: id.to_string(), by, reason, verb, undo: None, seq: None }
    }
}

/// Open instances in the order of their rows.
async fn matching(tx: &mut PgConnection, order: &Order) -> Result<Vec<(i16, Uuid)>, BulkError> {
    let filter = &order.filter;
    let most = if filter.limit > 0 { filter.limit.min(MOST_ITEMS) } else { MOST_ITEMS };
    let mut query = QueryBuilder::new(
        "-- name: match for bulk\nselect i.shard, i.saga_id from saga.instance i where i.waiting_on is not null",
    );
    filter.restrict(&mut query);
    query.push(" order by i.shard, i.saga_id limit ").push_bind(most + 1);
    let found: Vec<(i16, Uuid)> = query.build_query_as().persistent(false).fetch_all(tx).await?;
    if found.len() as i64 > most { Err(BulkError::TooMany(most)) } else { Ok(found) }
}

async fn insert(
    tx: &mut PgConnection,
    id: Uuid,
    order: &Order,
    items: usize,
    refused: usize,
) -> Result<(), sqlx::Error> {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(
        "-- name: plan bulk
        insert into saga.bulk (shard, bulk_id, verb, planned_by, reason, filter, status, items, refused, created_at)
        values ($1, $2, $3, $4, $5, $6, 'planned', $7, $8, clock_timestamp())",
    )
    .bind(shard_in(id))
    .bind(id)
    .bind(Json(&order.verb))
    .bind(&order.by)
    .bind(&order.reason)
    .bind(Json(&order.filter))
    .bind(number(items))
    .bind(number(refused))
    .execute(tx)
    .await
    .map(|_| ())
}
