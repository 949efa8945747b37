//! Inventory in SQL. Every function that locks takes its rows by (product, variant).

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{Movement, Stock, Time};
use crate::{
    events::Numbered,
    shop::{
        Context,
        record::{Making, insert_events},
    },
};

/// Writes changes of stocks that the caller has locked: stock, audit, and what placements hold.
/// Returns the events to record. 1 round trip, 2 to 3 row operations a change.
pub async fn write(
    ctx: &mut Context<'_>,
    movements: &[Movement],
) -> Result<Vec<Numbered>, sqlx::Error> {
    let (statement, events) = change(WRITE, movements, ctx.now().await?);
    statement.execute(&mut **ctx).await?;
    Ok(events)
}

/// The same, and records the events, by one statement. Answers the number of the last one. 1 round trip, and those of what
/// follows from the events; 3 to 4 row operations a change.
pub async fn write_and_record(
    ctx: &mut Context<'_>,
    movements: &[Movement],
) -> Result<Option<i64>, sqlx::Error> {
    let (statement, events) = change(WRITE_AND_RECORD, movements, ctx.now().await?);
    let last = events.last().map(|last| last.n);
    ctx.record_by(Making { statement, counts: None }, events).await?;
    Ok(last)
}

/// The statement that writes these changes, and their events.
fn change<'q>(
    sql: &'static str,
    movements: &'q [Movement],
    now: Time,
) -> (Query<'q, Postgres, PgArguments>, Vec<Numbered>) {
    let mut events = Vec::with_capacity(movements.len());
    let (mut ids, mut on_hands, mut reserveds) = (Vec::new(), Vec::new(), Vec::new());
    let (mut helds, mut numbers, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut words, mut actors, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    let mut orders = Vec::new();
    for movement in movements {
        let told = movement.events(now);
        let (on_hand, reserved) = movement.after();
        ids.push(movement.before.inventory_id);
        on_hands.push(on_hand);
        reserveds.push(reserved);
        helds.push(movement.held());
        numbers.push(movement.before.event_count + 1);
        counts.push(told.count());
        words.push(movement.word());
        actors.push(movement.actor);
        reasons.push(movement.reason.as_str());
        orders.push(movement.order_id);
        events.extend(told.after(movement.before.event_count));
    }
    let statement = sqlx::query(sql)
        .bind(ids)
        .bind(on_hands)
        .bind(reserveds)
        .bind(helds)
        .bind(numbers)
        .bind(counts)
        .bind(words)
        .bind(actors)
        .bind(reasons)
        .bind(orders)
        .bind(now);
    (statement, events)
}

macro_rules! change {
    ($name:literal $(, $recorded:expr)?) => {
        concat!(
            $name,
            "
        with ",
            $("recorded as (", $recorded, "), ",)?
            "change as materialized (
            select c.*, i.on_hand as on_hand_before, i.reserved as reserved_before
            from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::bigint[], $6::bigint[],
                        $7::text[], $8::uuid[], $9::text[], $10::uuid[])
                as c (inventory_id, on_hand, reserved, held, n, told,
                      word, actor, reason, order_id)
            join shop.inventory i using (inventory_id)
        ), written as (
            update shop.inventory i
            set on_hand = c.on_hand, reserved = c.reserved, event_count = i.event_count + c.told,
                updated_at = $11
            from change c where i.inventory_id = c.inventory_id
        ), held as (
            insert into shop.reservation (order_id, inventory_id, source, quantity, created_at)
            select order_id, inventory_id, 'placement', held, $11
            from change where held > 0
        ), freed as (
            delete from shop.reservation r using change c
            where r.order_id = c.order_id and r.inventory_id = c.inventory_id
              and r.source = 'placement' and c.held < 0
        )
        insert into shop.inventory_audit
            (inventory_id, n, change, actor, reason, order_id, on_hand_before, on_hand_after,
             reserved_before, reserved_after, changed_at)
        select inventory_id, n, word, actor, reason, order_id, on_hand_before, on_hand,
               reserved_before, reserved, $11
        from change"
        )
    };
}

