//! The rows that placing orders locks and reads: customers and carts, then the stock of each line.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Asked, Missing, PlaceOrderRefusal, Turn};
use crate::{
    customer::paypal,
    events::LineItem,
    inventory::Stock,
    money::{InvalidMoney, Money},
    order::Address,
    shop::{Shop, column::column},
};

/// The behaviour of placing orders towards rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// It waits for them.
    Wait,
    /// It waits for stock. Orders of customers and carts that are locked are left out.
    WaitForStock,
    /// Orders that have such a row are left out, so that nobody waits for another's row.
    Skip,
}

/// The data that is read under the locks of customer and cart.
pub(super) struct Checkout {
    pub(super) cart_id: Uuid,
    pub(super) cart_version: i64,
    pub(super) address: Address,
    pub(super) method: String,
    pub(super) now: DateTime<Utc>,
}

macro_rules! customers {
    ($skip:literal) => {
        concat!(
            "
        with asked as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[])
                as a (customer_id, address_id, payment_method_id)
        ), buyer as materialized (
            select customer_id, email_verified_at is not null as is_verified from shop.customer
            where customer_id = any($1) and frozen_at is null
            order by customer_id
            for share ",
            $skip,
            "
        ), basket as materialized (
            select c.customer_id, c.cart_id, c.version, c.checkout_order_id
            from shop.cart c join buyer using (customer_id)
            order by c.customer_id
            for update of c ",
            $skip,
            "
        )
        select buyer.customer_id, is_verified, cart_id, version, checkout_order_id, a.recipient_name,
               a.street, a.city, a.state, a.postal_code, a.country,
               case when m.kind = 'card' then 'card:' || m.brand else m.kind end as method,
               saga.now() as now
        from buyer
        join asked using (customer_id)
        left join basket using (customer_id)
        left join shop.shipping_address a on a.address_id = asked.address_id
            and a.customer_id = buyer.customer_id and a.removed_at is null
        left join shop.payment_method m on m.payment_method_id = asked.payment_method_id
            and m.customer_id = buyer.customer_id and m.removed_at is null"
        )
    };
}
/// Locks the customers, then their carts, and reads addresses and methods. A customer who is unknown or being erased is left out, and so is one that
/// `locks` skips. 1 round trip.
pub(super) async fn customers(
    tx: &mut PgConnection,
    asked: &[Asked],
    locks: Locks,
) -> Result<HashMap<Uuid, Customer>, sqlx::Error> {
    let rows: Vec<Customer> = sqlx::query_as(match locks {
        Locks::Wait => concat!("-- place: lock customer and cart", customers!("")),
        Locks::WaitForStock | Locks::Skip => {
            concat!("-- place: lock customers and carts", customers!("skip locked"))
        }
    })
    .bind(column(asked, |asked| asked.command.customer_id))
    .bind(column(asked, |asked| asked.command.shipping_address_id))
    .bind(column(asked, |asked| asked.command.payment_method_id))
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.customer_id, row)).collect())
}

/// A customer and their cart, locked.
#[derive(sqlx::FromRow)]
pub(super) struct Customer {
    customer_id: Uuid,
    is_verified: bool,
    cart_id: Option<Uuid>,
    version: Option<i64>,
    checkout_order_id: Option<Uuid>,
    #[sqlx(flatten)]
    address: MaybeAddress,
    method: Option<String>,
    pub(super) now: DateTime<Utc>,
}

impl Customer {
    /// Says whether the cart can be ordered. `None`: it is left to an order that is placed alone. Another transaction may have locked the cart; and an approval at
    /// PayPal is locked last.
    pub(super) fn checkout(self, locks: Locks) -> Turn<Checkout> {
        let is_by_paypal = self.method.as_deref() == Some(paypal::KIND);
        let is_left = locks != Locks::Wait && (self.cart_id.is_none() || is_by_paypal);
        (!is_left).then(|| self.open())
    }

