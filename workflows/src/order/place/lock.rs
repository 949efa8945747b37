//! The rows that placing an order locks and reads: customer and cart, then the stock of each line.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Missing, PlaceOrder, PlaceOrderRefusal};
use crate::{
    events::LineItem,
    inventory::Stock,
    money::{InvalidMoney, Money},
    order::Address,
    shop::Shop,
};

/// The data that is read under the locks of customer and cart.
pub(super) struct Checkout {
    pub(super) cart_id: Uuid,
    pub(super) cart_version: i64,
    pub(super) address: Address,
    pub(super) method: String,
    pub(super) now: DateTime<Utc>,
}

/// Locks the customer, then the cart, and reads address and method. 1 round trip.
pub(super) async fn cart(
    tx: &mut PgConnection,
    command: &PlaceOrder,
) -> Result<Checkout, PlaceOrderRefusal> {
    #[derive(sqlx::FromRow)]
    struct Row {
        is_verified: bool,
        cart_id: Option<Uuid>,
        version: Option<i64>,
        checkout_order_id: Option<Uuid>,
        #[sqlx(flatten)]
        address: MaybeAddress,
        method: Option<String>,
        now: DateTime<Utc>,
    }
    let row: Option<Row> = sqlx::query_as(
        "-- place: lock customer and cart
        with buyer as materialized (
            select customer_id, email_verified_at is not null as is_verified from shop.customer
            where customer_id = $1 and frozen_at is null
            for share
        ), basket as materialized (
            select c.customer_id, c.cart_id, c.version, c.checkout_order_id
            from shop.cart c join buyer using (customer_id)
            for update of c
        )
        select is_verified, cart_id, version, checkout_order_id, a.recipient_name, a.street,
               a.city, a.state, a.postal_code, a.country,
               case when m.kind = 'card' then 'card:' || m.brand else m.kind end as method,
               saga.now() as now
        from buyer
        left join basket using (customer_id)
        left join shop.shipping_address a
            on a.address_id = $2 and a.customer_id = $1 and a.removed_at is null
        left join shop.payment_method m
            on m.payment_method_id = $3 and m.customer_id = $1 and m.removed_at is null",
    )
    .bind(command.customer_id)
    .bind(command.shipping_address_id)
    .bind(command.payment_method_id)
    .fetch_optional(tx)
    .await?;
    let row = row.ok_or(PlaceOrderRefusal::NotFound(Missing::Customer))?;
    if !row.is_verified {
        return Err(PlaceOrderRefusal::EmailNotVerified);
    }
    if let Some(order_id) = row.checkout_order_id {
        return Err(PlaceOrderRefusal::CheckoutInProgress { order_id });
    }
    let address = row.address.known().ok_or(PlaceOrderRefusal::NotFound(Missing::Address))?;
    let method = row.method.ok_or(PlaceOrderRefusal::NotFound(Missing::PaymentMethod))?;
    let (cart_id, cart_version) =
        row.cart_id.zip(row.version).ok_or(PlaceOrderRefusal::CartEmpty)?;
    Ok(Checkout { cart_id, cart_version, address, method, now: row.now })
}

#[derive(sqlx::FromRow)]
struct MaybeAddress {
    recipient_name: Option<String>,
    street: Option<String>,
    city: Option<String>,
    state: Option<String>,
    postal_code: Option<String>,
    country: Option<String>,
}

impl MaybeAddress {
    fn known(self) -> Option<Address> {
        Some(Address {
            recipient_name: self.recipient_name?,
            street: self.street?,
            city: self.city?,
            state: self.state?,
            postal_code: self.postal_code?,
            country: self.country?,
        })
    }
}

/// A line of the cart with its stock, locked.
pub(super) struct Line {
    pub(super) index: usize,
    pub(super) cart_item_id: Uuid,
    pub(super) price_when_added: Money,
    pub(super) is_sold: bool,
    pub(super) item: LineItem,
    pub(super) stock: Stock,
}

/// The cart's lines with their stock, locked by (product, variant). 1 round trip.
pub(super) async fn lines(
    shop: &Shop,
    tx: &mut PgConnection,
    checkout: &Checkout,
) -> Result<Vec<Line>, PlaceOrderRefusal> {
    #[derive(sqlx::FromRow)]
    struct Row {
        cart_item_id: Uuid,
        quantity: i32,
        price_when_added: Decimal,
        name: String,
        price: Decimal,
        is_sold: bool,
        #[sqlx(flatten)]
        stock: Stock,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "-- place: lock the stock of the cart's lines
        select c.cart_item_id, c.quantity, c.unit_price as price_when_added,
               case when v.name is null then p.name else p.name || ', ' || v.name end as name,
               coalesce(v.price, p.price) as price,
               p.status = 'active' and p.deleted_at is null
                   and p.has_variants = (c.variant_id is not null) as is_sold,
               i.inventory_id, i.product_id, i.variant_id, i.on_hand, i.reserved,
               i.low_stock_threshold, i.event_count
        from shop.cart_item c
        join shop.product p using (product_id)
        left join shop.product_variant v using (variant_id)
        join shop.inventory i
            on i.product_id = c.product_id and i.variant_id is not distinct from c.variant_id
        where c.cart_id = $1 and c.removed_at is null
        order by i.product_id, i.variant_id nulls first
        for update of i",
    )
    .bind(checkout.cart_id)
    .fetch_all(tx)
    .await?;
    if rows.is_empty() {
        return Err(PlaceOrderRefusal::CartEmpty);
    }
    let mut cart_order: Vec<Uuid> = rows.iter().map(|row| row.cart_item_id).collect();
    cart_order.sort_unstable();
    rows.into_iter()
        .map(|row| {
            let unit_price = Money::new(row.price, shop.config.currency).map_err(damaged)?;
            let item = LineItem {
                product_id: row.stock.product_id,
                variant_id: row.stock.variant_id,
                name: row.name,
                quantity: row.quantity,
                unit_price,
                line_total: unit_price.times(row.quantity).ok_or_else(too_large)?,
            };
            Ok(Line {
                index: cart_order.binary_search(&row.cart_item_id).unwrap_or_default(),
                cart_item_id: row.cart_item_id,
                price_when_added: Money::new(row.price_when_added, shop.config.currency)
                    .map_err(damaged)?,
                is_sold: row.is_sold,
                item,
                stock: row.stock,
            })
        })
        .collect()
}

pub(super) fn damaged(invalid: InvalidMoney) -> PlaceOrderRefusal {
    PlaceOrderRefusal::Database(sqlx::Error::Decode(Box::new(invalid)))
}

/// The limits on prices, quantities and lines exclude it.
pub(super) fn too_large() -> PlaceOrderRefusal {
    damaged(InvalidMoney::TooLarge)
}
