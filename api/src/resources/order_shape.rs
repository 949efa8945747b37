//! An order as clients see it: on its own, in lists, and as the result of an operation.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use stepwise_workflows::{
    events::LineItem,
    order::{Address, OrderView, PaymentSummary},
};
use uuid::Uuid;

use super::shapes::MoneyShape;
use crate::door::personal::Personal;

/// An order.
#[derive(Debug, Object)]
#[oai(rename = "Order", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct OrderShape {
    id: Uuid,
    /// The order number for people: `ORD-20261123-7K3M9Q`.
    order_number: String,
    customer_id: Uuid,
    /// `placing`, `pending`, `confirmed`, `shipped`, `delivered`, `cancelled` or `failed`.
    status: String,
    line_items: Vec<LineShape>,
    subtotal: MoneyShape,
    shipping_cost: MoneyShape,
    tax: MoneyShape,
    total_amount: MoneyShape,
    /// Absent for callers who may not see personal data, and after the customer was erased.
    shipping_address: Personal<Option<OrderAddress>>,
    payment: PaymentShape,
    tracking_number: Option<String>,
    carrier: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// The shipping address of an order.
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

/// The payment of an order.
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
            shipping_address: Personal::new(order.shipping_address.map(Into::into)),
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
