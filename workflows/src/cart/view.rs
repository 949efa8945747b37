//! A cart as its owner sees it, with the prices of the moment.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{entity_tag, lock};
use crate::{money::Money, shop::Shop};

/// A cart with its totals. Tax is known once there is an address, with the order.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CartView {
    /// The cart.
    pub cart_id: Uuid,
    /// The customer; a guest's id for a guest.
    pub customer_id: Uuid,
    /// The items, in the order in which they were put in.
    pub items: Vec<CartItemView>,
    /// The items that were removed and can be restored, and those that were removed because their product is not sold any more.
    pub removed_items: Vec<RemovedItemView>,
    /// The sum of the quantities.
    pub item_count: i32,
    /// The sum of the lines.
    pub subtotal: Money,
    /// Shipping at this subtotal; nothing for an empty cart.
    pub shipping_cost: Money,
    /// The order being placed from it; until that is decided, no change is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout_order_id: Option<Uuid>,
    /// Names this cart at these prices; give it to placeOrder as `If-Match` to accept them.
    #[serde(skip)]
    pub etag: String,
}

/// An item of a cart.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CartItemView {
    /// The item.
    pub cart_item_id: Uuid,
    /// The product.
    pub product_id: Uuid,
    /// Its variant; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<Uuid>,
    /// The product's name.
    pub name: String,
    /// How many.
    pub quantity: i32,
    /// The price of one now.
    pub unit_price: Money,
    /// The price of one when it was put in.
    pub price_when_added: Money,
    /// The price of all of them now.
    pub line_total: Money,
    /// How many can be had now; 0 where the product is not sold any more.
    pub available: i32,
}

/// An item that was removed. It can be taken back for some minutes, or when its product is sold again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedItemView {
    /// The item.
    pub cart_item_id: Uuid,
    /// The product.
    pub product_id: Uuid,
    /// Its variant; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<Uuid>,
    /// The product's name.
    pub name: String,
    /// How many it was.
    pub quantity: i32,
    /// The reason: `by_customer` or `not_sold`.
    pub removed: String,
    /// Until when it can be taken back. Absent if it was removed because its product is not sold: it can be taken back when that is on sale again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restorable_until: Option<DateTime<Utc>>,
}

/// The cart of a customer or guest; makes that of a customer who has none yet. `None`: unknown,
/// frozen, or a guest whose cart was merged or has expired. 1 round trip, 5 where the cart is made.
pub async fn get_cart(
    shop: &Shop,
    tx: &mut PgConnection,
    customer_id: Uuid,
) -> Result<Option<CartView>, sqlx::Error> {
    if let Some(cart) = get_carts(shop, tx, &[customer_id]).await?.remove(&customer_id) {
        return Ok(Some(cart));
    }
    match lock::of_customer(tx, customer_id).await? {
        Some(cart) => view(shop, tx, cart.cart_id).await.map(Some),
        None => Ok(None),
    }
}

/// A cart beside one of its items, or beside none.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    cart_id: Uuid,
    customer_id: Uuid,
    checkout_order_id: Option<Uuid>,
    version: i64,
    cart_item_id: Option<Uuid>,
    product_id: Option<Uuid>,
    variant_id: Option<Uuid>,
    name: Option<String>,
    quantity: Option<i32>,
    price: Option<Decimal>,
    price_when_added: Option<Decimal>,
    available: Option<i32>,
    removed: Option<String>,
    restorable_until: Option<DateTime<Utc>>,
}