const WRITE: &str = change!("-- inventory: write changes");

const WRITE_AND_RECORD: &str = change!(
    "-- inventory: write changes, and record events",
    insert_events!(
        "$12", "$13", "$14", "$15", "$16", "$17", "$18", "$19", "$20", "$21", "$22", "$23"
    )
);

/// A stock, locked, and how much of it an order's placement holds.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Held {
    /// The stock.
    #[sqlx(flatten)]
    pub stock: Stock,
    /// How much of it is held.
    pub quantity: i32,
}

/// Locks the stocks that the order's placement holds, with how much of each. The caller holds the
/// order's row, so the answer stays true. 1 round trip.
pub async fn lock_held_by(tx: &mut PgConnection, order_id: Uuid) -> Result<Vec<Held>, sqlx::Error> {
    sqlx::query_as(
        "-- inventory: lock what an order holds
        select i.inventory_id, i.product_id, i.variant_id, i.on_hand, i.reserved,
               i.low_stock_threshold, i.event_count, r.quantity
        from shop.reservation r join shop.inventory i using (inventory_id)
        where r.order_id = $1 and r.source = 'placement'
        order by i.product_id, i.variant_id nulls first
        for update of i",
    )
    .bind(order_id)
    .fetch_all(tx)
    .await
}

/// Locks one stock. `None`: there is no such product or variant.
pub async fn lock_one(
    tx: &mut PgConnection,
    product_id: Uuid,
    variant_id: Option<Uuid>,
) -> Result<Option<(Stock, Time)>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Locked {
        #[sqlx(flatten)]
        stock: Stock,
        now: Time,
    }
    let locked: Option<Locked> = sqlx::query_as(
        "-- inventory: lock one
        select inventory_id, product_id, variant_id, on_hand, reserved, low_stock_threshold,
               event_count, saga.now() as now
        from shop.inventory
        where product_id = $1 and variant_id is not distinct from $2
        for update",
    )
    .bind(product_id)
    .bind(variant_id)
    .fetch_optional(tx)
    .await?;
    Ok(locked.map(|locked| (locked.stock, locked.now)))
}

/// The stocks of a product, its variants' included, without a lock.
pub async fn stock_of(
    connection: &mut PgConnection,
    product_id: Uuid,
) -> Result<Vec<Stock>, sqlx::Error> {
    sqlx::query_as(
        "-- inventory: of a product
        select inventory_id, product_id, variant_id, on_hand, reserved, low_stock_threshold,
               event_count
        from shop.inventory where product_id = $1
        order by variant_id nulls first",
    )
    .bind(product_id)
    .fetch_all(connection)
    .await
}

/// One change of a stock: who, why, before and after.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct AuditRow {
    /// The number of the domain event that tells of the change; the position for paging.
    pub n: i64,
    /// `set`, `adjusted`, `reserved`, `released` or `deducted`.
    pub change: String,
    /// The actor.
    pub actor: Uuid,
    /// Why.
    pub reason: String,
    /// For which order, if for one.
    pub order_id: Option<Uuid>,
    /// On hand before.
    pub on_hand_before: i32,
    /// On hand after.
    pub on_hand_after: i32,
    /// Reserved before.
    pub reserved_before: i32,
    /// Reserved after.
    pub reserved_after: i32,
    /// When, business time.
    pub changed_at: Time,
}

/// The changes of one stock, newest first, those before `before` (a row's `n`).
pub async fn audit_of(
    connection: &mut PgConnection,
    inventory_id: Uuid,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>, sqlx::Error> {
    sqlx::query_as(
        "-- inventory: audit
        select n, change, actor, reason, order_id, on_hand_before, on_hand_after,
               reserved_before, reserved_after, changed_at
        from shop.inventory_audit
        where inventory_id = $1 and ($2::bigint is null or n < $2)
        order by n desc limit $3",
    )
    .bind(inventory_id)
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await
}
