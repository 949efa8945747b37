//! updateCartItemQuantity, removeItemFromCart, restoreCartItem, clearCart.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    AddedItem, CartView,
    lock::{self, LockedCart},
    view::view,
};
use crate::{
    events::{DomainEvent, tell},
    money::Money,
    refusal::refusals,
    shop::{Context, Shop},
};

/// Which item of whose cart.
#[derive(Debug, Clone, Copy)]
pub struct ItemOf {
    /// The customer or guest who asks; only their own cart is found.
    pub customer_id: Uuid,
    /// The cart.
    pub cart_id: Uuid,
    /// The item.
    pub cart_item_id: Uuid,
}

refusals! {
    /// Why a cart was not changed.
    #[derive(Debug, thiserror::Error)]
    pub enum ChangeCartRefusal {
        /// It is unknown or belongs to another customer.
        #[error("there is no such cart")]
        CartNotFound => NotFound "cart_not_found",
        /// Not in this cart; restoring: not removed, or longer ago than ten minutes.
        #[error("there is no such item in this cart")]
        ItemNotInCart => NotFound "item_not_in_cart",
        /// More than are available.
        #[error("only {available} are available")]
        QuantityExceedsStock {
            /// How many can be had.
            available: i32,
        } => Conflict "quantity_exceeds_stock",
        /// Negative, or more than a line takes.
        #[error("a cart takes 0 to {most_per_line} of a product")]
        InvalidQuantity {
            /// The most of one product.
            most_per_line: i32,
        } => Unprocessable "invalid_quantity" at "/quantity",
        /// Restoring: the cart has as many lines as it takes.
        #[error("a cart takes {most_lines} lines")]
        CartFull {
            /// The most lines.
            most_lines: usize,
        } => Unprocessable "invalid_quantity",
        /// An order is being placed from this cart.
        #[error("an order is being placed from this cart")]
        CheckoutInProgress => Conflict "checkout_in_progress",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

#[derive(sqlx::FromRow)]
struct Item {
    product_id: Uuid,
    variant_id: Option<Uuid>,
    quantity: i32,
    available: i32,
    price: Decimal,
    /// Restoring: how many of the same product lie in the cart again.
    again: i32,
    /// How many lines the cart has.
    lines: i64,
}

/// Sets how many of an item are wanted; 0 removes it. 5 round trips.
pub async fn update_item_quantity(
    ctx: &mut Context<'_>,
    of: ItemOf,
    quantity: i32,
) -> Result<CartView, ChangeCartRefusal> {
    let most_per_line = ctx.shop.config.most_per_line;
    if !(0..=most_per_line).contains(&quantity) {
        return Err(ChangeCartRefusal::InvalidQuantity { most_per_line });
    }
    let cart = locked(ctx, of.customer_id, of.cart_id).await?;
    let item = find(ctx.shop, ctx, of, false).await?;
    if quantity == 0 {
        return removed(ctx, &cart, of, &item).await;
    }
    // Fewer than before is always allowed, even if still more than can be had now.
    if quantity > item.quantity && quantity > item.available {
        return Err(ChangeCartRefusal::QuantityExceedsStock { available: item.available });
    }
    if quantity != item.quantity {
        let told = tell([DomainEvent::CartItemQuantityUpdated {
            cart_id: cart.cart_id,
            cart_item_id: of.cart_item_id,
            product_id: item.product_id,
            old_quantity: item.quantity,
            new_quantity: quantity,
            updated_at: cart.now,
        }]);
        sqlx::query(
            "-- cart: change a quantity
            with touched as (
                update shop.cart set version = version + 1, event_count = event_count + $4,
                    last_activity_at = $5
                where cart_id = $1
            )
            update shop.cart_item set quantity = $3 where cart_item_id = $2",
        )
        .bind(cart.cart_id)
        .bind(of.cart_item_id)
        .bind(quantity)
        .bind(told.count())
        .bind(cart.now)
        .execute(&mut **ctx)
        .await?;
        ctx.record(told.after(cart.event_count)).await?;
    }
    Ok(view(ctx.shop, ctx, cart.cart_id).await?)
}

/// Takes an item out; it can be taken back for ten minutes, if fewer are taken out after it than a cart has lines. 5 round trips.
pub async fn remove_item(ctx: &mut Context<'_>, of: ItemOf) -> Result<CartView, ChangeCartRefusal> {
    let cart = locked(ctx, of.customer_id, of.cart_id).await?;
    let item = find(ctx.shop, ctx, of, false).await?;
    removed(ctx, &cart, of, &item).await
}

async fn removed(
    ctx: &mut Context<'_>,
    cart: &LockedCart,
    of: ItemOf,
    item: &Item,
) -> Result<CartView, ChangeCartRefusal> {
    let told = tell([DomainEvent::ItemRemovedFromCart {
        cart_id: cart.cart_id,
        product_id: item.product_id,
        variant_id: item.variant_id,
        removed_at: cart.now,
    }]);
    sqlx::query(
        "-- cart: take out
        with touched as (
            update shop.cart set version = version + 1, event_count = event_count + $4,
                last_activity_at = $5
            where cart_id = $1
        ), forgotten as (
            delete from shop.cart_item
            where cart_id = $1 and removed_at is not null and not is_withdrawn
              and (removed_at <= $5 - make_interval(secs => $3)
                   or cart_item_id not in (
                       select cart_item_id from shop.cart_item
                       where cart_id = $1 and removed_at is not null and not is_withdrawn
                       order by removed_at desc limit $6))
        )
        update shop.cart_item set removed_at = $5 where cart_item_id = $2",
    )
    .bind(cart.cart_id)
    .bind(of.cart_item_id)
    .bind(ctx.shop.config.restore_within.as_secs_f64())
    .bind(told.count())
    .bind(cart.now)
    .bind(i64::try_from(ctx.shop.config.most_lines).unwrap_or(i64::MAX) - 1)
    .execute(&mut **ctx)
    .await?;
    ctx.record(told.after(cart.event_count)).await?;
    Ok(view(ctx.shop, ctx, cart.cart_id).await?)
}

/// Takes back an item that was removed in the last ten minutes, or because its product was not sold for a while, as many as are available now; the
/// same product put in meanwhile is added to, at the lower of both prices. 5 round trips.
pub async fn restore_item(
    ctx: &mut Context<'_>,
    of: ItemOf,
) -> Result<AddedItem, ChangeCartRefusal> {
    let cart = locked(ctx, of.customer_id, of.cart_id).await?;
    let item = find(ctx.shop, ctx, of, true).await?;
    let most_lines = ctx.shop.config.most_lines;
    if item.again == 0 && item.lines >= i64::try_from(most_lines).unwrap_or(i64::MAX) {
        return Err(ChangeCartRefusal::CartFull { most_lines });
    }
    let most = item.available.min(ctx.shop.config.most_per_line);
    let wanted = item.quantity.saturating_add(item.again);
    let quantity = wanted.min(most);
    let added = quantity - item.again;
    if added <= 0 {
        return Err(ChangeCartRefusal::QuantityExceedsStock { available: item.available });
    }
    let told = tell([DomainEvent::ItemAddedToCart {
        cart_id: cart.cart_id,
        customer_id: cart.customer_id,
        product_id: item.product_id,
        variant_id: item.variant_id,
        quantity: added,
        unit_price: Money::stored(item.price, ctx.shop.config.currency.code())?,
        added_at: cart.now,
        unwatched_for: cart.unwatched_for(ctx.shop),
    }]);
    sqlx::query(
        "-- cart: take back
        with touched as (
            update shop.cart set version = version + 1, event_count = event_count + $6,
                last_activity_at = $7, is_watched = true
            where cart_id = $1
        ), again as (
            update shop.cart_item a
            set quantity = $5, unit_price = least(a.unit_price, r.unit_price)
            from shop.cart_item r
            where r.cart_item_id = $2 and a.cart_id = $1 and a.product_id = $3
              and a.variant_id is not distinct from $4 and a.removed_at is null
            returning a.cart_item_id
        ), gone as (
            delete from shop.cart_item
            where cart_item_id = $2 and exists (select from again)
        )
        update shop.cart_item set removed_at = null, is_withdrawn = false, quantity = $5
        where cart_item_id = $2 and not exists (select from again)",
    )
    .bind(cart.cart_id)
    .bind(of.cart_item_id)
    .bind(item.product_id)
    .bind(item.variant_id)
    .bind(quantity)
    .bind(told.count())
    .bind(cart.now)
    .execute(&mut **ctx)
    .await?;
    ctx.record(told.after(cart.event_count)).await?;
    Ok(AddedItem { cart: view(ctx.shop, ctx, cart.cart_id).await?, capped: quantity < wanted })
}

/// Empties the cart for good. 4 round trips; an empty one stays as it is.
pub async fn clear_cart(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    cart_id: Uuid,
) -> Result<CartView, ChangeCartRefusal> {
    let cart = locked(ctx, customer_id, cart_id).await?;
    let told = tell([DomainEvent::CartCleared {
        cart_id: cart.cart_id,
        customer_id,
        reason: "cleared_by_customer",
        cleared_at: cart.now,
    }]);
    let cleared: i64 = sqlx::query_scalar(
        "-- cart: clear
        with cleared as (
            delete from shop.cart_item where cart_id = $1 returning 1
        ), counted as (
            select count(*) as items from cleared
        ), touched as (
            update shop.cart set version = version + 1, event_count = event_count + $2,
                last_activity_at = $3
            from counted where cart_id = $1 and items > 0
        )
        select items from counted",
    )
    .bind(cart.cart_id)
    .bind(told.count())
    .bind(cart.now)
    .fetch_one(&mut **ctx)
    .await?;
    if cleared > 0 {
        ctx.record(told.after(cart.event_count)).await?;
    }
    Ok(view(ctx.shop, ctx, cart.cart_id).await?)
}

/// The caller's own cart, locked and open for changes.
async fn locked(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    cart_id: Uuid,
) -> Result<LockedCart, ChangeCartRefusal> {
    let cart = lock::of_customer(ctx, customer_id)
        .await?
        .filter(|cart| cart.cart_id == cart_id)
        .ok_or(ChangeCartRefusal::CartNotFound)?;
    ctx.learn_now(cart.now);
    match cart.checkout_order_id {
        Some(_) => Err(ChangeCartRefusal::CheckoutInProgress),
        None => Ok(cart),
    }
}

/// The item, in the cart or (`removed`) taken out of it and restorable.
async fn find(
    shop: &Shop,
    tx: &mut PgConnection,
    of: ItemOf,
    removed: bool,
) -> Result<Item, ChangeCartRefusal> {
    let item: Option<Item> = sqlx::query_as(
        "-- cart: find an item
        select i.product_id, i.variant_id, i.quantity, coalesce(v.price, p.price) as price,
               case when p.status = 'active' and p.deleted_at is null
                         and p.has_variants = (i.variant_id is not null)
                    then s.on_hand - s.reserved else 0 end as available,
               coalesce((select a.quantity from shop.cart_item a
                         where a.cart_id = i.cart_id and a.product_id = i.product_id
                           and a.variant_id is not distinct from i.variant_id
                           and a.removed_at is null), 0) as again,
               (select count(*) from shop.cart_item
                where cart_id = $2 and removed_at is null) as lines
        from shop.cart_item i
        join shop.product p using (product_id)
        left join shop.product_variant v using (variant_id)
        join shop.inventory s
            on s.product_id = i.product_id and s.variant_id is not distinct from i.variant_id
        where i.cart_item_id = $1 and i.cart_id = $2
          and case when $3 then i.is_withdrawn or i.removed_at > saga.now() - make_interval(secs => $4)
                   else i.removed_at is null end",
    )
    .bind(of.cart_item_id)
    .bind(of.cart_id)
    .bind(removed)
    .bind(shop.config.restore_within.as_secs_f64())
    .fetch_optional(tx)
    .await?;
    item.ok_or(ChangeCartRefusal::ItemNotInCart)
}