/// The columns and tables of [`Row`], and those of a table beside it. `$1` is the time in which a removed item can be taken back.
macro_rules! rows {
    ($where:literal) => {
        rows!("shop.cart c", "", $where)
    };
    ($tables:literal, $columns:literal, $where:literal) => {
        concat!(
            "select c.cart_id, c.customer_id, c.checkout_order_id, c.version, item.*",
            $columns,
            "
        from ",
            $tables,
            "
        left join lateral (
            select i.cart_item_id, i.product_id, i.variant_id,
                   case when v.name is null then p.name else p.name || ', ' || v.name end as name,
                   i.quantity, coalesce(v.price, p.price) as price,
                   i.unit_price as price_when_added,
                   case when p.status = 'active' and p.deleted_at is null
                             and p.has_variants = (i.variant_id is not null)
                        then s.on_hand - s.reserved else 0 end as available,
                   case when i.is_withdrawn then 'not_sold'
                        when i.removed_at is not null then 'by_customer' end as removed,
                   case when not i.is_withdrawn
                        then i.removed_at + make_interval(secs => $1) end as restorable_until
            from shop.cart_item i
            join shop.product p using (product_id)
            left join shop.product_variant v using (variant_id)
            join shop.inventory s
                on s.product_id = i.product_id and s.variant_id is not distinct from i.variant_id
            where i.cart_id = c.cart_id
              and (i.removed_at is null or i.is_withdrawn
                   or i.removed_at > saga.now() - make_interval(secs => $1))
        ) item on true
        where ",
            $where,
            " order by c.cart_id, item.cart_item_id"
        )
    };
}
pub(super) use rows;

/// The cart as it is in this transaction. 1 round trip.
pub(super) async fn view(
    shop: &Shop,
    connection: &mut PgConnection,
    cart_id: Uuid,
) -> Result<CartView, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(concat!("-- cart: view\n", rows!("c.cart_id = $2")))
        .bind(shop.config.restore_within.as_secs_f64())
        .bind(cart_id)
        .fetch_all(connection)
        .await?;
    assemble(shop, rows)
}

/// The carts that these customers and guests have. Those who are unknown or frozen, have no cart yet, or whose cart was merged are left out. 1 round
/// trip.
pub async fn get_carts(
    shop: &Shop,
    connection: &mut PgConnection,
    customer_ids: &[Uuid],
) -> Result<HashMap<Uuid, CartView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "-- cart: view many\n",
        rows!(
            "c.customer_id = any($2) and c.merged_into is null
                and (c.guest_token_hash is not null
                     or exists (select from shop.customer u
                                where u.customer_id = c.customer_id and u.frozen_at is null))"
        )
    ))
    .bind(shop.config.restore_within.as_secs_f64())
    .bind(customer_ids)
    .fetch_all(connection)
    .await?;
    let mut by_customer: HashMap<Uuid, Vec<Row>> = HashMap::new();
    for row in rows {
        by_customer.entry(row.customer_id).or_default().push(row);
    }
    by_customer.into_iter().map(|(customer, rows)| Ok((customer, assemble(shop, rows)?))).collect()
}

/// What lies in a locked cart, as it was read. One item can be put in before the cart is shown, so that it need not be read again.
pub(super) struct Contents(pub(super) Vec<Row>);

/// An item with its quantity, as it is written.
pub(super) struct NewItem {
    /// Its id, unless the product lies in the cart already.
    pub(super) cart_item_id: Uuid,
    pub(super) product_id: Uuid,
    pub(super) variant_id: Option<Uuid>,
    pub(super) name: String,
    pub(super) quantity: i32,
    pub(super) price: Decimal,
    pub(super) available: i32,
}

impl Contents {
    /// How many lines there are; a removed item is none.
    pub(super) fn lines(&self) -> usize {
        self.0.iter().filter(|row| row.is_line()).count()
    }

    /// How many of this product lie in it.
    pub(super) fn quantity(&self, product_id: Uuid, variant_id: Option<Uuid>) -> i32 {
        let line = self.0.iter().find(|row| row.is_line_of(product_id, variant_id));
        line.and_then(|row| row.quantity).unwrap_or(0)
    }

