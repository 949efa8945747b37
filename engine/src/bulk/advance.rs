//! Applies running bulks: a few items at a time, in the upkeep passes of the workers.

use std::{collections::HashMap, time::Duration};

use sqlx::{Connection as _, FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::{ItemResult, Stored};
use crate::{
    instance::verb::{Instruction, Outlook, Refusal, Verb},
    operate::{Operated, Wanted},
    record::{
        kinds::Kinds,
        row::{Row, row_columns},
    },
    worker::state::Worker,
};

/// How many items share a transaction.
const CHUNK: usize = 100;

/// How long to wait between two looks at bulks that are limited by their rates.
const PACE: Duration = Duration::from_millis(100);

/// How often the database may refuse an item before it has failed.
const TRIES: i16 = 5;

/// Locks the row of the bulk whose turn it is, so that no other process applies it meanwhile. Up to 250 ms of its rate that were not used are made up
/// for. A bulk with nothing left for the sagas of this process is left to other processes, and so are those of `$3`.
const TAKE: &str = "-- name: take bulk
with known as (select * from unnest($1::text[], $2::smallint[]) as k(name, version))
select b.shard, b.bulk_id, b.verb, b.planned_by, b.reason,
    1 + floor(greatest(0, extract(epoch from least(clock_timestamp() - b.next_at, interval '250 ms'))) * b.per_second)::bigint as places
from saga.bulk b
where b.status = 'running' and b.next_at <= clock_timestamp() and b.bulk_id <> all($3)
    and exists (select from saga.bulk_item m where m.bulk_id = b.bulk_id and m.result is null
        and exists (select from known k where k.name = m.name and k.version >= m.version))
order by b.next_at limit 1
for no key update skip locked";

/// The next items: those that were never tried come first. Items of sagas that this process does not know are left to another process.
const NEXT: &str = "-- name: next items of bulk
with known as (select * from unnest($2::text[], $3::smallint[]) as k(name, version))
select m.shard, m.saga_id, m.seq, m.tries, m.outlook from saga.bulk_item m
where m.bulk_id = $1 and m.result is null
    and exists (select from known k where k.name = m.name and k.version >= m.version)
order by m.tries, m.shard, m.saga_id limit $4";

const LOCK: &str = concat!(
    "-- name: lock for bulk\nselect ",
    row_columns!(),
    " from unnest($1::smallint[], $2::uuid[]) as k(shard, saga_id)
    join saga.instance i on i.shard = k.shard and i.saga_id = k.saga_id
    order by i.shard, i.saga_id
    for no key update of i skip locked"
);

const BOOK: &str = "-- name: book items of bulk
with booked as (
    update saga.bulk_item m set result = d.result, refusal = d.refusal, error = d.error, tries = m.tries + d.tried::integer,
        done_at = case when d.result is not null then clock_timestamp() end
    from unnest($3::smallint[], $4::uuid[], $5::text[], $6::jsonb[], $7::text[], $8::boolean[])
        as d(shard, saga_id, result, refusal, error, tried)
    where m.shard = d.shard and m.bulk_id = $2 and m.saga_id = d.saga_id
    returning m.result
),
counted as (
    select count(*) filter (where result = 'applied') as applied, count(*) filter (where result = 'refused') as refused,
        count(*) filter (where result = 'moved_on') as moved_on, count(*) filter (where result = 'failed') as failed,
        count(*) as tried, count(result) as done
    from booked
)
update saga.bulk b set applied = b.applied + n.applied, refused = b.refused + n.refused, moved_on = b.moved_on + n.moved_on,
    failed = b.failed + n.failed,
    next_at = case when $9 then greatest(b.next_at, clock_timestamp() - interval '250 ms') + n.tried * interval '1 s' / b.per_second
        else clock_timestamp() + interval '1 s' end,
    status = case when e.ended then 'done' else b.status end, ended_at = case when e.ended then clock_timestamp() end
from counted n, saga.bulk o, lateral (
    select o.items = o.applied + o.refused + o.moved_on + o.failed + n.done as ended) e
where b.shard = $1 and b.bulk_id = $2 and o.shard = b.shard and o.bulk_id = b.bulk_id";

/// A running bulk whose row is locked, as it is stored.
#[derive(FromRow)]
struct BulkRow {
    shard: i16,
    bulk_id: Uuid,
    #[sqlx(json)]
    verb: Stored<Verb>,
    planned_by: String,
    reason: String,
    places: i64,
}

/// An item as it is stored.
#[derive(FromRow)]
struct ItemRow {
    shard: i16,
    saga_id: Uuid,
    seq: i32,
    tries: i16,
    #[sqlx(json)]
    outlook: Stored<Outlook>,
}

/// A bulk that this process applies.
struct Taken {
    shard: i16,
    bulk_id: Uuid,
    /// The verb, by the person who planned it. Each item is an instance of its own.
    order: Instruction,
    /// How many items may be done at once.
    places: usize,
    /// The next items, in the order of their instances.
    items: Vec<Item>,
}

struct Item {
    shard: i16,
    saga_id: Uuid,
    seq: i32,
    tries: i16,
    outlook: Outlook,
}

/// The result of an item.
struct Done {
    shard: i16,
    id: Uuid,
    /// `None`: it is still to be done.
    result: Option<ItemResult>,
    refusal: Option<Json<Refusal>>,
    error: Option<String>,
}

/// Does the next items of the bulk whose turn it is. Returns how long to wait before the next look.
///
/// Lock order: the bulk's row, then instances by (shard, id). Round trips: 10 to 15 per 100 items, and those that single instances need
/// for their families and kept signals; 4 or 5 for a bulk that is left to a newer build. Row operations: 1 an item beside those of its verb.
///
/// # Errors
/// The database's: nothing of it was done, or (connection lost) all of it.
pub(crate) async fn advance(
    worker: &Worker,
    connection: &mut PgConnection,
    known: &Kinds,
) -> Result<Duration, sqlx::Error> {
    let mut left_to_newer = Vec::new();
    loop {
        let mut tx = connection.begin().await?;
        let row: Option<BulkRow> = sqlx::query_as(TAKE)
            .bind(&known.names)
            .bind(&known.versions)
            .bind(&left_to_newer)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            tx.rollback().await?;
            return Ok(PACE);
        };
        let id = row.bulk_id;
        let Some(bulk) = read(&mut tx, row, known).await? else {
            // Its row is locked no longer than that: a process of the newer build may be waiting for it.
            tx.rollback().await?;
            worker.bulks_of_newer.begin(&format_args!("a newer build planned {id}"));
            left_to_newer.push(id);
            continue;
        };
        let gets_on = bulk.items.iter().any(|item| item.tries == 0);
        let done = do_all(worker, &mut tx, &bulk).await?;
        book(&mut tx, &bulk, &done, gets_on).await?;
        tx.commit().await?;
        return Ok(if bulk.places == CHUNK { Duration::ZERO } else { PACE });
    }
}

