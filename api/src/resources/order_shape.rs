//! An order as clients see it: on its own, in lists, and as the result of an operation.

use chrono::{DateTime, Utc};
use stepwise_workflows::{
    events::LineItem,
    order::{Address, OrderView, PaymentSummary},
};
use uuid::Uuid;

use super::{
    answer::answer,
    shapes::MoneyShape,
    words::{OrderWords, PaymentWords, Word},
};
use crate::door::personal::Personal;

answer! {
    /// An order.
    #[oai(rename = "Order", rename_all = "camelCase", skip_serializing_if_is_none)]
    pub struct OrderShape from order: OrderView {
        id: Uuid,
        /// The order number for people: `ORD-20261123-7K3M9Q`.
        order_number: String,
        customer_id: Uuid,
        /// `placing`, `pending`, `confirmed`, `shipped`, `delivered`, `cancelled` or `failed`.
        status: Word<OrderWords>,
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
}

answer! {
    /// The shipping address of an order.
    #[oai(rename_all = "camelCase")]
    struct OrderAddress from address: Address {
        recipient_name: String,
        street: String,
        city: String,
        state: String,
        postal_code: String,
        country: String,
    }
}

answer! {
    /// One line of an order.
    #[oai(rename = "LineItem", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct LineShape from line: LineItem {
        product_id: Uuid,
        variant_id: Option<Uuid>,
        /// The product's name when it was ordered.
        name: String,
        quantity: i32,
        unit_price: MoneyShape,
        line_total: MoneyShape,
    }
}

answer! {
    /// The payment of an order.
    #[oai(rename = "OrderPayment", rename_all = "camelCase")]
    struct PaymentShape from payment: PaymentSummary {
        id: Uuid,
        /// `authorizing`, `authorized`, `captured`, `partially_refunded`, `refunded`, `voided`,
        /// `declined` or `unknown`.
        status: Word<PaymentWords>,
        amount: MoneyShape,
        refunded_amount: MoneyShape,
    }
}
