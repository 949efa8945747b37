//! Reading bulks.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Bulk, Item};
use crate::{base::id::shard_in, instance::verb::Refusal, worker::engine::Engine};

macro_rules! bulk_columns {
    () => {
        "bulk_id, verb, planned_by, reason, filter, status, items, applied, refused, moved_on, failed, \
         items - applied - refused - moved_on - failed as left, per_second, created_at, applied_by, started_at, stopped_by, ended_at"
    };
}

/// Reads one bulk as a transaction sees it ([`Engine::bulk`]).
pub(super) async fn find(tx: &mut PgConnection, id: Uuid) -> Result<Option<Bulk>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: find bulk\nselect ",
        bulk_columns!(),
        " from saga.bulk where shard = $1 and bulk_id = $2"
    ))
    .bind(shard_in(id))
    .bind(id)
    .fetch_optional(tx)
    .await
}

/// A number of items that have the same step, status or reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The step, status or reason.
    pub what: String,
    /// The number of items.
    pub count: i64,
}

/// The sums of a plan. Steps are counted by name, without their fields. Each list has the 100 most frequent entries, most frequent first.
///
/// ```
/// use stepwise_engine::{Engine, bulk::{Count, Summary}};
///
/// # async fn f(engine: &Engine, bulk: uuid::Uuid) -> Result<(), sqlx::Error> {
/// let Summary { refusals, past_pivot, .. } = engine.bulk_summary(bulk).await?;
/// println!("{past_pivot} only go forward");
/// for Count { what, count } in refusals {
///     println!("{count} are left alone: {what}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The statuses that instances would have.
    pub statuses: Vec<Count>,
    /// The steps that would run next.
    pub next: Vec<Count>,
    /// The number of instances that would be past their pivot.
    pub past_pivot: i64,
    /// The steps that would be taken back.
    pub undoes: Vec<Count>,
    /// The reasons why the verb was refused, in the plan or when it was applied.
    pub refusals: Vec<Count>,
    /// The errors of the database, at the last try of each item.
    pub errors: Vec<Count>,
}

impl Engine {
    /// Reads one bulk; `None` if there is none with this id. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn bulk(&self, id: Uuid) -> Result<Option<Bulk>, sqlx::Error> {
        find(&mut *self.pool().acquire().await?, id).await
    }

    /// Reads the newest bulks, newest first, at most `limit`. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn bulks(&self, limit: i64) -> Result<Vec<Bulk>, sqlx::Error> {
        sqlx::query_as(concat!(
            "-- name: list bulks\nselect ",
            bulk_columns!(),
            " from saga.bulk order by created_at desc, bulk_id desc limit $1"
        ))
        .bind(limit)
        .fetch_all(self.pool())
        .await
    }

    /// Reads a page of a bulk's items, at most `limit`, in the order of their instances' shards and ids. `after` is the last instance of the page
    /// before; `None` reads the first page. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn bulk_items(
        &self,
        id: Uuid,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Item>, sqlx::Error> {
        sqlx::query_as(
            "-- name: items of bulk
            select m.saga_id, m.name, m.seq, m.outlook, m.refusal, m.result, m.error, m.done_at
            from generate_series(coalesce($2::integer, 0), 63) as s(shard), lateral (
                select * from saga.bulk_item o
                where o.shard = s.shard and o.bulk_id = $1
                    and o.saga_id > case when s.shard = $2 then $3 else '00000000-0000-0000-0000-000000000000' end
                order by o.saga_id limit $4) m
            order by m.shard, m.saga_id limit $4",
        )
        .bind(id)
        .bind(after.map(|id| i32::from(shard_in(id))))
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await
    }

    /// Sums up all items of a bulk. Round trips: 1. Rows read: all its items.
    ///
    /// # Errors
    /// The database's.
    pub async fn bulk_summary(&self, id: Uuid) -> Result<Summary, sqlx::Error> {
        let counted: Vec<(String, String, i64)> =
            sqlx::query_as(SUM_UP).bind(id).fetch_all(self.pool()).await?;
        let mut summary = Summary::default();
        for (about, what, count) in counted {
            let column = match about.as_str() {
                "status" => &mut summary.statuses,
                "next" => &mut summary.next,
                "undo" => &mut summary.undoes,
                "refusal" => &mut summary.refusals,
                "error" => &mut summary.errors,
                _ => {
                    summary.past_pivot = count;
                    continue;
                }
            };
            let what = if about == "refusal" { in_words(what) } else { what };
            column.push(Count { what, count });
        }
        Ok(summary)
    }
}

/// The sentence of a stored refusal; its JSON if this build does not know it.
fn in_words(refusal: String) -> String {
    let known = serde_json::from_str::<Refusal>(&refusal);
    known.map_or(refusal, |refusal| refusal.to_string())
}

/// Counts the items of a bulk by status, step, refusal and error. A step is stored with its fields, such as `Pay { order: .. }`; only its name is
/// counted.
const SUM_UP: &str = r"-- name: sum bulk up
with item as (
    select m.outlook, m.refusal, m.error from generate_series(0, 63) as s(shard)
    join saga.bulk_item m on m.shard = s.shard and m.bulk_id = $1
),
told as (
    select 'status' as about, outlook ->> 'status' as what from item where outlook is not null
    union all
    select 'next', regexp_replace(coalesce(outlook ->> 'next', 'nothing by itself'), '\s*[({].*$', '') from item
    where outlook is not null
    union all
    select 'pivot', '' from item where (outlook ->> 'past_pivot')::boolean
    union all
    select 'undo', regexp_replace(u, '\s*[({].*$', '') from item, jsonb_array_elements_text(outlook -> 'undoes') u
    union all
    select 'refusal', case when refusal ? 'moved_on' then 'it has moved on' else refusal::text end from item where refusal is not null
    union all
    select 'error', error from item where error is not null
),
counted as (
    select about, what, count(*) as n, row_number() over (partition by about order by count(*) desc, what) as place
    from told group by about, what
)
select about, what, n from counted where place <= 100 order by about, place";