/// Reads the next items of a bulk; `None` if a newer build planned what this build cannot read.
async fn read(
    tx: &mut PgConnection,
    row: BulkRow,
    known: &Kinds,
) -> Result<Option<Taken>, sqlx::Error> {
    let BulkRow { shard, bulk_id, verb, planned_by, reason, places } = row;
    let Stored::Known(verb) = verb else { return Ok(None) };
    let order = Instruction {
        id: bulk_id.to_string(),
        by: planned_by,
        reason,
        verb,
        undo: None,
        seq: None,
    };
    let places = usize::try_from(places).unwrap_or(1).min(CHUNK);
    let rows: Vec<ItemRow> = sqlx::query_as(NEXT)
        .bind(bulk_id)
        .bind(&known.names)
        .bind(&known.versions)
        .bind(places as i64)
        .fetch_all(tx)
        .await?;
    let items = rows.into_iter().map(|row| {
        let ItemRow { shard, saga_id, seq, tries, outlook } = row;
        match outlook {
            Stored::Known(outlook) => Some(Item { shard, saga_id, seq, tries, outlook }),
            Stored::Unknown(_) => None,
        }
    });
    let Some(mut items) = items.collect::<Option<Vec<_>>>() else { return Ok(None) };
    items.sort_by_key(|item| (item.shard, item.saga_id));
    Ok(Some(Taken { shard, bulk_id, order, places, items }))
}

