//! Events of PayPal: their content, their signature, and the endpoint that verifies it.
//!
//! PayPal signs with a certificate. The sandbox signs with its API key, which no receiver has, so a receiver must ask the sandbox as
//! it must ask PayPal.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use super::super::Shared;
use super::super::book::Intent;
use super::super::ledger::{Line, LineResult};
use super::objects::View;
use super::params::{self, Wrong};

/// The id of the webhook that the sandbox has.
pub const PAYPAL_WEBHOOK_ID: &str = "SANDBOXWEBHOOK";

/// The name of the signature's scheme in the events.
const ALGORITHM: &str = "SHA256withRSA";

/// The event about a line. `None` if there is none.
pub(in super::super) fn event(
    public_url: &str,
    intent: &Intent,
    line: &Line,
    number: u64,
) -> Option<Value> {
    let view = View { public_url };
    let refund = || {
        let index = intent.refunds.iter().rposition(|made| *made.key == *line.key)?;
        Some(view.refund(intent, index))
    };
    let (event_type, resource_type, resource) = match line.result {
        LineResult::Approved => ("CHECKOUT.ORDER.APPROVED", "checkout-order", view.order(intent)),
        LineResult::Confirmed => {
            ("PAYMENT.AUTHORIZATION.CREATED", "authorization", view.authorization(intent))
        }
        LineResult::Cancelled | LineResult::Expired if intent.confirmed => {
            ("PAYMENT.AUTHORIZATION.VOIDED", "authorization", view.authorization(intent))
        }
        LineResult::Captured => ("PAYMENT.CAPTURE.COMPLETED", "capture", view.capture(intent)),
        LineResult::Refunded | LineResult::RefundSettled => {
            ("PAYMENT.CAPTURE.REFUNDED", "refund", refund()?)
        }
        LineResult::RefundPending => ("PAYMENT.REFUND.PENDING", "refund", refund()?),
        LineResult::RefundFailed => ("PAYMENT.REFUND.FAILED", "refund", refund()?),
        LineResult::Created
        | LineResult::ApprovalRequired
        | LineResult::Declined
        | LineResult::Unsupported
        | LineResult::RefusedCancelled
        | LineResult::Cancelled
        | LineResult::Expired => return None,
    };
    Some(json!({
        "id": format!("WH-{number}"),
        "event_version": "1.0",
        "create_time": line.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "resource_type": resource_type,
        "resource_version": "2.0",
        "event_type": event_type,
        "summary": "An event of the sandbox.",
        "resource": resource,
    }))
}

/// The headers for an event that is sent at this time.
pub(in super::super) fn sign(
    key: &SecretString,
    body: &[u8],
    at: DateTime<Utc>,
) -> [(&'static str, String); 5] {
    let (id, time) =
        (uuid::Uuid::now_v7().to_string(), at.to_rfc3339_opts(SecondsFormat::Secs, true));
    let event = serde_json::from_slice(body).unwrap_or_default();
    let signature = STANDARD.encode(signed(key, &id, &time, &event).finalize().into_bytes());
    [
        ("paypal-transmission-id", id),
        ("paypal-transmission-time", time),
        ("paypal-transmission-sig", signature),
        (
            "paypal-cert-url",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-0".to_owned(),
        ),
        ("paypal-auth-algo", ALGORITHM.to_owned()),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    auth_algo: String,
    #[serde(rename = "cert_url")]
    _cert_url: String,
    transmission_id: String,
    transmission_sig: String,
    transmission_time: String,
    webhook_id: String,
    webhook_event: Value,
}

/// `POST /v1/notifications/verify-webhook-signature`
pub(super) async fn verify(State(gateway): Shared, body: Bytes) -> Result<Response, Wrong> {
    let asked: Question = params::read(&body)?;
    if asked.webhook_id != PAYPAL_WEBHOOK_ID {
        return Err(Wrong::missing());
    }
    let (id, time) = (&asked.transmission_id, &asked.transmission_time);
    let expected = signed(&gateway.api_key, id, time, &asked.webhook_event);
    let given = STANDARD.decode(&asked.transmission_sig).unwrap_or_default();
    let is_genuine = asked.auth_algo == ALGORITHM && expected.verify_slice(&given).is_ok();
    let status = if is_genuine { "SUCCESS" } else { "FAILURE" };
    Ok(Json(json!({ "verification_status": status })).into_response())
}

/// The signature of an event, before it is finished. Two texts of the same JSON have the same.
fn signed(key: &SecretString, id: &str, time: &str, event: &Value) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes());
    let mut mac = mac.expect("HMAC takes keys of any length");
    mac.update(format!("{id}|{time}|{PAYPAL_WEBHOOK_ID}|{event}").as_bytes());
    mac
}
