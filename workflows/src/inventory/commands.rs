//! setInventoryQuantity, adjustInventory, releaseInventory.

use uuid::Uuid;

use super::{
    Movement, MovementKind, Stock,
    store::{WithProduct, lock_with_product},
    write_and_record,
};
use crate::{
    refusal::refusals,
    shop::Context,
    text::{self, BadField},
};

/// Which stock a command is about.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// The product.
    pub product_id: Uuid,
    /// The variant; needed where the product has variants, and only there.
    pub variant_id: Option<Uuid>,
}

refusals! {
    /// Why an inventory command was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum InventoryRefusal {
        /// No such product, or no such variant of it, or it was deleted.
        #[error("there is no such product or variant")]
        ProductNotFound => NotFound "product_not_found",
        /// Reserving: no such order.
        #[error("there is no such order")]
        OrderNotFound => NotFound "order_not_found",
        /// Reserving: the order has ended.
        #[error("an order that is {0} holds no stock")]
        OrderEnded(String) => Conflict "invalid_status_transition",
        /// The product has variants and none was named.
        #[error("the product has variants: name one")]
        VariantRequired => Unprocessable "variant_required" at "/variantId",
        /// A quantity below what is allowed (setting: below 0; reserving, releasing: below 1).
        #[error("the quantity is too small")]
        NegativeQuantity => Unprocessable "negative_quantity" at "/quantity",
        /// The adjustment would leave fewer on hand than none, or than are reserved.
        #[error("{on_hand} are on hand and {reserved} reserved: the change would go below that")]
        NegativeStock {
            /// On hand now.
            on_hand: i32,
            /// Reserved now.
            reserved: i32,
        } => Conflict "negative_stock",
        /// The adjustment would leave more on hand than can be counted.
        #[error("{on_hand} are on hand: there can be at most {}", i32::MAX)]
        TooMuchStock {
            /// On hand now.
            on_hand: i32,
        } => Conflict "too_much_stock",
        /// Setting fewer on hand than are reserved.
        #[error("{reserved} are reserved: fewer cannot be on hand")]
        BelowReserved {
            /// Reserved now.
            reserved: i32,
        } => Conflict "below_reserved",
        /// Fewer are available than are to be reserved.
        #[error("only {available} are available")]
        InsufficientStock {
            /// Available now.
            available: i32,
        } => Conflict "insufficient_stock",
        /// More are to be released than were reserved by hand.
        #[error("only {reserved} are reserved by hand")]
        QuantityExceedsReserved {
            /// Reserved by hand now.
            reserved: i64,
        } => Conflict "quantity_exceeds_reserved",
        /// The reason is missing or not fit to be kept.
        #[error(transparent)]
        InvalidReason(#[from] BadField),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Sets what is on hand. 2 round trips: lock the product and its stock; write and record.
pub async fn set_inventory_quantity(
    ctx: &mut Context<'_>,
    item: Item,
    quantity: i32,
    reason: &str,
) -> Result<Stock, InventoryRefusal> {
    let reason = text::field("reason", reason, 500)?;
    if quantity < 0 {
        return Err(InventoryRefusal::NegativeQuantity);
    }
    let stock = locked(ctx, item).await?;
    if quantity < stock.reserved {
        return Err(InventoryRefusal::BelowReserved { reserved: stock.reserved });
    }
    Ok(moved(ctx, stock, MovementKind::Set(quantity), reason, None).await?)
}

/// Changes what is on hand by a delta. 2 round trips.
pub async fn adjust_inventory(
    ctx: &mut Context<'_>,
    item: Item,
    adjustment: i32,
    reason: &str,
) -> Result<Stock, InventoryRefusal> {
    let reason = text::field("reason", reason, 500)?;
    let stock = locked(ctx, item).await?;
    let Stock { on_hand, reserved, .. } = stock;
    match on_hand.checked_add(adjustment) {
        Some(left) if left >= reserved => {}
        // The number on hand is never negative, so only an addition can overflow.
        None => return Err(InventoryRefusal::TooMuchStock { on_hand }),
        Some(_) => return Err(InventoryRefusal::NegativeStock { on_hand, reserved }),
    }
    Ok(moved(ctx, stock, MovementKind::Adjust(adjustment), reason, None).await?)
}

/// Gives back what was reserved by hand, oldest reservation first; never what an order's placement
/// holds. 3 round trips.
pub async fn release_inventory(
    ctx: &mut Context<'_>,
    item: Item,
    quantity: i32,
    reason: &str,
) -> Result<Stock, InventoryRefusal> {
    let reason = text::field("reason", reason, 500)?;
    if quantity < 1 {
        return Err(InventoryRefusal::NegativeQuantity);
    }
    let stock = locked(ctx, item).await?;
    let reserved: i64 = sqlx::query_scalar(
        "-- inventory: release by hand
        with held as materialized (
            select order_id, quantity,
                   sum(quantity) over (order by created_at, order_id) - quantity as before
            from shop.reservation where inventory_id = $1 and source = 'manual'
        ), total as (
            select coalesce(sum(quantity), 0)::bigint as reserved from held
        ), used_up as (
            delete from shop.reservation r using held h, total t
            where r.inventory_id = $1 and r.source = 'manual' and r.order_id = h.order_id
              and t.reserved >= $2 and h.before + h.quantity <= $2
        ), shortened as (
            update shop.reservation r set quantity = (h.before + h.quantity - $2)::int
            from held h, total t
            where r.inventory_id = $1 and r.source = 'manual' and r.order_id = h.order_id
              and t.reserved >= $2 and h.before < $2 and h.before + h.quantity > $2
        )
        select reserved from total",
    )
    .bind(stock.inventory_id)
    .bind(quantity)
    .fetch_one(&mut **ctx)
    .await?;
    if reserved < i64::from(quantity) {
        return Err(InventoryRefusal::QuantityExceedsReserved { reserved });
    }
    Ok(moved(ctx, stock, MovementKind::ReleaseByHand(quantity), reason, None).await?)
}

/// The stock, locked, of a product that was not deleted. The product is locked before it, `for share`. 1 round trip.
async fn locked(ctx: &mut Context<'_>, item: Item) -> Result<Stock, InventoryRefusal> {
    let (found, _) = lock_with_product(ctx, item.product_id, item.variant_id, None).await?;
    stock_of(ctx, item, found)
}

/// The stock that was locked with its product. `found` is `None` if there is no such product.
pub(super) fn stock_of(
    ctx: &mut Context<'_>,
    item: Item,
    found: Option<WithProduct>,
) -> Result<Stock, InventoryRefusal> {
    let found = found.ok_or(InventoryRefusal::ProductNotFound)?;
    if found.has_variants && item.variant_id.is_none() {
        return Err(InventoryRefusal::VariantRequired);
    }
    ctx.learn_now(found.now);
    found.stock.ok_or(InventoryRefusal::ProductNotFound)
}

/// Writes and records the change. 1 round trip, and those of what follows.
pub(super) async fn moved(
    ctx: &mut Context<'_>,
    before: Stock,
    kind: MovementKind,
    reason: String,
    order_id: Option<Uuid>,
) -> Result<Stock, sqlx::Error> {
    let actor = ctx.cause.actor.id();
    let movement = Movement { before, kind, actor, reason, order_id };
    let last = write_and_record(ctx, std::slice::from_ref(&movement)).await?;
    let (on_hand, reserved) = movement.after();
    let event_count = last.unwrap_or(movement.before.event_count);
    Ok(Stock { on_hand, reserved, event_count, ..movement.before })
}