/// Does all items at once, or one after the other if the database refuses that.
async fn do_all(
    worker: &Worker,
    tx: &mut PgConnection,
    bulk: &Taken,
) -> Result<Vec<Done>, sqlx::Error> {
    match try_all(worker, tx, &bulk.order, &bulk.items).await {
        Err(sqlx::Error::Database(_)) => {}
        tried => return tried,
    }
    let mut all = Vec::with_capacity(bulk.items.len());
    for item in &bulk.items {
        match try_all(worker, tx, &bulk.order, std::slice::from_ref(item)).await {
            Ok(done) => all.extend(done),
            Err(sqlx::Error::Database(error)) => all.push(item.not_done(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Does them in a transaction within that of the bulk.
async fn try_all(
    worker: &Worker,
    tx: &mut PgConnection,
    order: &Instruction,
    items: &[Item],
) -> Result<Vec<Done>, sqlx::Error> {
    let mut save = tx.begin().await?;
    let tried = operate(worker, &mut save, order, items).await;
    match tried {
        Ok(_) => save.commit().await?,
        Err(_) => save.rollback().await?,
    }
    tried
}

async fn operate(
    worker: &Worker,
    tx: &mut PgConnection,
    order: &Instruction,
    items: &[Item],
) -> Result<Vec<Done>, sqlx::Error> {
    if order.verb.may_run_tx_undos() {
        return one_by_one(worker, tx, order, items).await;
    }
    let rows: Vec<Row> = sqlx::query_as(LOCK)
        .bind(items.iter().map(|item| item.shard).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.saga_id).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    let by_id = items.iter().map(|item| (item.saga_id, item)).collect::<HashMap<_, _>>();
    let wanted = rows.into_iter().filter_map(|row| {
        let item = by_id.get(&row.saga_id)?;
        let (seq, planned) = (Some(item.seq), Some(item.outlook.clone()));
        // A verb that may run tx undos is applied to one instance at a time.
        Some(Wanted { row, seq, planned, undone: Vec::new() })
    });
    let operated = worker.engine.operate_all(tx, order, wanted.collect()).await?;
    let mut operated = operated.into_iter().collect::<HashMap<_, _>>();
    let done = items.iter().map(|item| match operated.remove(&item.saga_id) {
        Some(operated) => item.done(operated),
        None => item.not_done("it is locked by somebody, or gone".to_owned()),
    });
    Ok(done.collect())
}

/// Applies a verb that may run tx undos to one instance after the other: the undos lock rows of the domain before the row of their instance.
async fn one_by_one(
    worker: &Worker,
    tx: &mut PgConnection,
    order: &Instruction,
    items: &[Item],
) -> Result<Vec<Done>, sqlx::Error> {
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let order = Instruction { seq: Some(item.seq), ..order.clone() };
        let operated =
            worker.engine.operate_one(tx, item.saga_id, &order, Some(&item.outlook)).await?;
        all.push(item.done(operated));
    }
    Ok(all)
}

impl Item {
    fn done(&self, operated: Operated) -> Done {
        let (result, refusal) = match operated {
            Operated::Applied(_) | Operated::Repeated => (ItemResult::Applied, None),
            Operated::Refused(refusal @ Refusal::MovedOn { .. }) => {
                (ItemResult::MovedOn, Some(refusal))
            }
            Operated::Refused(refusal) => (ItemResult::Refused, Some(refusal)),
        };
        let (shard, id, refusal) = (self.shard, self.saga_id, refusal.map(Json));
        Done { shard, id, result: Some(result), refusal, error: None }
    }

    fn not_done(&self, error: String) -> Done {
        let result = (self.tries + 1 >= TRIES).then_some(ItemResult::Failed);
        Done { shard: self.shard, id: self.saga_id, result, refusal: None, error: Some(error) }
    }
}

/// Counts what was done. If nothing new was tried, the bulk waits for a second.
async fn book(
    tx: &mut PgConnection,
    bulk: &Taken,
    done: &[Done],
    gets_on: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(BOOK)
        .bind(bulk.shard)
        .bind(bulk.bulk_id)
        .bind(done.iter().map(|one| one.shard).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.id).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.result.map(ItemResult::as_str)).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.refusal.as_ref()).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.error.as_deref()).collect::<Vec<_>>())
        .bind(done.iter().map(|one| one.error.is_some()).collect::<Vec<_>>())
        .bind(gets_on)
        .execute(tx)
        .await
        .map(|_| ())
}
