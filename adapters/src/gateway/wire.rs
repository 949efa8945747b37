//! The fields of Stripe's objects that this client reads, and their conversion into the shop's types.

use chrono::{DateTime, Datelike as _, Utc};
use serde::Deserialize;
use stepwise_workflows::money::{Currency, InvalidMoney, Money};
use stepwise_workflows::payment::gateway::{
    Approval, Authorization, AuthorizationStatus, Cancellation, Confirmation, DisputeStatus,
    GatewayError, MadeRefund, News, Reason, Reference, Refund, RefundStatus,
};
use uuid::Uuid;

use crate::provider::GARBLED;

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
    pub(super) id: String,
    pub(super) payment_intent: Option<String>,
    amount: i64,
    currency: String,
    status: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    failure_reason: Option<String>,
}

/// A Dispute.
#[derive(Debug, Deserialize)]
pub(super) struct Dispute {
    id: String,
    pub(super) payment_intent: Option<String>,
    amount: i64,
    currency: String,
    status: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
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

    /// Whether this client is at fault, not the payment: the key was used for another request, or the request is invalid.
    pub(super) fn is_about_us(&self) -> bool {
        let code = self.error.code.as_deref().unwrap_or_default();
        self.error.kind.as_deref() == Some("idempotency_error")
            || code.starts_with("parameter_")
            || matches!(
                code,
                "url_invalid"
                    | "api_key_expired"
                    | "livemode_mismatch"
                    | "platform_api_key_expired"
                    | "secret_key_required"
                    | "testmode_charges_only"
            )
    }

    /// Whether another request or process holds the object. The request was not begun.
    pub(super) fn is_lock(&self) -> bool {
        self.error.code.as_deref() == Some("lock_timeout")
    }