    fn open(self) -> Result<Checkout, PlaceOrderRefusal> {
        if !self.is_verified {
            return Err(PlaceOrderRefusal::EmailNotVerified);
        }
        if let Some(order_id) = self.checkout_order_id {
            return Err(PlaceOrderRefusal::CheckoutInProgress { order_id });
        }
        let address = self.address.known().ok_or(PlaceOrderRefusal::NotFound(Missing::Address))?;
        let method = self.method.ok_or(PlaceOrderRefusal::NotFound(Missing::PaymentMethod))?;
        let (cart_id, cart_version) =
            self.cart_id.zip(self.version).ok_or(PlaceOrderRefusal::CartEmpty)?;
        Ok(Checkout { cart_id, cart_version, address, method, now: self.now })
    }
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

/// A line of a cart with its stock, locked.
pub(super) struct Line {
    pub(super) index: usize,
    pub(super) cart_item_id: Uuid,
    pub(super) price_when_added: Money,
    pub(super) is_sold: bool,
    pub(super) item: LineItem,
    pub(super) stock: Stock,
}

macro_rules! lines {
    ($skip:literal) => {
        concat!(
            "
        with line as materialized (
            select c.cart_id, c.cart_item_id, c.quantity, c.unit_price as price_when_added,
                   case when v.name is null then p.name else p.name || ', ' || v.name end as name,
                   coalesce(v.price, p.price) as price,
                   p.status = 'active' and p.deleted_at is null
                       and p.has_variants = (c.variant_id is not null) as is_sold,
                   i.inventory_id, i.product_id, i.variant_id
            from shop.cart_item c
            join shop.product p using (product_id)
            left join shop.product_variant v using (variant_id)
            join shop.inventory i
                on i.product_id = c.product_id and i.variant_id is not distinct from c.variant_id
            where c.cart_id = any($1) and c.removed_at is null
        ), stock as materialized (
            select inventory_id, on_hand, reserved, low_stock_threshold, event_count
            from shop.inventory
            where inventory_id = any(array(select inventory_id from line))
            order by product_id, variant_id nulls first
            for update ",
            $skip,
            "
        )
        select * from line left join stock using (inventory_id)"
        )
    };
}

/// The carts' lines with their stock, locked by (product, variant). A cart without lines is left out. `None`: another transaction has locked the stock of one
/// of the cart's lines ([`Locks::Skip`]). 1 round trip.
pub(super) async fn lines(
    shop: &Shop,
    tx: &mut PgConnection,
    carts: Vec<Uuid>,
    locks: Locks,
) -> Result<HashMap<Uuid, CartLines>, sqlx::Error> {
    let rows: Vec<LineRow> = sqlx::query_as(match locks {
        Locks::Wait | Locks::WaitForStock => {
            concat!("-- place: lock the stock of the cart's lines", lines!(""))
        }
        Locks::Skip => {
            concat!("-- place: lock the stock of the carts' lines", lines!("skip locked"))
        }
    })
    .bind(carts)
    .fetch_all(tx)
    .await?;
    let mut by_cart: HashMap<Uuid, CartLines> = HashMap::new();
    for row in rows {
        let (cart_id, line) = (row.cart_id, row.line(shop));
        let lines = by_cart.entry(cart_id).or_insert_with(|| Some(Ok(Vec::new())));
        match (lines.as_mut(), line) {
            (Some(Ok(lines)), Some(Ok(line))) => lines.push(line),
            (Some(Ok(_)), Some(Err(damaged))) => *lines = Some(Err(damaged)),
            (Some(Ok(_)), None) => *lines = None,
            (Some(Err(_)) | None, _) => {}
        }
    }
    for lines in by_cart.values_mut().flatten().flatten() {
        lines.sort_by_key(|line| line.cart_item_id);
        for (index, line) in lines.iter_mut().enumerate() {
            line.index = index;
        }
    }
    Ok(by_cart)
}

/// The lines of one cart, as they lie in it. `None`: the stock of one was not locked. An error says that a price is damaged.
type CartLines = Option<Result<Vec<Line>, sqlx::Error>>;

#[derive(sqlx::FromRow)]
struct LineRow {
    cart_id: Uuid,
    cart_item_id: Uuid,
    quantity: i32,
    price_when_added: Decimal,
    name: String,
    price: Decimal,
    is_sold: bool,
    inventory_id: Uuid,
    product_id: Uuid,
    variant_id: Option<Uuid>,
    on_hand: Option<i32>,
    reserved: Option<i32>,
    low_stock_threshold: Option<i32>,
    event_count: Option<i64>,
}

impl LineRow {
    /// `None`: the stock was not locked.
    fn line(self, shop: &Shop) -> Option<Result<Line, sqlx::Error>> {
        let stock = self.stock()?;
        Some(self.with(stock, shop))
    }

    fn with(self, stock: Stock, shop: &Shop) -> Result<Line, sqlx::Error> {
        let unit_price = Money::new(self.price, shop.config.currency).map_err(damaged)?;
        let price_when_added =
            Money::new(self.price_when_added, shop.config.currency).map_err(damaged)?;
        let item = LineItem {
            product_id: self.product_id,
            variant_id: self.variant_id,
            name: self.name,
            quantity: self.quantity,
            unit_price,
            line_total: unit_price.times(self.quantity).ok_or_else(too_large)?,
        };
        let (cart_item_id, is_sold) = (self.cart_item_id, self.is_sold);
        Ok(Line { index: 0, cart_item_id, price_when_added, is_sold, item, stock })
    }

    fn stock(&self) -> Option<Stock> {
        Some(Stock {
            inventory_id: self.inventory_id,
            product_id: self.product_id,
            variant_id: self.variant_id,
            on_hand: self.on_hand?,
            reserved: self.reserved?,
            low_stock_threshold: self.low_stock_threshold?,
            event_count: self.event_count?,
        })
    }
}

fn damaged(invalid: InvalidMoney) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(invalid))
}

/// The limits on prices, quantities and lines exclude it.
pub(super) fn too_large() -> sqlx::Error {
    damaged(InvalidMoney::TooLarge)
}
