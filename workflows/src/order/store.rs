//! Orders in SQL: what placing, releasing and cancelling read under their locks.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::OrderStatus;
use crate::{events::LineItem, money::Money, payment::PaymentState};

/// An order and its payment, both rows locked, in the order's own words.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LockedOrder {
    /// The order.
    pub order_id: Uuid,
    /// Its number for people.
    pub order_number: String,
    /// The customer.
    pub customer_id: Uuid,
    /// The cart it is made of.
    pub cart_id: Uuid,
    /// Its status.
    #[sqlx(try_from = "String")]
    pub status: OrderStatus,
    /// The sum of the quantities.
    pub item_count: i32,
    subtotal: Decimal,
    shipping_cost: Decimal,
    tax: Decimal,
    total_amount: Decimal,
    currency: String,
    /// Sealed under the customer's key.
    pub shipping_address: String,
    /// Sealed under the customer's key.
    pub cancel_reason: Option<String>,
    /// The carrier's number. Where the order is `confirmed`, the order is being shipped.
    pub tracking_number: Option<String>,
    /// The carrier.
    pub carrier: Option<String>,
    /// The number of its last domain event.
    pub event_count: i64,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// The payment in force, or the one that was asked for ([`lock_order_paid_by`]).
    pub payment_id: Uuid,
    /// Where that stands.
    #[sqlx(try_from = "String")]
    pub payment_state: PaymentState,
    /// Kind and brand, such as `card:visa`.
    pub method: String,
    /// The provider's reference.
    pub authorization_id: Option<String>,
    paid_amount: Decimal,
    refunded_amount: Decimal,
    /// The number of the payment's last domain event.
    pub payment_event_count: i64,
    line_items: Json<Vec<LineItem>>,
    /// Business time of this transaction.
    pub now: DateTime<Utc>,
}

impl LockedOrder {
    /// The sum of the lines.
    pub fn subtotal(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.subtotal, &self.currency)
    }

    /// Shipping.
    pub fn shipping_cost(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.shipping_cost, &self.currency)
    }

    /// Tax.
    pub fn tax(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.tax, &self.currency)
    }

    /// With shipping and tax.
    pub fn total_amount(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.total_amount, &self.currency)
    }

    /// The amount of this payment.
    pub fn paid_amount(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.paid_amount, &self.currency)
    }

    /// How much of it was given back.
    pub fn refunded_amount(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.refunded_amount, &self.currency)
    }

    /// Whether its money is being taken, so that it can be shipped.
    pub fn is_being_shipped(&self) -> bool {
        self.status == OrderStatus::Confirmed && self.tracking_number.is_some()
    }

    /// The lines, as events show them.
    pub fn line_items(&self) -> &[LineItem] {
        &self.line_items.0
    }
}

/// The columns of [`LockedOrder`] from order `o`, payment `p` and [`lines`].
macro_rules! columns {
    () => {
        "select o.order_id, o.order_number, o.customer_id, o.cart_id, o.status, o.item_count,
               o.subtotal, o.shipping_cost, o.tax, o.total_amount, o.currency,
               o.shipping_address, o.cancel_reason, o.tracking_number, o.carrier, o.event_count,
               o.created_at, p.payment_id, p.state as payment_state, p.method,
               p.authorization_id, p.amount as paid_amount, p.refunded_amount,
               p.event_count as payment_event_count, saga.now() as now, lines.line_items"
    };
}

/// The lines of order `o` as events and answers show them.
macro_rules! lines {
    () => {
        "lateral (
            select jsonb_agg(jsonb_build_object(
                'productId', l.product_id, 'variantId', l.variant_id, 'name', l.name,
                'quantity', l.quantity,
                'unitPrice', jsonb_build_object(
                    'amount', l.unit_price::text, 'currency', o.currency),
                'lineTotal', jsonb_build_object(
                    'amount', l.line_total::text, 'currency', o.currency)
            ) order by l.line_no) as line_items
            from shop.order_line l where l.order_id = o.order_id
        ) lines"
    };
}
pub(super) use lines;

