//! addItemToCart.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    CartView,
    lock::{self, LockedCart},
    view::view,
};
use crate::{
    events::{DomainEvent, Told, tell},
    money::Money,
    refusal::refusals,
    shop::{
        Context,
        record::{Making, insert_events},
    },
};

/// The command.
#[derive(Debug, Clone)]
pub struct AddItem {
    /// The customer, or the guest.
    pub customer_id: Uuid,
    /// The item.
    pub product_id: Uuid,
    /// Which variant; needed where the product has some, and only there.
    pub variant_id: Option<Uuid>,
    /// How many more, at least 1.
    pub quantity: i32,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedItem {
    /// The cart with it.
    pub cart: CartView,
    /// Whether fewer were put in than asked for, because no more are available.
    pub capped: bool,
}

refusals! {
    /// Why nothing was put in.
    #[derive(Debug, thiserror::Error)]
    pub enum AddItemRefusal {
        /// Unknown, being erased, or a guest whose cart was merged.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// No such product, or no such variant of it.
        #[error("there is no such product or variant")]
        ProductNotFound => NotFound "product_not_found",
        /// It is not on sale.
        #[error("the product is not on sale")]
        ProductInactive => Conflict "product_inactive",
        /// The product has variants and none was named.
        #[error("the product has variants: name one")]
        VariantRequired => Unprocessable "variant_required" at "/variantId",
        /// None are available.
        #[error("the product is out of stock")]
        OutOfStock => Conflict "out_of_stock",
        /// Less than 1, more than a line takes, or more lines than a cart takes.
        #[error("a cart takes 1 to {most_per_line} of a product and {most_lines} lines")]
        InvalidQuantity {
            /// The most of one product.
            most_per_line: i32,
            /// The most lines.
            most_lines: usize,
        } => Unprocessable "invalid_quantity" at "/quantity",
        /// An order is being placed from this cart.
        #[error("an order is being placed from this cart")]
        CheckoutInProgress => Conflict "checkout_in_progress",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    is_active: bool,
    has_variants: bool,
    price: Decimal,
    /// Null: no such variant.
    available: Option<i32>,
    /// How many lie in the cart already.
    quantity: i32,
    lines: i64,
}

/// Puts more of a product into the cart, as many as are available. 4 round trips: lock, find, put in and record, view; 1 more to start the saga that
/// watches the cart, if none does.
pub async fn add_item(
    ctx: &mut Context<'_>,
    command: &AddItem,
) -> Result<AddedItem, AddItemRefusal> {
    let (most_per_line, most_lines) = (ctx.shop.config.most_per_line, ctx.shop.config.most_lines);
    let invalid = || AddItemRefusal::InvalidQuantity { most_per_line, most_lines };
    if !(1..=most_per_line).contains(&command.quantity) {
        return Err(invalid());
    }
    let cart = lock::of_customer(ctx, command.customer_id)
        .await?
        .ok_or(AddItemRefusal::CustomerNotFound)?;
    ctx.learn_now(cart.now);
    if cart.checkout_order_id.is_some() {
        return Err(AddItemRefusal::CheckoutInProgress);
    }
    let (found, available) = find(ctx, cart.cart_id, command).await?;
    if found.quantity == 0 && found.lines >= i64::try_from(most_lines).unwrap_or(i64::MAX) {
        return Err(invalid());
    }
    let wanted = found.quantity.saturating_add(command.quantity);
    let quantity = wanted.min(available).min(most_per_line);
    let added = quantity - found.quantity;
    // What lay in the cart before is never taken out, even if less is available now.
    if added > 0 {
        let told = tell([DomainEvent::ItemAddedToCart {
            cart_id: cart.cart_id,
            customer_id: cart.customer_id,
            product_id: command.product_id,
            variant_id: command.variant_id,
            quantity: added,
            unit_price: Money::stored(found.price, ctx.shop.config.currency.code())?,
            added_at: cart.now,
            unwatched_for: cart.unwatched_for(ctx.shop),
        }]);
        put(ctx, &cart, command, quantity, found.price, told).await?;
    }
    Ok(AddedItem { cart: view(ctx.shop, ctx, cart.cart_id).await?, capped: quantity < wanted })
}

async fn find(
    tx: &mut PgConnection,
    cart_id: Uuid,
    command: &AddItem,
) -> Result<(Found, i32), AddItemRefusal> {
    let found: Option<Found> = sqlx::query_as(
        "-- cart: find what to add
        select p.status = 'active' as is_active, p.has_variants,
               coalesce(v.price, p.price) as price, s.on_hand - s.reserved as available,
               coalesce((select quantity from shop.cart_item
                         where cart_id = $1 and product_id = $2 and removed_at is null
                           and variant_id is not distinct from $3), 0) as quantity,
               (select count(*) from shop.cart_item
                where cart_id = $1 and removed_at is null) as lines
        from shop.product p
        left join shop.product_variant v on v.variant_id = $3 and v.product_id = p.product_id
        left join shop.inventory s
            on s.product_id = p.product_id and s.variant_id is not distinct from $3
        where p.product_id = $2 and p.deleted_at is null",
    )
    .bind(cart_id)
    .bind(command.product_id)
    .bind(command.variant_id)
    .fetch_optional(tx)
    .await?;
    let found = found.ok_or(AddItemRefusal::ProductNotFound)?;
    if found.has_variants && command.variant_id.is_none() {
        return Err(AddItemRefusal::VariantRequired);
    }
    let available = found.available.ok_or(AddItemRefusal::ProductNotFound)?;
    if !found.is_active {
        return Err(AddItemRefusal::ProductInactive);
    }
    if available == 0 {
        return Err(AddItemRefusal::OutOfStock);
    }
    Ok((found, available))
}

/// Writes the item's new quantity and price, and records that. 1 round trip, and that of the start.
async fn put(
    ctx: &mut Context<'_>,
    cart: &LockedCart,
    command: &AddItem,
    quantity: i32,
    price: Decimal,
    told: Told,
) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(PUT_IN)
        .bind(cart.cart_id)
        .bind(Uuid::now_v7())
        .bind(command.product_id)
        .bind(command.variant_id)
        .bind(quantity)
        .bind(price)
        .bind(told.count())
        .bind(cart.now);
    ctx.record_by(Making { statement, counts: None }, told.after(cart.event_count)).await
}

const PUT_IN: &str = concat!(
    "-- cart: put in
    with touched as (
        update shop.cart set version = version + 1, event_count = event_count + $7,
            last_activity_at = $8, is_watched = true
        where cart_id = $1
    ), recorded as (
        ",
    insert_events!(
        "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17", "$18", "$19", "$20"
    ),
    "
    )
    insert into shop.cart_item
        (cart_item_id, cart_id, product_id, variant_id, quantity, unit_price, added_at)
    values ($2, $1, $3, $4, $5, $6, $8)
    on conflict (cart_id, product_id, variant_id) where removed_at is null
    do update set quantity = excluded.quantity, unit_price = excluded.unit_price"
);
