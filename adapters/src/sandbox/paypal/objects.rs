//! PayPal's objects in the sandbox's answers and events, with the fields that its clients read.

use serde_json::{Value, json};
use stepwise_workflows::money::Money;

use super::super::book::{Intent, RefundStatus, Status};
use super::super::ledger::refund_id;
use crate::paypal::PREFIX;

/// Shows orders and payments.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The base address of the approval pages, and of the links between objects.
    pub(super) public_url: &'a str,
}

impl View<'_> {
    pub(super) fn order(self, intent: &Intent) -> Value {
        let id = order_id(intent);
        let is_closed = intent.status == Status::Cancelled && !intent.confirmed;
        let waits = intent.status == Status::ApprovalRequired;
        let status = match intent.status {
            _ if intent.confirmed => "COMPLETED",
            Status::ApprovalRequired => "PAYER_ACTION_REQUIRED",
            _ => "APPROVED",
        };
        let orders = format!("{}/v2/checkout/orders/{id}", self.public_url);
        let mut links = vec![json!({ "href": orders, "rel": "self", "method": "GET" })];
        if waits {
            let href = format!("{}/sandbox/approve/{}", self.public_url, intent.reference);
            links.push(json!({ "href": href, "rel": "payer-action", "method": "GET" }));
        }
        let mut unit = json!({ "reference_id": "default", "amount": amount(intent.amount) });
        if !intent.order_id.is_empty() {
            unit["custom_id"] = json!(intent.order_id);
        }
        if intent.confirmed {
            unit["payments"] = json!({ "authorizations": [self.authorization(intent)] });
        }
        if intent.status == Status::Captured {
            let refunds = (0..intent.refunds.len()).map(|index| self.refund(intent, index));
            unit["payments"]["captures"] = json!([self.capture(intent)]);
            unit["payments"]["refunds"] = refunds.collect();
        }
        json!({
            "id": id,
            "intent": if is_closed { "CAPTURE" } else { "AUTHORIZE" },
            "status": status,
            "purchase_units": [unit],
            "create_time": time(intent.created_at),
            "links": links,
        })
    }

    pub(super) fn authorization(self, intent: &Intent) -> Value {
        let id = order_id(intent);
        json!({
            "id": format!("{id}A"),
            "status": match intent.status {
                Status::Captured => "CAPTURED",
                Status::Cancelled => "VOIDED",
                _ => "CREATED",
            },
            "amount": amount(intent.amount),
            "custom_id": intent.order_id,
            "supplementary_data": { "related_ids": { "order_id": id } },
            "links": [self.link("up", &format!("checkout/orders/{id}"))],
        })
    }

    /// Shows the capture. Like PayPal's of an authorization, it leads to the authorization and not to the order.
    pub(super) fn capture(self, intent: &Intent) -> Value {
        let id = order_id(intent);
        let refunded = intent.refunded();
        let status = match refunded {
            refunded if refunded == intent.captured => "REFUNDED",
            refunded if refunded.amount().is_zero() => "COMPLETED",
            _ => "PARTIALLY_REFUNDED",
        };
        json!({
            "id": format!("{id}C"),
            "status": status,
            "amount": amount(intent.captured),
            "final_capture": true,
            "custom_id": intent.order_id,
            "links": [self.link("up", &format!("payments/authorizations/{id}A"))],
        })
    }

    pub(super) fn refund(self, intent: &Intent, index: usize) -> Value {
        let made = &intent.refunds[index];
        let mut refund = json!({
            "id": refund_id(&intent.reference, index),
            "status": match made.status {
                RefundStatus::Pending => "PENDING",
                RefundStatus::Succeeded => "COMPLETED",
                RefundStatus::Failed => "FAILED",
            },
            "amount": amount(made.amount),
            "create_time": time(made.at),
            "links": [self.link("up", &format!("payments/captures/{}C", order_id(intent)))],
        });
        if !made.key.is_empty() {
            refund["custom_id"] = json!(made.key);
        }
        refund
    }

    fn link(self, rel: &str, path: &str) -> Value {
        json!({ "href": format!("{}/v2/{path}", self.public_url), "rel": rel, "method": "GET" })
    }
}

pub(super) fn order_id(intent: &Intent) -> &str {
    intent.reference.strip_prefix(PREFIX).unwrap_or_default()
}

fn amount(money: Money) -> Value {
    json!({ "currency_code": money.currency().code(), "value": money.amount().to_string() })
}

fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
