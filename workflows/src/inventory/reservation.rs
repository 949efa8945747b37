//! reserveInventory, and the end of a reservation whose time is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    MovementKind, Stock,
    commands::{InventoryRefusal, Item, moved, stock_of},
    store::{lock, lock_with_product},
};
use crate::shop::Context;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The stock with the reservation.
    pub stock: Stock,
    /// When the stock is released by itself, unless its order ends before.
    pub expires_at: DateTime<Utc>,
}

/// Reserves stock for an order by hand. It adds to what was reserved by hand for that order before, and holds all of that for the whole time of a
/// reservation from now on. 4 round trips: lock the order, the product and the stock; reserve; write and record; start the saga that ends the
/// reservation.
pub async fn reserve_inventory(
    ctx: &mut Context<'_>,
    item: Item,
    quantity: i32,
    order_id: Uuid,
) -> Result<Reserved, InventoryRefusal> {
    if quantity < 1 {
        return Err(InventoryRefusal::NegativeQuantity);
    }
    let (found, order) =
        lock_with_product(ctx, item.product_id, item.variant_id, Some(order_id)).await?;
    let stock = stock_of(ctx, item, found)?;
    let order = order.ok_or(InventoryRefusal::OrderNotFound)?;
    if !matches!(order.as_str(), "placing" | "pending" | "confirmed") {
        return Err(InventoryRefusal::OrderEnded(order));
    }
    if quantity > stock.available() {
        return Err(InventoryRefusal::InsufficientStock { available: stock.available() });
    }
    let lifetime = ctx.shop.config.reservation_lifetime;
    let expires_at: DateTime<Utc> = sqlx::query_scalar(
        "-- inventory: reserve by hand
        insert into shop.reservation as r
            (order_id, inventory_id, source, quantity, created_at, expires_at)
        values ($1, $2, 'manual', $3, $4, $4::timestamptz + make_interval(secs => $5))
        on conflict (order_id, inventory_id, source)
        do update set quantity = r.quantity + excluded.quantity,
            expires_at = greatest(r.expires_at, excluded.expires_at)
        returning expires_at",
    )
    .bind(order_id)
    .bind(stock.inventory_id)
    .bind(quantity)
    .bind(ctx.now().await?)
    .bind(lifetime.as_secs_f64())
    .fetch_one(&mut **ctx)
    .await?;
    let kind = MovementKind::ReserveByHand(quantity, lifetime);
    let stock = moved(ctx, stock, kind, "reserved by hand".to_owned(), Some(order_id)).await?;
    Ok(Reserved { stock, expires_at })
}

/// Releases what people have reserved of a stock for an order, if its time is over. `None`: nothing is reserved any more. Otherwise the time that is
/// left, because more was reserved meanwhile. A release by hand or the end of the order at the same moment is waited for, and then there is
/// nothing to release. 2 round trips, 3 if it releases.
///
/// # Errors
/// The database's.
pub async fn expire_reservation(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    inventory_id: Uuid,
) -> Result<Option<Duration>, sqlx::Error> {
    let (stock, now) = lock(ctx, inventory_id).await?;
    ctx.learn_now(now);
    let (freed, left_s): (Option<i32>, Option<f64>) = sqlx::query_as(
        "-- inventory: end a reservation
        with held as (
            select expires_at from shop.reservation
            where order_id = $1 and inventory_id = $2 and source = 'manual'
        ), freed as (
            delete from shop.reservation
            where order_id = $1 and inventory_id = $2 and source = 'manual' and expires_at <= $3
            returning quantity
        )
        select (select quantity from freed),
               (select extract(epoch from expires_at - $3)::float8 from held)",
    )
    .bind(order_id)
    .bind(inventory_id)
    .bind(now)
    .fetch_one(&mut **ctx)
    .await?;
    let Some(quantity) = freed else {
        return Ok(left_s.and_then(|left_s| Duration::try_from_secs_f64(left_s).ok()));
    };
    let kind = MovementKind::ReleaseByHand(quantity);
    moved(ctx, stock, kind, "reservation_expired".to_owned(), Some(order_id)).await?;
    Ok(None)
}
