//! addItemToCart.

use rust_decimal::Decimal;
use uuid::Uuid;

use super::{
    CartView,
    lock::{self, LockedCart},
    view::{Contents, NewItem, Row, rows},
};
use crate::{
    events::{DomainEvent, tell},
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

/// The product or variant that is to be put in.
#[derive(sqlx::FromRow)]
struct Wanted {
    is_active: bool,
    has_variants: bool,
    wanted_name: String,
    wanted_price: Decimal,
    /// Null: no such variant.
    wanted_available: Option<i32>,
}

/// Puts more of a product into the cart, as many as are available. 3 round trips: lock, read the product and the cart, put in and record; 1 more to
/// start the saga that watches the cart, if none does.
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
    let (mut contents, wanted, available) = read(ctx, cart.cart_id, command).await?;
    let quantity_before = contents.quantity(command.product_id, command.variant_id);
    if quantity_before == 0 && contents.lines() >= most_lines {
        return Err(invalid());
    }
    let asked = quantity_before.saturating_add(command.quantity);
    let quantity = asked.min(available).min(most_per_line);
    let added = quantity - quantity_before;
    // What lay in the cart before is never taken out, even if less is available now.
    if added > 0 {
        let item = NewItem {
            cart_item_id: Uuid::now_v7(),
            product_id: command.product_id,
            variant_id: command.variant_id,
            name: wanted.wanted_name,
            quantity,
            price: wanted.wanted_price,
            available,
        };
        put(ctx, &cart, &item, added).await?;
        contents.put(item);
    }
    Ok(AddedItem { cart: contents.view(ctx.shop)?, capped: quantity < asked })
}

/// The cart's contents, and the product with how many of it are available. 1 round trip.
async fn read(
    ctx: &mut Context<'_>,
    cart_id: Uuid,
    command: &AddItem,
) -> Result<(Contents, Wanted, i32), AddItemRefusal> {
    #[derive(sqlx::FromRow)]
    struct Read {
        #[sqlx(flatten)]
        wanted: Wanted,
        #[sqlx(flatten)]
        row: Row,
    }
    let read: Vec<Read> = sqlx::query_as(concat!(
        "-- cart: read a product and the cart
        with wanted as materialized (
            select p.status = 'active' as is_active, p.has_variants,
                   case when v.name is null then p.name else p.name || ', ' || v.name end as wanted_name,
                   coalesce(v.price, p.price) as wanted_price,
                   s.on_hand - s.reserved as wanted_available
            from shop.product p
            left join shop.product_variant v on v.variant_id = $4 and v.product_id = p.product_id
            left join shop.inventory s
                on s.product_id = p.product_id and s.variant_id is not distinct from $4
            where p.product_id = $3 and p.deleted_at is null
        )
        ",
        rows!("wanted, shop.cart c", ", wanted.*", "c.cart_id = $2")
    ))
    .bind(ctx.shop.config.restore_within.as_secs_f64())
    .bind(cart_id)
    .bind(command.product_id)
    .bind(command.variant_id)
    .fetch_all(&mut **ctx)
    .await?;
    let (mut wanted, rows): (Vec<_>, Vec<_>) =
        read.into_iter().map(|read| (read.wanted, read.row)).unzip();
    let wanted = wanted.pop().ok_or(AddItemRefusal::ProductNotFound)?;
    if wanted.has_variants && command.variant_id.is_none() {
        return Err(AddItemRefusal::VariantRequired);
    }
    let available = wanted.wanted_available.ok_or(AddItemRefusal::ProductNotFound)?;
    if !wanted.is_active {
        return Err(AddItemRefusal::ProductInactive);
    }
    if available == 0 {
        return Err(AddItemRefusal::OutOfStock);
    }
    Ok((Contents(rows), wanted, available))
}

/// Writes the item's new quantity, and records how many were added. An item that lies in the cart already keeps the lower price: an order asks again if
/// the price of any piece has risen. 1 round trip, and that of the start.
async fn put(
    ctx: &mut Context<'_>,
    cart: &LockedCart,
    item: &NewItem,
    added: i32,
) -> Result<(), sqlx::Error> {
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
    let statement = sqlx::query(PUT_IN)
        .bind(cart.cart_id)
        .bind(item.cart_item_id)
        .bind(item.product_id)
        .bind(item.variant_id)
        .bind(item.quantity)
        .bind(item.price)
        .bind(told.count())
        .bind(cart.now);
    ctx.record_by(Making { statement, counts: false }, told.after(cart.event_count)).await
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
    do update set quantity = excluded.quantity,
        unit_price = least(cart_item.unit_price, excluded.unit_price)"
);
