//! The stories of the integration events.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    failures::{adjustment, refund, registration},
    stage::{Placed, Provoke, Stage, own_id, with},
};
use crate::shopper::id;

/// An integration event, and the story that leads to it.
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) provoke: Provoke<Due>,
}

/// A message that partners must receive, now or soon.
pub(super) struct Due {
    pub(super) subject: Uuid,
    /// The values of its data, as far as the story knows them.
    pub(super) expected: Value,
}

const fn of(name: &'static str, provoke: Provoke<Due>) -> Message {
    Message { name, provoke }
}

fn about(placed: &Placed<'_>, expected: Value) -> Due {
    let expected = with(expected, "orderId", json!(placed.id));
    let expected = with(expected, "customerId", json!(placed.shopper.id));
    Due { subject: placed.id, expected }
}

fn about_numbered(placed: &Placed<'_>, expected: Value) -> Due {
    about(placed, with(expected, "orderNumber", placed.order["orderNumber"].clone()))
}

async fn about_product(stage: &Stage, by: i32, expected: Value) -> Due {
    let product = stage.product(9).await;
    stage.done("adjustInventory", &stage.admin, adjustment(product, by)).await;
    let expected = with(expected, "productId", json!(product));
    Due { subject: product, expected: with(expected, "productName", json!("Thing")) }
}

/// All integration events.
pub(super) const ALL: &[Message] = &[
    of("OrderPlacedNotification", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let total = placed.order["totalAmount"].clone();
            about_numbered(&placed, json!({"totalAmount": total, "itemCount": 2}))
        })
    }),
    of("OrderShippedNotification", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            about_numbered(&placed, json!({"trackingNumber": "1Z999", "carrier": "UPS"}))
        })
    }),
    of("OrderCancelledNotification", |stage| {
        Box::pin(async move {
            let placed = stage.placed("ok").await;
            let data = json!({"orderId": placed.id, "reason": "changed my mind"});
            stage.done("cancelOrder", &placed.shopper.token, data).await;
            let total = placed.order["totalAmount"].clone();
            about_numbered(&placed, json!({"reason": "changed my mind", "refundAmount": total}))
        })
    }),
    of("LowStockNotification", |stage| {
        let expected = json!({"currentStock": 4, "threshold": 5});
        Box::pin(about_product(stage, -5, expected))
    }),
    of("OutOfStockNotification", |stage| Box::pin(about_product(stage, -9, json!({})))),
    of("CustomerRegisteredNotification", |stage| {
        Box::pin(async move {
            let data = registration();
            let customer = stage.done("registerCustomer", "", data.clone()).await;
            let subject = own_id(&customer, "customerId");
            let expected = json!({"customerId": subject, "email": data["email"],
                "firstName": data["firstName"]});
            Due { subject, expected }
        })
    }),
    of("PaymentFailedNotification", |stage| {
        Box::pin(async move {
            let (shopper, _, data) = stage.ordering("declined").await;
            stage.call("placeOrder", &shopper.token, data).await.is(402);
            let orders = shopper.get("/v1/orders").await.is(200).json();
            let order = &orders["items"][0];
            let expected = json!({"orderId": order["id"], "customerId": shopper.id,
                "amount": order["totalAmount"]});
            Due { subject: id(&order["id"]), expected }
        })
    }),
    of("RefundProcessedNotification", |stage| {
        Box::pin(async move {
            let placed = stage.shipped("ok").await;
            let data = refund(placed.id);
            stage.done("refundPayment", &stage.admin, data.clone()).await;
            about(&placed, json!({"refundAmount": data["amount"]}))
        })
    }),
];