    /// Whether the object's status does not allow what was asked for.
    pub(super) fn is_about_status(&self) -> bool {
        matches!(
            self.error.code.as_deref(),
            Some("payment_intent_unexpected_state" | "charge_already_captured")
        )
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

/// A time in Unix seconds. `None` if it is none that the database and the documents of this shop can hold.
pub(super) fn time(unix_s: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(unix_s, 0).filter(|at| (1970..10_000).contains(&at.year()))
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
                    expires_at: action.expires_at.and_then(time),
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

    /// The answer to closing it. `None`: it is open.
    pub(super) fn into_cancellation(mut self) -> Result<Option<Cancellation>, GatewayError> {
        match self.status().ok_or(GARBLED)? {
            AuthorizationStatus::Cancelled => {
                let released = self.released().ok_or(GARBLED)?;
                let reference = Reference(self.take_id());
                Ok(Some(Cancellation::Cancelled { reference, released }))
            }
            AuthorizationStatus::Captured { .. } => Ok(Some(Cancellation::AlreadyCaptured)),
            _ => Ok(None),
        }
    }

    pub(super) fn is_captured(&self) -> bool {
        self.status == "succeeded"
    }

    /// The captured amount.
    pub(super) fn received(&self) -> Option<Money> {
        self.money(self.amount_received)
    }

    /// The amount that a void released. Stripe shows a voided charge as refunded and not captured.
    fn released(&self) -> Option<Money> {
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
    /// Stripe shows a voided charge as refunded and not captured.
    pub(super) fn into_authorization(self) -> Option<Authorization> {
        let status = match (self.amount_captured, self.amount_refunded) {
            (0, 1..) => AuthorizationStatus::Cancelled,
            (captured, refunded) => AuthorizationStatus::Captured {
                captured: money(captured, &self.currency)?,
                refunded: money(refunded, &self.currency)?,
            },
        };
        Some(Authorization {
            order_id: self.metadata.order_id(),
            amount: money(self.amount, &self.currency)?,
            status,
            reference: Reference(self.payment_intent?),
        })
    }
}

impl RefundObject {
    pub(super) fn key(&self) -> Option<&str> {
        self.metadata.key.as_deref()
    }

    /// The answer to the request that made the refund.
    pub(super) fn into_refund(self) -> Option<Refund> {
        let MadeRefund { reference, amount, status, .. } = self.into_made()?;
        Some(match status {
            RefundStatus::Succeeded => Refund::Refunded { reference, amount },
            RefundStatus::Pending => Refund::Pending { reference, amount },
            RefundStatus::Failed(reason) => Refund::Refused(reason),
        })
    }

    pub(super) fn into_made(self) -> Option<MadeRefund> {
        let status = match self.status.as_deref() {
            Some("succeeded") => RefundStatus::Succeeded,
            Some(ended @ ("failed" | "canceled")) => {
                RefundStatus::Failed(Reason::new(self.failure_reason.as_deref().unwrap_or(ended)))
            }
            // `pending`, `requires_action`, and no status: it is accepted, and not done yet.
            _ => RefundStatus::Pending,
        };
        Some(MadeRefund {
            amount: money(self.amount, &self.currency)?,
            reference: Reference(self.id),
            status,
            key: self.metadata.key.filter(|key| !key.is_empty()),
        })
    }

    /// The content of an event about this refund. `None` if its money cannot be read or nothing was authorized.
    pub(super) fn into_news(mut self) -> Option<News> {
        let authorization = Reference(self.payment_intent.take()?);
        Some(News::Refund { authorization, refund: self.into_made()? })
    }
}

impl Dispute {
    /// The content of an event about this dispute. `None` if its money cannot be read or nothing was authorized.
    pub(super) fn into_news(self) -> Option<News> {
        let status = match self.status.as_str() {
            "won" | "warning_closed" | "prevented" => DisputeStatus::Won,
            "lost" => DisputeStatus::Lost,
            _ => DisputeStatus::Open,
        };
        Some(News::Dispute {
            authorization: Reference(self.payment_intent?),
            amount: money(self.amount, &self.currency)?,
            reference: Reference(self.id),
            status,
        })
    }
}

impl Metadata {
    fn order_id(&self) -> Option<Uuid> {
        self.order_id.as_deref().and_then(|text| text.parse().ok())
    }
}

fn money(units: i64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.to_ascii_uppercase().parse().ok()?;
    from_units(units, currency).ok()
}

/// The amount in the unit in which Stripe counts this currency. `None`: Stripe does not take such an amount.
/// Source: <https://docs.stripe.com/currencies#special-cases>, and the lists of zero-decimal and three-decimal currencies above it.
pub(crate) fn to_units(money: Money) -> Option<i64> {
    let minor = money.minor();
    match money.currency().code() {
        // They have no decimals any more, but Stripe still counts hundredths of them.
        "ISK" | "UGX" => minor.checked_mul(100),
        // Stripe counts it in whole units.
        "MGA" => (minor % 100 == 0).then_some(minor / 100),
        // The last of three digits must be 0. Stripe does not list IQD and LYD, which have three digits as well.
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => (minor % 10 == 0).then_some(minor),
        _ => Some(minor),
    }
}

/// Whether Stripe takes every amount of this currency, down to its smallest unit. A shop whose totals are not rounded needs such a currency.
#[must_use]
pub fn takes_every_amount(currency: Currency) -> bool {
    Money::from_minor(1, currency).is_ok_and(|smallest| to_units(smallest).is_some())
}

/// The opposite of [`to_units`].
pub(crate) fn from_units(units: i64, currency: Currency) -> Result<Money, InvalidMoney> {
    match currency.code() {
        "ISK" | "UGX" if units % 100 != 0 => Err(InvalidMoney::TooManyDigits),
        "ISK" | "UGX" => Money::from_minor(units / 100, currency),
        "MGA" => Money::from_minor(units.checked_mul(100).ok_or(InvalidMoney::TooLarge)?, currency),
        _ => Money::from_minor(units, currency),
    }
}
