//! Inventory in SQL. Every function that locks takes its rows by (product, variant).

use std::collections::HashMap;

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{Movement, Stock, Time};
use crate::{
    events::{Numbered, Told},
    shop::{
        Cause, Context,
        column::column,
        record::{Making, insert_events},
    },
};

/// Writes changes of stocks that the caller has locked: stock, audit, and what orders hold.
/// Returns the events to record. 1 round trip, 2 to 3 row operations a change.
pub async fn write(
    ctx: &mut Context<'_>,
    movements: &[Movement],
) -> Result<Vec<Numbered>, sqlx::Error> {
    let movements: Vec<_> = movements.iter().collect();
    let (statement, events) = change(WRITE, &movements, ctx.now().await?);
    statement.execute(&mut **ctx).await?;
    Ok(events.into_iter().flatten().collect())
}

/// The same, and records the events, by one statement. Answers the number of the last one. 1 round trip, and those of what
/// follows from the events; 3 to 4 row operations a change.
pub async fn write_and_record(
    ctx: &mut Context<'_>,
    movements: &[Movement],
) -> Result<Option<i64>, sqlx::Error> {
    let cause = ctx.cause.clone();
    let each: Vec<_> = movements.iter().map(|movement| (&cause, movement)).collect();
    write_and_record_each(ctx, &each).await
}

/// The same for changes of several causes. Changes of one stock come in their order, each with the stock as the one before has left it
/// ([`Movement::leaves`]).
pub async fn write_and_record_each(
    ctx: &mut Context<'_>,
    each: &[(&Cause, &Movement)],
) -> Result<Option<i64>, sqlx::Error> {
    let movements: Vec<_> = each.iter().map(|(_, movement)| *movement).collect();
    let (statement, events) = change(WRITE_AND_RECORD, &movements, ctx.now().await?);
    let last = events.iter().flatten().last().map(|last| last.n);
    let told = each.iter().map(|(cause, _)| *cause).zip(events);
    ctx.record_each_by(Making { statement, counts: false }, told).await?;
    Ok(last)
}

/// The statement that writes these changes, and the events of each.
fn change<'q>(
    sql: &'static str,
    movements: &[&'q Movement],
    now: Time,
) -> (Query<'q, Postgres, PgArguments>, Vec<Vec<Numbered>>) {
    let told: Vec<Told> = column(movements, |it| it.events(now));
    // The last change of a stock says how it is afterwards.
    let last: HashMap<Uuid, usize> =
        movements.iter().enumerate().map(|(at, it)| (it.before.inventory_id, at)).collect();
    let is_last = |(at, it): (usize, &&Movement)| last[&it.before.inventory_id] == at;
    let statement = sqlx::query(sql)
        .bind(column(movements, |it| it.before.inventory_id))
        .bind(column(movements, |it| it.before.on_hand))
        .bind(column(movements, |it| it.before.reserved))
        .bind(column(movements, |it| it.after().0))
        .bind(column(movements, |it| it.after().1))
        .bind(column(movements, |it| it.held()))
        .bind(column(movements, |it| it.before.event_count + 1))
        .bind(column(&told, Told::count))
        .bind(movements.iter().enumerate().map(is_last).collect::<Vec<_>>())
        .bind(column(movements, |it| it.word()))
        .bind(column(movements, |it| it.actor))
        .bind(column(movements, |it| it.reason.as_str()))
        .bind(column(movements, |it| it.order_id))
        .bind(now);
    let numbered =
        told.into_iter().zip(movements).map(|(told, it)| told.after(it.before.event_count));
    (statement, numbered.collect())
}

macro_rules! change {
    ($name:literal $(, $recorded:expr)?) => {
        concat!(
            $name,
            "
        with ",
            $("recorded as (", $recorded, "), ",)?
            "change as materialized (
            select * from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[],
                        $7::bigint[], $8::bigint[], $9::boolean[], $10::text[], $11::uuid[],
                        $12::text[], $13::uuid[])
                as c (inventory_id, on_hand_before, reserved_before, on_hand, reserved, held,
                      n, told, is_last, word, actor, reason, order_id)
        ), written as (
            update shop.inventory i
            set on_hand = c.on_hand, reserved = c.reserved, event_count = c.n - 1 + c.told,
                updated_at = $14
            from change c where i.inventory_id = c.inventory_id and c.is_last
        ), held as (
            insert into shop.reservation (order_id, inventory_id, source, quantity, created_at)
            select order_id, inventory_id, 'placement', held, $14
            from change where held > 0
        ), freed as (
            delete from shop.reservation r using change c
            where r.order_id = c.order_id and r.inventory_id = c.inventory_id and c.held < 0
        )
        insert into shop.inventory_audit
            (inventory_id, n, change, actor, reason, order_id, on_hand_before, on_hand_after,
             reserved_before, reserved_after, changed_at)
        select inventory_id, n, word, actor, reason, order_id, on_hand_before, on_hand,
               reserved_before, reserved, $14
        from change"
        )
    };
}

const WRITE: &str = change!("-- inventory: write changes");

const WRITE_AND_RECORD: &str = change!(
    "-- inventory: write changes, and record events",
    insert_events!(
        "$15", "$16", "$17", "$18", "$19", "$20", "$21", "$22", "$23", "$24", "$25", "$26"
    )
);

/// A stock, locked, and how much of it is reserved for an order.
#[derive(Debug, Clone)]
pub struct Held {
    /// The stock.
    pub stock: Stock,
    /// How much of it the order's placement has reserved.
    pub quantity: i32,
    /// How much of it people have reserved for the order.
    pub by_hand: i32,
}

/// The columns of [`Stock`] from the inventory `i`.
macro_rules! stock {
    () => {
        "i.inventory_id, i.product_id, i.variant_id, i.on_hand, i.reserved,
               i.low_stock_threshold, i.event_count"
    };
}

