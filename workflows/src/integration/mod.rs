//! Integration events: what partners are told, versioned and published through the outbox.
//!
//! Each struct is exactly the payload of the catalogue. The subject of order and payment events is
//! the order; `sequence` is the order's `published_count`, raised by the statement that changes
//! the order, so a partner sees 1, 2, 3 … per order and can tell a gap.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use stepwise_engine::outbox::{self, Message, PublishError};
use uuid::Uuid;

use crate::{events::Sealed, money::Money};

/// A notification with its subject and its place in the subject's sequence.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The subject: the order for order and payment events.
    pub subject: Uuid,
    /// 1, 2, 3, … per subject, without gaps.
    pub sequence: i64,
    /// The event.
    pub notification: Notification,
}

/// The events for partners.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Notification {
    /// A new order is there to be processed.
    OrderPlaced(OrderPlacedNotification),
    /// An order was cancelled and its money given back.
    OrderCancelled(OrderCancelledNotification),
    /// A payment failed and with it the order.
    PaymentFailed(PaymentFailedNotification),
    /// Money was given back.
    RefundProcessed(RefundProcessedNotification),
}

/// Payload of `shop.order.placed.v1`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderPlacedNotification {
    /// The order.
    pub order_id: Uuid,
    /// Its number for people.
    pub order_number: String,
    /// The customer.
    pub customer_id: Uuid,
    /// With shipping and tax.
    pub total_amount: Money,
    /// The sum of the quantities.
    pub item_count: i32,
}

/// Payload of `shop.order.cancelled.v1`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelledNotification {
    /// The order.
    pub order_id: Uuid,
    /// Its number for people.
    pub order_number: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Why, in the words of whoever cancelled: free text, so it is sealed until publication.
    pub reason: Sealed,
    /// The amount that was given back or released.
    pub refund_amount: Money,
}

/// Payload of `shop.payment.failed.v1`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailedNotification {
    /// The order that failed with it.
    pub order_id: Uuid,
    /// The customer.
    pub customer_id: Uuid,
    /// The amount that should have been authorized.
    pub amount: Money,
    /// A code, such as `insufficient_funds` or `approval_expired`.
    pub failure_reason: String,
}

/// Payload of `shop.payment.refund-processed.v1`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundProcessedNotification {
    /// The order it was paid for.
    pub order_id: Uuid,
    /// The customer.
    pub customer_id: Uuid,
    /// How much: for a void the amount released.
    pub refund_amount: Money,
    /// The provider's reference of the refund or the void.
    pub refund_id: String,
}

impl Notification {
    /// Routing key and CloudEvents type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OrderPlaced(_) => "shop.order.placed.v1",
            Self::OrderCancelled(_) => "shop.order.cancelled.v1",
            Self::PaymentFailed(_) => "shop.payment.failed.v1",
            Self::RefundProcessed(_) => "shop.payment.refund-processed.v1",
        }
    }

    /// The CloudEvents source.
    pub fn source(&self) -> &'static str {
        match self {
            Self::OrderPlaced(_) | Self::OrderCancelled(_) => "/stepwise/order",
            Self::PaymentFailed(_) | Self::RefundProcessed(_) => "/stepwise/payment",
        }
    }

    /// The customer whose personal data it carries, sealed; `None`: it carries none.
    pub fn sealed_for(&self) -> Option<Uuid> {
        match self {
            Self::OrderCancelled(cancelled) => Some(cancelled.customer_id),
            Self::OrderPlaced(_) | Self::PaymentFailed(_) | Self::RefundProcessed(_) => None,
        }
    }

    /// The payload, exactly the catalogue's fields.
    pub fn payload(&self) -> Value {
        serde_json::to_value(self).expect("ids, texts and amounts are valid JSON")
    }
}

/// Publishes in the caller's transaction. 1 round trip, 1 row operation each.
pub async fn publish(
    tx: &mut PgConnection,
    publications: &[Publication],
) -> Result<(), sqlx::Error> {
    let messages: Vec<Message> = publications
        .iter()
        .map(|Publication { subject, sequence, notification }| {
            let (kind, source) = (notification.kind(), notification.source());
            let message =
                Message::new(kind, source, subject.to_string(), *sequence, notification.payload());
            Message { sealed_for: notification.sealed_for(), ..message }
        })
        .collect();
    outbox::publish_all(tx, &messages).await.map_err(|error| match error {
        PublishError::Database(error) => error,
        // Does not happen: the kinds above are the routing keys, and all are short.
        refused @ (PublishError::RoutingKey { .. } | PublishError::Unstorable(_)) => {
            sqlx::Error::Encode(Box::new(refused))
        }
    })
}

#[cfg(test)]
mod tests;
