//! Orders as their customers and the operators see them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, QueryBuilder, types::Json};
use stepwise_engine::inspect;
use uuid::Uuid;

use super::store::lines;
use crate::{
    events::{LineItem, Sealed},
    money::Money,
    payment::PaymentState,
    privacy::KeyStoreError,
    refusal::refusals,
    shop::Shop,
};

/// Where an order goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The recipient.
    pub recipient_name: String,
    /// Street and number.
    pub street: String,
    /// City.
    pub city: String,
    /// State code, such as `CA`.
    pub state: String,
    /// ZIP or ZIP+4.
    pub postal_code: String,
    /// Country code, such as `US`.
    pub country: String,
}

/// An order with everything its customer may see. Absent fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderView {
    /// The order.
    pub id: Uuid,
    /// Its number for people.
    pub order_number: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Its status.
    pub status: String,
    /// Its lines.
    pub line_items: Vec<LineItem>,
    /// The sum of the lines.
    pub subtotal: Money,
    /// Shipping.
    pub shipping_cost: Money,
    /// Tax.
    pub tax: Money,
    /// The three together.
    pub total_amount: Money,
    /// Where it goes; absent once the customer was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// The payment in force.
    pub payment: PaymentSummary,
    /// The carrier's number, once shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_number: Option<String>,
    /// The carrier, once shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Raised by every change; the entity tag.
    #[serde(skip)]
    pub version: i64,
}

/// The payment of an order in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentSummary {
    /// The payment.
    pub id: Uuid,
    /// Its status.
    pub status: String,
    /// The amount.
    pub amount: Money,
    /// How much of it was given back.
    pub refunded_amount: Money,
}

refusals! {
    /// Why orders could not be read.
    #[derive(Debug, thiserror::Error)]
    pub enum ReadOrderError {
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// The columns and tables of [`Row`].
macro_rules! view {
    () => {
        concat!(
            r#"select o.order_id, o.order_number, o.customer_id, o.status, o.subtotal,
                   o.shipping_cost, o.tax, o.total_amount, o.currency, o.shipping_address,
                   case when o.status <> 'confirmed' then o.tracking_number end as tracking_number,
                   case when o.status <> 'confirmed' then o.carrier end as carrier, o.created_at, o.updated_at, o.version,
                   p.payment_id, p.state as payment_state, p.amount, p.refunded_amount,
                   exists (select from shop.payment_transaction t where t.payment_id = p.payment_id
                           and t.settled_at is null and t.kind <> 'dispute') as is_moving,
                   lines.line_items
            from shop."order" o join shop.payment p using (payment_id), "#,
            lines!()
        )
    };
}
/// One order. `customer_id`: only an order of this customer; `None`: any order. 1 round trip, 1 more while its money moves.
pub async fn get_order(
    shop: &Shop,
    connection: &mut PgConnection,
    order_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<OrderView>, ReadOrderError> {
    let mut row: Option<Row> = sqlx::query_as(concat!(
        "-- order: get\n",
        view!(),
        " where o.order_id = $1 and ($2::uuid is null or o.customer_id = $2)"
    ))
    .bind(order_id)
    .bind(customer_id)
    .fetch_optional(&mut *connection)
    .await?;
    doubt(connection, row.as_mut_slice()).await?;
    match row {
        Some(row) => Ok(Some(row.view(shop).await?)),
        None => Ok(None),
    }
}

/// The orders that a list has: those for which everything that is given is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Orders of this customer.
    pub customer_id: Option<Uuid>,
    /// Orders of this status.
    pub status: Option<&'static str>,
    /// Orders begun at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Orders begun before this time.
    pub to: Option<DateTime<Utc>>,
}

/// Orders, newest first, those after the order that was begun at the time and has the id in `after`. 1 round trip, 1 more while money of one of them
/// moves.
pub async fn list_orders(
    shop: &Shop,
    connection: &mut PgConnection,
    filter: OrderFilter,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<OrderView>, ReadOrderError> {
    let OrderFilter { customer_id, status, from, to } = filter;
    let mut query = QueryBuilder::new(concat!("-- order: list\n", view!(), " where true"));
    if let Some(customer_id) = customer_id {
        query.push(" and o.customer_id = ").push_bind(customer_id);
    }
    if let Some(status) = status {
        query.push(" and o.status = ").push_bind(status);
    }
    if let Some(from) = from {
        query.push(" and o.created_at >= ").push_bind(from);
    }
    if let Some(to) = to {
        query.push(" and o.created_at < ").push_bind(to);
    }
    if let Some((at, order_id)) = after {
        query.push(" and (o.created_at, o.order_id) < (").push_bind(at);
        query.push(", ").push_bind(order_id).push(")");
    }
    query.push(" order by o.created_at desc, o.order_id desc limit ").push_bind(limit);
    let mut rows: Vec<Row> = query.build_query_as().fetch_all(&mut *connection).await?;
    doubt(connection, &mut rows).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(row.view(shop).await?);
    }
    Ok(views)
}

/// A payment is `unknown` while the gateway may have acted and is being asked.
async fn doubt(connection: &mut PgConnection, rows: &mut [Row]) -> Result<(), sqlx::Error> {
    let mut moving: Vec<&mut Row> = rows.iter_mut().filter(|row| row.is_moving).collect();
    if moving.is_empty() {
        return Ok(());
    }
    let subjects: Vec<String> = moving.iter().map(|row| row.order_id.to_string()).collect();
    let doubtful = inspect::in_doubt(connection, &subjects).await?;
    for (row, subject) in moving.iter_mut().zip(&subjects) {
        if doubtful.contains(subject) {
            row.payment_state = PaymentState::Unknown.as_str().to_owned();
        }
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    order_id: Uuid,
    order_number: String,
    customer_id: Uuid,
    status: String,
    subtotal: Decimal,
    shipping_cost: Decimal,
    tax: Decimal,
    total_amount: Decimal,
    currency: String,
    shipping_address: String,
    tracking_number: Option<String>,
    carrier: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
    payment_id: Uuid,
    payment_state: String,
    amount: Decimal,
    refunded_amount: Decimal,
    /// Whether the gateway is asked for a move of money that is not settled yet.
    is_moving: bool,
    line_items: Json<Vec<LineItem>>,
}

impl Row {
    async fn view(self, shop: &Shop) -> Result<OrderView, ReadOrderError> {
        let money = |amount| Money::stored(amount, &self.currency);
        let key = shop.keys.get(self.customer_id).await?;
        let shipping_address = key.and_then(|key| {
            Sealed::from_text(self.shipping_address).open(&key, self.customer_id, "shippingAddress")
        });
        Ok(OrderView {
            id: self.order_id,
            order_number: self.order_number,
            customer_id: self.customer_id,
            status: self.status,
            line_items: self.line_items.0,
            subtotal: money(self.subtotal)?,
            shipping_cost: money(self.shipping_cost)?,
            tax: money(self.tax)?,
            total_amount: money(self.total_amount)?,
            shipping_address,
            payment: PaymentSummary {
                id: self.payment_id,
                status: self.payment_state,
                amount: money(self.amount)?,
                refunded_amount: money(self.refunded_amount)?,
            },
            tracking_number: self.tracking_number,
            carrier: self.carrier,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        })
    }
}
