//! Webhooks in Stripe's scheme. The signature is verified before the body is parsed.
//!
//! Header `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>…]`; each `v1` is HMAC-SHA256 over
//! `t`, a dot and the raw body under one secret. During a rotation both sides may use two.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stepwise_workflows::payment::gateway::{
    AuthorizationStatus, GatewayEvent, GatewayEventKind, News,
};

use super::wire::{Charge, Dispute, Intent, RefundObject, time};

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "stripe-signature";
/// The allowed difference between the time of a signature and this machine's clock, in seconds, in both directions.
pub const TOLERANCE_S: i64 = 300;
/// The maximum number of signatures and secrets that are compared, so that a stranger's request costs little.
const AT_MOST: usize = 8;
/// The maximum length of an event's id.
const ID_CHARS: usize = 255;
/// The maximum length of the name of an event's kind.
const NAME_CHARS: usize = 64;

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
}

/// Verifies the body's signature against any of `secrets`, in constant time, and reads the event.
///
/// `now` is the system's time, not the shop's, because the sender signs with its own clock. Whatever the body is, a
/// valid signature makes it an event: see [`News::NoConcern`] and [`News::Unreadable`].
pub fn receive(
    signature: Option<&str>,
    body: &[u8],
    secrets: &[SecretString],
    now: DateTime<Utc>,
) -> Result<GatewayEvent, WebhookRefusal> {
    verify(signature, body, secrets, now)?;
    Ok(read(body))
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

/// The parts of an event that are the same for all kinds. Each is optional, because an event that lacks one is still recorded.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    id: Value,
    created: Value,
    #[serde(rename = "type")]
    kind: Value,
    data: Value,
}

fn read(body: &[u8]) -> GatewayEvent {
    let mut envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let id = event_id(&envelope.id, body);
    let Some(name) = event_name(&envelope.kind) else {
        return GatewayEvent {
            id,
            name: "unreadable".to_owned(),
            at: None,
            news: News::Unreadable,
        };
    };
    let at = envelope.created.as_i64().and_then(time);
    let object = envelope.data.get_mut("object").map(Value::take).unwrap_or_default();
    let news = news(&name, object);
    GatewayEvent { id, name, at, news }
}

/// An event's id that can be stored, or one made from the event's content if it has none.
pub(crate) fn event_id(value: &Value, body: &[u8]) -> String {
    clean(value, ID_CHARS)
        .unwrap_or_else(|| format!("sha256:{}", hex::encode(Sha256::digest(body))))
}

/// The name of an event's kind that can be stored. `None` if it has none.
pub(crate) fn event_name(value: &Value) -> Option<String> {
    clean(value, NAME_CHARS)
}

/// The text without what Postgres and logs do not take, cut to its maximum length. `None` if nothing is left.
fn clean(value: &Value, most: usize) -> Option<String> {
    let text: String = value.as_str()?.chars().filter(|c| !c.is_control()).take(most).collect();
    (!text.is_empty()).then_some(text)
}

fn news(name: &str, object: Value) -> News {
    let news = match name {
        "charge.refunded" => charge(object, GatewayEventKind::Refunded),
        "charge.captured" => charge(object, GatewayEventKind::Captured),
        "charge.expired" => charge(object, GatewayEventKind::Cancelled),
        "charge.refund.updated" | "refund.created" | "refund.updated" | "refund.failed" => {
            let refund: Option<RefundObject> = typed(object);
            match refund {
                // A refund of a charge that was made without an authorization is not one of ours.
                Some(refund) if refund.payment_intent.is_none() => Some(News::NoConcern),
                refund => refund.and_then(RefundObject::into_news),
            }
        }
        name if name.starts_with("charge.dispute.") => {
            let dispute: Option<Dispute> = typed(object);
            match dispute {
                Some(dispute) if dispute.payment_intent.is_none() => Some(News::NoConcern),
                dispute => dispute.and_then(Dispute::into_news),
            }
        }
        name if name.starts_with("payment_intent.") => {
            let intent: Option<Intent> = typed(object);
            let authorization = intent.and_then(Intent::into_authorization);
            authorization.map(|authorization| News::Authorization(kind_of(name), authorization))
        }
        _ => Some(News::NoConcern),
    };
    news.unwrap_or(News::Unreadable)
}

fn charge(object: Value, kind: GatewayEventKind) -> Option<News> {
    let charge: Charge = typed(object)?;
    if charge.payment_intent.is_none() {
        return Some(News::NoConcern);
    }
    let mut authorization = charge.into_authorization()?;
    if kind == GatewayEventKind::Cancelled {
        authorization.status = AuthorizationStatus::Cancelled;
    }
    Some(News::Authorization(kind, authorization))
}

fn typed<T: DeserializeOwned>(object: Value) -> Option<T> {
    serde_json::from_value(object).ok()
}

fn kind_of(name: &str) -> GatewayEventKind {
    match name {
        "payment_intent.amount_capturable_updated" => GatewayEventKind::Authorized,
        "payment_intent.payment_failed" => GatewayEventKind::Declined,
        "payment_intent.requires_action" => GatewayEventKind::ApprovalRequired,
        "payment_intent.succeeded" => GatewayEventKind::Captured,
        "payment_intent.canceled" => GatewayEventKind::Cancelled,
        _ => GatewayEventKind::Other,
    }
}