/// A cart, an order and its payment, locked in this order.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LockedPlacement {
    /// The order and its payment.
    #[sqlx(flatten)]
    pub order: LockedOrder,
    /// The number of the cart's last domain event.
    pub cart_event_count: i64,
}

/// Locks the orders' carts, the orders and their payments, in this order. An order that does not exist is left out.
/// 1 round trip.
pub async fn lock_placements(
    tx: &mut PgConnection,
    order_ids: &[Uuid],
) -> Result<Vec<LockedPlacement>, sqlx::Error> {
    sqlx::query_as(concat!(
        r#"-- order: lock cart, order and payment
        with basket as materialized (
            select cart_id, event_count from shop.cart
            where cart_id = any(array(
                select cart_id from shop."order" where order_id = any($1)))
            order by cart_id
            for update
        ), placed as materialized (
            select o.* from shop."order" o join basket using (cart_id)
            where o.order_id = any($1)
            order by o.order_id
            for update of o
        ), paid as materialized (
            select p.* from shop.payment p join placed using (payment_id)
            order by p.payment_id
            for update of p
        )
        "#,
        columns!(),
        ", b.event_count as cart_event_count
        from placed o
        join paid p using (payment_id)
        join basket b on b.cart_id = o.cart_id, ",
        lines!()
    ))
    .bind(order_ids)
    .fetch_all(tx)
    .await
}

/// The same for one order. `None`: no such order.
pub async fn lock_placement(
    tx: &mut PgConnection,
    order_id: Uuid,
) -> Result<Option<LockedPlacement>, sqlx::Error> {
    Ok(lock_placements(tx, &[order_id]).await?.pop())
}

/// The order `$1`, `placed`, locked after its customer.
macro_rules! buyer_and_order {
    () => {
        r#"buyer as materialized (
            select customer_id from shop.customer
            where customer_id = (select customer_id from shop."order" where order_id = $1)
            for share
        ), placed as materialized (
            select o.* from (select count(*) from buyer) as locked, shop."order" o
            where o.order_id = $1 for update of o
        )"#
    };
}

/// Locks the order's customer (`for share`), the order and its payment, in this order. `None`: no
/// such order. 1 round trip.
pub async fn lock_order(
    tx: &mut PgConnection,
    order_id: Uuid,
) -> Result<Option<LockedOrder>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- order: lock customer, order and payment
        with ",
        buyer_and_order!(),
        ", paid as materialized (
            select p.* from shop.payment p join placed using (payment_id) for update of p
        )
        ",
        columns!(),
        " from placed o, paid p, ",
        lines!()
    ))
    .bind(order_id)
    .fetch_optional(tx)
    .await
}

/// Locks as [`lock_order`] does, but the order's payment with this reference of the gateway, if it has one. A payment that was given up is not in force.
/// 1 round trip.
pub async fn lock_order_paid_by(
    tx: &mut PgConnection,
    order_id: Uuid,
    authorization_id: &str,
) -> Result<Option<LockedOrder>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- order: lock customer, order and the payment of an authorization
        with ",
        buyer_and_order!(),
        ", paid as materialized (
            select p.* from placed join shop.payment p on p.payment_id = coalesce(
                (select a.payment_id from shop.payment a where a.authorization_id = $2 and a.order_id = $1),
                placed.payment_id)
            for update of p
        )
        ",
        columns!(),
        " from placed o, paid p, ",
        lines!()
    ))
    .bind(order_id)
    .bind(authorization_id)
    .fetch_optional(tx)
    .await
}

/// Locks the order's customer (`for share`) and the order, in this order, and returns its version, which is its entity tag. `None`: no such order, or
/// it is not this customer's. 1 round trip.
pub async fn lock_version(
    tx: &mut PgConnection,
    order_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        r#"-- order: lock version
        with buyer as materialized (
            select customer_id from shop.customer
            where customer_id = (select customer_id from shop."order" where order_id = $1)
            for share
        )
        select o.version::text from (select count(*) from buyer) as locked, shop."order" o
        where o.order_id = $1 and o.customer_id = coalesce($2, o.customer_id) for update of o"#,
    )
    .bind(order_id)
    .bind(customer_id)
    .fetch_optional(tx)
    .await
}
