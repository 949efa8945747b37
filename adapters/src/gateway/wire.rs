//! The fields of Stripe's objects that this client reads, and their conversion into the shop's types.

use chrono::DateTime;
use serde::Deserialize;
use stepwise_workflows::money::{Currency, Money};
use stepwise_workflows::payment::gateway::{
    Approval, Authorization, AuthorizationStatus, Confirmation, Reason, Reference, Refund,
};
use uuid::Uuid;

/// A PaymentIntent.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    amount: i64,
    #[serde(default)]
    amount_received: i64,
    currency: String,
    status: String,
    #[serde(default)]
    metadata: Metadata,
    last_payment_error: Option<ErrorBody>,
    next_action: Option<NextAction>,
    latest_charge: Option<Expandable>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "orderId")]
    order_id: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct NextAction {
    redirect_to_url: Option<Redirect>,
    #[serde(default)]
    expires_at: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Redirect {
    url: String,
}

/// The id of an object, or the object itself if the request asked for it (`expand`).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Expandable {
    Charge(Charge),
    Id(#[expect(dead_code, reason = "only distinguishes the two forms")] String),
}

/// A Charge: the captured and refunded amounts of an intent.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Charge {
    pub(super) payment_intent: Option<String>,
    amount: i64,
    currency: String,
    #[serde(default)]
    amount_captured: i64,
    #[serde(default)]
    amount_refunded: i64,
    #[serde(default)]
    metadata: Metadata,
}

/// A Refund.
#[derive(Debug, Deserialize)]
pub(super) struct RefundObject {
    id: String,
    amount: i64,
    currency: String,
    status: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    failure_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
}

#[derive(Debug, Clone, Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
    payment_intent: Option<Box<Intent>>,
}

/// A 4xx answer, which is a decision of the gateway.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u16,
    error: ErrorBody,
}

impl Failure {
    pub(super) fn read(status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: ErrorBody,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        Some(Self { status, error: body.error })
    }

    pub(super) fn is_card_error(&self) -> bool {
        self.error.kind.as_deref() == Some("card_error")
    }

    /// Whether this client is at fault: the key was used for another request, or the request is invalid.
    pub(super) fn is_about_us(&self) -> bool {
        self.error.kind.as_deref() == Some("idempotency_error")
    }

    pub(super) fn decline(&self) -> Reason {
        self.error.reason()
    }

    pub(super) fn take_intent(&mut self) -> Option<Intent> {
        self.error.payment_intent.take().map(|intent| *intent)
    }
}

impl ErrorBody {
    /// The issuer's code for the decline if there is one, or else the gateway's.
    fn reason(&self) -> Reason {
        Reason::new(self.decline_code.as_deref().or(self.code.as_deref()).unwrap_or_default())
    }
}

fn is_unsupported(reason: &Reason) -> bool {
    matches!(reason.as_str(), "card_not_supported" | "currency_not_supported")
}

/// A refusal of the card: unsupported or declined.
pub(super) fn declined(reason: Reason) -> Confirmation {
    if is_unsupported(&reason) { Confirmation::Unsupported } else { Confirmation::Declined(reason) }
}

impl Intent {
    /// The authorization's status. `None` if manual capture has no such status.
    pub(super) fn status(&self) -> Option<AuthorizationStatus> {
        Some(match self.status.as_str() {
            "requires_payment_method" => match &self.last_payment_error {
                None => AuthorizationStatus::Created,
                Some(error) if is_unsupported(&error.reason()) => AuthorizationStatus::Unsupported,
                Some(error) => AuthorizationStatus::Declined(error.reason()),
            },
            "requires_confirmation" => AuthorizationStatus::Created,
            "processing" => AuthorizationStatus::Processing,
            "requires_action" => {
                let action = self.next_action.as_ref()?;
                AuthorizationStatus::ApprovalRequired(Approval {
                    url: action.redirect_to_url.as_ref()?.url.clone(),
                    expires_at: action.expires_at.and_then(|at| DateTime::from_timestamp(at, 0)),
                })
            }
            "requires_capture" => AuthorizationStatus::Authorized,
            "succeeded" => AuthorizationStatus::Captured {
                captured: self.received()?,
                refunded: self.money(self.charge().map_or(0, |charge| charge.amount_refunded))?,
            },
            "canceled" => AuthorizationStatus::Cancelled,
            _ => return None,
        })
    }

    pub(super) fn into_authorization(mut self) -> Option<Authorization> {
        Some(Authorization {
            status: self.status()?,
            order_id: self.metadata.order_id(),
            amount: self.money(self.amount)?,
            reference: Reference(self.take_id()),
        })
    }

    pub(super) fn is_captured(&self) -> bool {
        self.status == "succeeded"
    }

    /// The captured amount.
    pub(super) fn received(&self) -> Option<Money> {
        self.money(self.amount_received)
    }

    /// The amount that a void released. Stripe shows a voided charge as refunded and not captured.
    pub(super) fn released(&self) -> Option<Money> {
        self.money(self.charge().map_or(0, |charge| charge.amount_refunded))
    }

    pub(super) fn take_id(&mut self) -> String {
        std::mem::take(&mut self.id)
    }

    fn charge(&self) -> Option<&Charge> {
        match self.latest_charge.as_ref()? {
            Expandable::Charge(charge) => Some(charge),
            Expandable::Id(_) => None,
        }
    }

    fn money(&self, minor: i64) -> Option<Money> {
        money(minor, &self.currency)
    }
}

impl Charge {
    /// The authorization behind a refunded charge.
    pub(super) fn into_authorization(self) -> Option<Authorization> {
        Some(Authorization {
            order_id: self.metadata.order_id(),
            amount: money(self.amount, &self.currency)?,
            status: AuthorizationStatus::Captured {
                captured: money(self.amount_captured, &self.currency)?,
                refunded: money(self.amount_refunded, &self.currency)?,
            },
            reference: Reference(self.payment_intent?),
        })
    }
}

impl RefundObject {
    pub(super) fn key(&self) -> Option<&str> {
        self.metadata.key.as_deref()
    }

    /// Converts the refund. A pending refund was accepted; the gateway completes it.
    pub(super) fn into_refund(self) -> Option<Refund> {
        Some(match self.status.as_deref() {
            Some("failed" | "canceled") => Refund::Refused(Reason::new(
                self.failure_reason.as_deref().unwrap_or("refund_failed"),
            )),
            _ => Refund::Refunded {
                amount: money(self.amount, &self.currency)?,
                reference: Reference(self.id),
            },
        })
    }
}

impl Metadata {
    fn order_id(&self) -> Option<Uuid> {
        self.order_id.as_deref().and_then(|text| text.parse().ok())
    }
}

fn money(minor: i64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.to_ascii_uppercase().parse().ok()?;
    Money::from_minor(minor, currency).ok()
}
