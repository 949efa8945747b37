//! Webhooks of PayPal. PayPal itself is asked whether it has sent them, before anything in them is believed.
//!
//! PayPal signs an event with five headers ([`Transmission`]), and its `verify-webhook-signature` says whether they fit the event.
//! That is one call to PayPal for each delivery, so the number of questions at a time is limited, and further events wait for a few
//! seconds. If PayPal cannot be asked, the event is not accepted ([`NotBelieved::Unasked`]), and PayPal sends it again for three days.
//!
//! Events about an authorization, a capture or a dispute lead to a second question, because the event names PayPal's own ids and not the
//! order's, and because the order as it is now is a better witness than an event that comes late. An event that is sent again has the
//! same id, which the shop stores.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use stepwise_workflows::payment::gateway::{
    GatewayError, GatewayEvent, GatewayEventKind, News, Reference, Trouble,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::Answer;
use super::wire::{Dispute, Link, Order, RefundObject};
use super::{PREFIX, PayPal};
use crate::gateway::webhook::{WebhookRefusal, event_id, event_name};
use crate::provider::GARBLED;

/// The maximum number of events that are verified at the same time.
pub(super) const QUESTIONS: usize = 16;
/// The maximum length of a header of a transmission, in bytes.
const HEADER_BYTES: usize = 1_000;
/// The maximum number of objects that are read on the way from an event to its order.
const HOPS: usize = 3;

/// The headers with which PayPal signs an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmission {
    /// `PAYPAL-TRANSMISSION-ID`
    pub id: String,
    /// `PAYPAL-TRANSMISSION-TIME`
    pub time: String,
    /// `PAYPAL-TRANSMISSION-SIG`
    pub signature: String,
    /// `PAYPAL-CERT-URL`
    pub cert_url: String,
    /// `PAYPAL-AUTH-ALGO`
    pub algorithm: String,
}

impl Transmission {
    /// Reads the headers with `header`, which returns the value of a header of the request. `None` if one is missing or too long.
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let read = |name| {
            let value = header(name).filter(|value| (1..=HEADER_BYTES).contains(&value.len()))?;
            Some(value.to_owned())
        };
        Some(Self {
            id: read("paypal-transmission-id")?,
            time: read("paypal-transmission-time")?,
            signature: read("paypal-transmission-sig")?,
            cert_url: read("paypal-cert-url")?,
            algorithm: read("paypal-auth-algo")?,
        })
    }
}

/// The reason why an event is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotBelieved {
    /// PayPal has not sent it. 401.
    #[error(transparent)]
    Refused(#[from] WebhookRefusal),
    /// PayPal cannot be asked about it now: it is to send it again. 503.
    #[error("whether PayPal has sent it is not known: {0}")]
    Unasked(GatewayError),
}

/// The questions that may be asked at the same time.
pub(super) fn questions() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(QUESTIONS))
}

/// The parts of an event that are the same for all kinds. Each is optional, because an event that lacks one is still recorded.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    id: Value,
    create_time: Value,
    event_type: Value,
    resource: Value,
}