/// Locks the stocks of which something is reserved for the order, with how much of each. The caller holds the order's row, so that nothing
/// more is reserved for it; a release by hand at the same moment is waited for. 1 round trip.
pub async fn lock_held_by(tx: &mut PgConnection, order_id: Uuid) -> Result<Vec<Held>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        stock: Stock,
        is_by_hand: bool,
        quantity: i32,
    }
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "-- inventory: lock what an order holds
        select ",
        stock!(),
        ", r.source = 'manual' as is_by_hand, r.quantity
        from shop.inventory i join shop.reservation r using (inventory_id)
        where r.order_id = $1
        order by i.product_id, i.variant_id nulls first
        for update of i, r"
    ))
    .bind(order_id)
    .fetch_all(tx)
    .await?;
    let mut all: Vec<Held> = Vec::with_capacity(rows.len());
    for Row { stock, is_by_hand, quantity } in rows {
        let (placed, by_hand) = if is_by_hand { (0, quantity) } else { (quantity, 0) };
        match all.last_mut() {
            Some(held) if held.stock.inventory_id == stock.inventory_id => {
                held.quantity += placed;
                held.by_hand += by_hand;
            }
            _ => all.push(Held { stock, quantity: placed, by_hand }),
        }
    }
    Ok(all)
}

/// A stock, locked, and the business time.
#[derive(sqlx::FromRow)]
struct Locked {
    #[sqlx(flatten)]
    stock: Stock,
    now: Time,
}

/// A product that was not deleted, locked `for share`, and a stock of it, locked.
pub(super) struct WithProduct {
    pub(super) has_variants: bool,
    /// `None`: there is no such variant.
    pub(super) stock: Option<Stock>,
    pub(super) now: Time,
}

/// Locks a product and then its stock, so that the product gets no variants meanwhile: its own stock would then be out of reach. Before both, it locks
/// the order `for share`, if one is given, and answers its status. A part is `None` if there is no such product or order. 1 round trip.
pub(super) async fn lock_with_product(
    tx: &mut PgConnection,
    product_id: Uuid,
    variant_id: Option<Uuid>,
    order_id: Option<Uuid>,
) -> Result<(Option<WithProduct>, Option<String>), sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        order_status: Option<String>,
        has_variants: Option<bool>,
        inventory_id: Option<Uuid>,
        on_hand: Option<i32>,
        reserved: Option<i32>,
        low_stock_threshold: Option<i32>,
        event_count: Option<i64>,
        now: Time,
    }
    let row: Row = sqlx::query_as(LOCK_WITH_PRODUCT)
        .bind(product_id)
        .bind(variant_id)
        .bind(order_id)
        .fetch_one(tx)
        .await?;
    let stock = || {
        Some(Stock {
            inventory_id: row.inventory_id?,
            product_id,
            variant_id,
            on_hand: row.on_hand?,
            reserved: row.reserved?,
            low_stock_threshold: row.low_stock_threshold?,
            event_count: row.event_count?,
        })
    };
    let product = row.has_variants.map(|has_variants| WithProduct {
        has_variants,
        stock: stock(),
        now: row.now,
    });
    Ok((product, row.order_status))
}

/// Each part reads the one before, so that the rows are locked in this order: order, product, stock.
const LOCK_WITH_PRODUCT: &str = r#"-- inventory: lock a product and its stock
    with placed as materialized (
        select status from shop."order" where order_id = $3 for share
    ), waited as materialized (
        select (select status from placed) as order_status
    ), known as materialized (
        select p.product_id, p.has_variants from waited, shop.product p
        where p.product_id = $1 and p.deleted_at is null for share of p
    ), stock as materialized (
        select i.inventory_id, i.on_hand, i.reserved, i.low_stock_threshold, i.event_count
        from known join shop.inventory i using (product_id)
        where i.variant_id is not distinct from $2 for update of i
    )
    select waited.order_status, known.has_variants, stock.*, saga.now() as now
    from waited left join known on true left join stock on true"#;

/// Locks the stock with this id. 1 round trip.
pub(super) async fn lock(
    tx: &mut PgConnection,
    inventory_id: Uuid,
) -> Result<(Stock, Time), sqlx::Error> {
    let locked: Locked = sqlx::query_as(concat!(
        "-- inventory: lock by id
        select ",
        stock!(),
        ", saga.now() as now
        from shop.inventory i where inventory_id = $1
        for update"
    ))
    .bind(inventory_id)
    .fetch_one(tx)
    .await?;
    Ok((locked.stock, locked.now))
}

/// The stocks of a product from which orders are served: those of its variants, or its own if it has none. 1 round trip.
pub async fn stock_in_use(
    connection: &mut PgConnection,
    product_id: Uuid,
) -> Result<Vec<Stock>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- inventory: in use
        select ",
        stock!(),
        "
        from shop.inventory i join shop.product p using (product_id)
        where i.product_id = $1 and (i.variant_id is not null) = p.has_variants
        order by i.variant_id nulls first"
    ))
    .bind(product_id)
    .fetch_all(connection)
    .await
}

/// All stocks of a product, without a lock: those of its variants, and its own, which stays for its audit after the product has got variants.
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

/// The name of the product that a stock is of, and that of the variant if it is of one. The product may be deleted. 1 round trip.
pub(crate) async fn name_of(
    connection: &mut PgConnection,
    inventory_id: Uuid,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "-- inventory: name
        select case when v.name is null then p.name else p.name || ', ' || v.name end
        from shop.inventory i
        join shop.product p using (product_id)
        left join shop.product_variant v using (variant_id)
        where i.inventory_id = $1",
    )
    .bind(inventory_id)
    .fetch_one(connection)
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