    /// The contents after the statement that puts the item in: with its quantity and the lower price, in a cart whose version is one more.
    pub(super) fn put(&mut self, item: NewItem) {
        for row in &mut self.0 {
            row.version += 1;
        }
        let line = self.0.iter_mut().find(|row| row.is_line_of(item.product_id, item.variant_id));
        if let Some(line) = line {
            line.quantity = Some(item.quantity);
            line.price_when_added = line.price_when_added.map(|before| before.min(item.price));
            return;
        }
        let Some(cart) = self.0.first() else { return };
        let row = Row {
            cart_item_id: Some(item.cart_item_id),
            product_id: Some(item.product_id),
            variant_id: item.variant_id,
            name: Some(item.name),
            quantity: Some(item.quantity),
            price: Some(item.price),
            price_when_added: Some(item.price),
            available: Some(item.available),
            removed: None,
            restorable_until: None,
            ..*cart
        };
        self.0.push(row);
        self.0.sort_by_key(|row| row.cart_item_id);
    }

    /// The cart as its owner sees it.
    pub(super) fn view(self, shop: &Shop) -> Result<CartView, sqlx::Error> {
        assemble(shop, self.0)
    }
}

/// The cart that these rows are.
fn assemble(shop: &Shop, rows: Vec<Row>) -> Result<CartView, sqlx::Error> {
    let Some(first) = rows.first() else { return Err(sqlx::Error::RowNotFound) };
    let (cart_id, customer_id) = (first.cart_id, first.customer_id);
    let (checkout_order_id, version) = (first.checkout_order_id, first.version);
    let (mut items, mut removed_items) = (Vec::new(), Vec::new());
    for row in rows {
        match row.item(shop)? {
            Some(Item::Here(item)) => items.push(item),
            Some(Item::Removed(item)) => removed_items.push(item),
            None => {}
        }
    }
    let nothing = Money::zero(shop.config.currency);
    let subtotal = items
        .iter()
        .try_fold(nothing, |sum, item| sum.plus(item.line_total))
        .ok_or_else(too_large)?;
    let is_free = items.is_empty() || subtotal.amount() >= shop.config.free_shipping_from.amount();
    let etag =
        entity_tag(cart_id, version, items.iter().map(|item| (item.cart_item_id, item.unit_price)));
    Ok(CartView {
        cart_id,
        customer_id,
        item_count: items.iter().map(|item| item.quantity).sum(),
        items,
        removed_items,
        subtotal,
        shipping_cost: if is_free { nothing } else { shop.config.shipping_cost },
        checkout_order_id,
        etag,
    })
}

/// The limits on prices, quantities and lines exclude it.
fn too_large() -> sqlx::Error {
    sqlx::Error::Decode(Box::new(crate::money::InvalidMoney::TooLarge))
}

enum Item {
    Here(CartItemView),
    Removed(RemovedItemView),
}

impl Row {
    /// Whether it has an item that was not removed.
    fn is_line(&self) -> bool {
        self.cart_item_id.is_some() && self.removed.is_none()
    }

    fn is_line_of(&self, product_id: Uuid, variant_id: Option<Uuid>) -> bool {
        self.is_line() && self.product_id == Some(product_id) && self.variant_id == variant_id
    }

    /// `None`: the one row of an empty cart.
    fn item(self, shop: &Shop) -> Result<Option<Item>, sqlx::Error> {
        let (Some(cart_item_id), Some(product_id), Some(name), Some(quantity)) =
            (self.cart_item_id, self.product_id, self.name, self.quantity)
        else {
            return Ok(None);
        };
        let variant_id = self.variant_id;
        let restorable_until = self.restorable_until;
        if let Some(removed) = self.removed {
            return Ok(Some(Item::Removed(RemovedItemView {
                removed,
                cart_item_id,
                product_id,
                variant_id,
                name,
                quantity,
                restorable_until,
            })));
        }
        let currency = shop.config.currency.code();
        let unit_price = Money::stored(self.price.unwrap_or_default(), currency)?;
        let price_when_added = Money::stored(self.price_when_added.unwrap_or_default(), currency)?;
        Ok(Some(Item::Here(CartItemView {
            cart_item_id,
            product_id,
            variant_id,
            name,
            quantity,
            unit_price,
            price_when_added,
            line_total: unit_price.times(quantity).ok_or_else(too_large)?,
            available: self.available.unwrap_or(0),
        })))
    }
}