/// The fields of authorizations, captures and refunds that lead to the order.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Related {
    supplementary_data: Supplementary,
    links: Vec<Link>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Supplementary {
    related_ids: RelatedIds,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RelatedIds {
    order_id: Option<String>,
}

impl PayPal {
    /// Asks PayPal whether it has sent this event, and reads it. Whatever the event is, PayPal's word makes it an event: see
    /// [`News::NoConcern`] and [`News::Unreadable`]. Round trips: 1, or 2 to 4 for an event about money.
    pub async fn receive(
        &self,
        transmission: Option<&Transmission>,
        body: &[u8],
    ) -> Result<GatewayEvent, NotBelieved> {
        let transmission = transmission.ok_or(WebhookRefusal::NotSigned)?;
        let asking = timeout(self.client.config.timeout, self.questions.acquire());
        let busy = || NotBelieved::Unasked(GatewayError::NotDone(Trouble::TimedOut));
        let _question = asking.await.ok().and_then(Result::ok).ok_or_else(busy)?;
        self.verify(transmission, body).await?;
        self.read_event(body).await.map_err(NotBelieved::Unasked)
    }

    async fn verify(&self, sent: &Transmission, body: &[u8]) -> Result<(), NotBelieved> {
        #[derive(Deserialize)]
        struct Verdict {
            verification_status: String,
        }
        // PayPal compares the event byte by byte, so it is sent back as it came. It must be whole JSON to be put into a request.
        let event = std::str::from_utf8(body)
            .ok()
            .filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
            .ok_or(WebhookRefusal::WrongSignature)?;
        let signed = serde_json::json!({
            "auth_algo": sent.algorithm,
            "cert_url": sent.cert_url,
            "transmission_id": sent.id,
            "transmission_sig": sent.signature,
            "transmission_time": sent.time,
            "webhook_id": self.client.config.webhook_id,
        })
        .to_string();
        let request = format!("{},\"webhook_event\":{event}}}", signed.trim_end_matches('}'));
        let path = ["v1", "notifications", "verify-webhook-signature"];
        let answer = self.client.post_text(&path, None, request).await;
        match answer.map_err(NotBelieved::Unasked)? {
            Answer::Done(answer) => {
                let verdict: Verdict = answer.json().map_err(NotBelieved::Unasked)?;
                match &*verdict.verification_status {
                    "SUCCESS" => Ok(()),
                    _ => Err(WebhookRefusal::WrongSignature.into()),
                }
            }
            // PayPal does not know the configured webhook.
            Answer::Refused(failure) if failure.status == 404 => Err(NotBelieved::Unasked(
                GatewayError::NotDone(Trouble::Misconfigured(failure.status)),
            )),
            // The headers are not PayPal's.
            Answer::Refused(_) => Err(WebhookRefusal::WrongSignature.into()),
        }
    }

    async fn read_event(&self, body: &[u8]) -> Result<GatewayEvent, GatewayError> {
        let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
        let id = event_id(&envelope.id, body);
        let Some(name) = event_name(&envelope.event_type) else {
            let name = "unreadable".to_owned();
            return Ok(GatewayEvent { id, name, at: None, news: News::Unreadable });
        };
        let at = envelope.create_time.as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let at = at.map(|at| at.with_timezone(&Utc));
        let news = self.news(&name, envelope.resource).await?.unwrap_or(News::Unreadable);
        Ok(GatewayEvent { id, name, at, news })
    }

    /// The content of an event. `None`: it cannot be read.
    async fn news(&self, name: &str, resource: Value) -> Result<Option<News>, GatewayError> {
        match name {
            "PAYMENT.CAPTURE.REFUNDED" | "PAYMENT.CAPTURE.REVERSED" => self.refund(resource).await,
            name if name.starts_with("PAYMENT.REFUND.") => self.refund(resource).await,
            name if name.starts_with("PAYMENT.AUTHORIZATION.")
                || name.starts_with("PAYMENT.CAPTURE.") =>
            {
                self.authorization(kind_of(name), resource).await
            }
            name if name.starts_with("CUSTOMER.DISPUTE.") => self.dispute(resource).await,
            name if name.starts_with("CHECKOUT.ORDER.") => {
                let order: Option<Order> = typed(resource);
                Ok(order.and_then(|order| {
                    let (reference, status) = (order.reference(), order.approval_status()?);
                    Some(News::Approval { reference, status })
                }))
            }
            _ => Ok(Some(News::NoConcern)),
        }
    }

    async fn authorization(
        &self,
        kind: GatewayEventKind,
        resource: Value,
    ) -> Result<Option<News>, GatewayError> {
        let Some(reference) = self.order_of(resource).await? else {
            return Ok(Some(News::NoConcern));
        };
        let Some(order) = self.order(&reference).await? else { return Ok(Some(News::NoConcern)) };
        Ok(order.into_authorization().map(|found| News::Authorization(kind, found)))
    }

    async fn refund(&self, resource: Value) -> Result<Option<News>, GatewayError> {
        let refund = typed(resource.clone()).and_then(RefundObject::into_made);
        let Some(refund) = refund else { return Ok(None) };
        let of = self.order_of(resource).await?;
        Ok(Some(of.map_or(News::NoConcern, |authorization| News::Refund { authorization, refund })))
    }

    async fn dispute(&self, resource: Value) -> Result<Option<News>, GatewayError> {
        let dispute: Option<Dispute> = typed(resource);
        let Some((dispute, capture)) = dispute.and_then(|d| d.capture().map(|id| (d, id))) else {
            return Ok(None);
        };
        let Some(capture) = self.payment_object("captures", &capture).await? else {
            return Ok(Some(News::NoConcern));
        };
        match self.order_of(capture).await? {
            Some(authorization) => Ok(dispute.into_news(authorization)),
            None => Ok(Some(News::NoConcern)),
        }
    }

    /// The order of an authorization, a capture or a refund. `None`: it was paid without an order of Orders v2. Round trips: 0 to 3.
    async fn order_of(&self, resource: Value) -> Result<Option<Reference>, GatewayError> {
        let mut resource = resource;
        for _ in 0..HOPS {
            let Related { supplementary_data, links } = typed(resource).unwrap_or_default();
            if let Some(id) = supplementary_data.related_ids.order_id {
                return Ok(Some(Reference(format!("{PREFIX}{id}"))));
            }
            let up = links.into_iter().find(|link| link.rel == "up").map(|link| link.href);
            let mut path = up.as_deref().unwrap_or_default().rsplit('/');
            let next = match (path.next(), path.next()) {
                (Some(id), Some("orders")) => {
                    return Ok(Some(Reference(format!("{PREFIX}{id}"))));
                }
                (Some(id), Some(kind @ ("captures" | "authorizations"))) => {
                    self.payment_object(kind, id).await?
                }
                _ => None,
            };
            match next {
                Some(next) => resource = next,
                None => return Ok(None),
            }
        }
        Err(GARBLED)
    }

    async fn payment_object(&self, kind: &str, id: &str) -> Result<Option<Value>, GatewayError> {
        self.client.get(&["v2", "payments", kind, id]).await
    }
}

fn typed<T: DeserializeOwned>(resource: Value) -> Option<T> {
    serde_json::from_value(resource).ok()
}

fn kind_of(name: &str) -> GatewayEventKind {
    match name {
        "PAYMENT.AUTHORIZATION.CREATED" => GatewayEventKind::Authorized,
        "PAYMENT.AUTHORIZATION.VOIDED" => GatewayEventKind::Cancelled,
        "PAYMENT.CAPTURE.COMPLETED" => GatewayEventKind::Captured,
        "PAYMENT.CAPTURE.DENIED" | "PAYMENT.CAPTURE.DECLINED" => GatewayEventKind::Declined,
        _ => GatewayEventKind::Other,
    }
}
