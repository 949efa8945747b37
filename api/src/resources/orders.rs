//! Orders: placing, reading, cancelling.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::{
    events::LineItem,
    order::{self, Address, OrderView, PaymentSummary, ReadOrderError},
};
use uuid::Uuid;

use super::{Group, shapes::MoneyShape};
use crate::door::{
    caller::{By, CustomerOrAdmin},
    page::{self, Page},
    problem::Problem,
    reply::Done,
};

/// The operations about orders.
pub struct Orders;

/// An order.
#[derive(Debug, Object)]
#[oai(rename = "Order", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct OrderShape {
    id: Uuid,
    /// For people: `ORD-20261123-7K3M9Q`.
    order_number: String,
    customer_id: Uuid,
    /// `placing`, `pending`, `confirmed`, `shipped`, `delivered`, `cancelled` or `failed`.
    status: String,
    line_items: Vec<LineShape>,
    subtotal: MoneyShape,
    shipping_cost: MoneyShape,
    tax: MoneyShape,
    total_amount: MoneyShape,
    /// Absent once the customer was erased.
    shipping_address: Option<OrderAddress>,
    payment: PaymentShape,
    tracking_number: Option<String>,
    carrier: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// Where an order goes.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OrderAddress {
    recipient_name: String,
    street: String,
    city: String,
    state: String,
    postal_code: String,
    country: String,
}

/// One line of an order.
#[derive(Debug, Object)]
#[oai(rename = "LineItem", rename_all = "camelCase", skip_serializing_if_is_none)]
struct LineShape {
    product_id: Uuid,
    variant_id: Option<Uuid>,
    /// The product's name when it was ordered.
    name: String,
    quantity: i32,
    unit_price: MoneyShape,
    line_total: MoneyShape,
}

/// How an order is paid.
#[derive(Debug, Object)]
#[oai(rename = "OrderPayment", rename_all = "camelCase")]
struct PaymentShape {
    id: Uuid,
    /// `authorizing`, `authorized`, `captured`, `partially_refunded`, `refunded`, `voided`,
    /// `declined` or `unknown`.
    status: String,
    amount: MoneyShape,
    refunded_amount: MoneyShape,
}

impl From<OrderView> for OrderShape {
    fn from(order: OrderView) -> Self {
        Self {
            id: order.id,
            order_number: order.order_number,
            customer_id: order.customer_id,
            status: order.status,
            line_items: order.line_items.into_iter().map(Into::into).collect(),
            subtotal: order.subtotal.into(),
            shipping_cost: order.shipping_cost.into(),
            tax: order.tax.into(),
            total_amount: order.total_amount.into(),
            shipping_address: order.shipping_address.map(Into::into),
            payment: order.payment.into(),
            tracking_number: order.tracking_number,
            carrier: order.carrier,
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

impl From<LineItem> for LineShape {
    fn from(line: LineItem) -> Self {
        Self {
            product_id: line.product_id,
            variant_id: line.variant_id,
            name: line.name,
            quantity: line.quantity,
            unit_price: line.unit_price.into(),
            line_total: line.line_total.into(),
        }
    }
}

impl From<Address> for OrderAddress {
    fn from(address: Address) -> Self {
        let Address { recipient_name, street, city, state, postal_code, country } = address;
        Self { recipient_name, street, city, state, postal_code, country }
    }
}

impl From<PaymentSummary> for PaymentShape {
    fn from(payment: PaymentSummary) -> Self {
        Self {
            id: payment.id,
            status: payment.status,
            amount: payment.amount.into(),
            refunded_amount: payment.refunded_amount.into(),
        }
    }
}

#[OpenApi(prefix_path = "/v1/orders", tag = "Group::Orders")]
impl Orders {
    /// One order.
    #[oai(path = "/:orderId", method = "get", operation_id = "getOrder")]
    async fn get(
        &self,
        by: By<CustomerOrAdmin>,
        #[oai(name = "orderId")] order_id: Path<Uuid>,
    ) -> Result<Done<OrderShape>, Problem> {
        let mut db = by.door.db.acquire().await?;
        let order = order::get_order(&by.door.shop, &mut db, order_id.0, by.own_customer()).await?;
        let order = order.ok_or_else(unknown_order)?;
        let version = order.version;
        Ok(Done::new(&OrderShape::from(order)).tagged(version))
    }

    /// Orders, newest first: a customer's own, or all for an admin.
    #[oai(path = "/", method = "get", operation_id = "listOrders")]
    async fn list(
        &self,
        by: By<CustomerOrAdmin>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<OrderShape>>, Problem> {
        let (limit, list) = (page::limit(limit.0)?, format!("orders/{}", by.key()));
        let before = by.door.cursors.open(&list, cursor.0.as_deref())?;
        let mut db = by.door.db.acquire().await?;
        let count = page::fetch_count(limit);
        let rows =
            order::list_orders(&by.door.shop, &mut db, by.own_customer(), before, count).await?;
        Ok(Done::new(&by.door.cursors.page(&list, limit, rows, |row| row.id, Into::into)))
    }
}

/// 404 `order_not_found`.
pub fn unknown_order() -> Problem {
    Problem::not_found("order_not_found", "There is no such order.")
}

impl From<ReadOrderError> for Problem {
    fn from(error: ReadOrderError) -> Self {
        match error {
            ReadOrderError::Keys(error) => error.into(),
            ReadOrderError::Database(error) => error.into(),
        }
    }
}
