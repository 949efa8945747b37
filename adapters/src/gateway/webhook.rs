//! Webhooks in Stripe's scheme. The signature is verified before the body is parsed.
//!
//! Header `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>…]`; each `v1` is HMAC-SHA256 over
//! `t`, a dot and the raw body under one secret. During a rotation both sides may use two.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;
use stepwise_workflows::payment::gateway::{GatewayEvent, GatewayEventKind};

use super::wire::{Charge, Intent};

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "stripe-signature";
/// The allowed difference between the time of a signature and this machine's clock, in seconds, in both directions.
pub const TOLERANCE_S: i64 = 300;
/// The maximum number of signatures and secrets that are compared, so that a stranger's request costs little.
const AT_MOST: usize = 8;

/// The reason why a webhook is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefusal {
    /// The header is missing or does not follow the scheme. 401.
    #[error("the signature is missing or malformed")]
    NotSigned,
    /// No signature matches any of the secrets. 401.
    #[error("the signature does not match")]
    WrongSignature,
    /// The webhook was signed too long ago (it may be a replay), or in the future. 401.
    #[error("the signature is too old or from the future")]
    OutOfTime,
    /// The signature is valid, but this version cannot read the event.
    #[error("the event cannot be read")]
    Unreadable,
}

/// Verifies the body's signature against any of `secrets`, in constant time, and reads the event.
///
/// `now` is the system's time, not the shop's, because the sender signs with its own clock. An event that does not
/// concern an authorization is `Ok(None)`.
pub fn receive(
    signature: Option<&str>,
    body: &[u8],
    secrets: &[SecretString],
    now: DateTime<Utc>,
) -> Result<Option<GatewayEvent>, WebhookRefusal> {
    verify(signature, body, secrets, now)?;
    read(body)
}

/// Verifies the signature alone.
pub fn verify(
    signature: Option<&str>,
    body: &[u8],
    secrets: &[SecretString],
    now: DateTime<Utc>,
) -> Result<(), WebhookRefusal> {
    let header = signature.ok_or(WebhookRefusal::NotSigned)?;
    let (time, signatures) = parse(header).ok_or(WebhookRefusal::NotSigned)?;
    let genuine = secrets.iter().take(AT_MOST).any(|secret| {
        signatures.iter().any(|signature| keyed(secret, time, body).verify_slice(signature).is_ok())
    });
    if !genuine {
        return Err(WebhookRefusal::WrongSignature);
    }
    if now.timestamp().abs_diff(time) > TOLERANCE_S.unsigned_abs() {
        return Err(WebhookRefusal::OutOfTime);
    }
    Ok(())
}

/// The header for `body`, signed at `at` under every one of `secrets`.
#[must_use]
pub fn sign(body: &[u8], secrets: &[SecretString], at: DateTime<Utc>) -> String {
    let time = at.timestamp();
    let mut header = format!("t={time}");
    for secret in secrets {
        header.push_str(",v1=");
        header.push_str(&hex::encode(keyed(secret, time, body).finalize().into_bytes()));
    }
    header
}

fn keyed(secret: &SecretString, time: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn parse(header: &str) -> Option<(i64, Vec<[u8; 32]>)> {
    let (mut time, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", value) => time = Some(value.parse().ok()?),
            ("v1", value) if signatures.len() < AT_MOST => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(value, &mut bytes).ok()?;
                signatures.push(bytes);
            }
            // Parts of other schemes are ignored.
            _ => {}
        }
    }
    (!signatures.is_empty()).then_some((time?, signatures))
}

fn read(body: &[u8]) -> Result<Option<GatewayEvent>, WebhookRefusal> {
    #[derive(Deserialize)]
    struct Envelope {
        id: String,
        created: i64,
        #[serde(rename = "type")]
        kind: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        object: serde_json::Value,
    }

    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|_| WebhookRefusal::Unreadable)?;
    let object = envelope.data.object;
    let (kind, authorization) = match envelope.kind.as_str() {
        "charge.refunded" => {
            let charge: Option<Charge> = serde_json::from_value(object).ok();
            (GatewayEventKind::Refunded, charge.and_then(Charge::into_authorization))
        }
        kind if kind.starts_with("payment_intent.") => {
            let intent: Option<Intent> = serde_json::from_value(object).ok();
            (kind_of(kind), intent.and_then(Intent::into_authorization))
        }
        _ => return Ok(None),
    };
    let at = DateTime::from_timestamp(envelope.created, 0).ok_or(WebhookRefusal::Unreadable)?;
    let authorization = authorization.ok_or(WebhookRefusal::Unreadable)?;
    Ok(Some(GatewayEvent { id: envelope.id, at, kind, authorization }))
}

fn kind_of(kind: &str) -> GatewayEventKind {
    match kind {
        "payment_intent.amount_capturable_updated" => GatewayEventKind::Authorized,
        "payment_intent.payment_failed" => GatewayEventKind::Declined,
        "payment_intent.requires_action" => GatewayEventKind::ApprovalRequired,
        "payment_intent.succeeded" => GatewayEventKind::Captured,
        "payment_intent.canceled" => GatewayEventKind::Cancelled,
        _ => GatewayEventKind::Other,
    }
}
