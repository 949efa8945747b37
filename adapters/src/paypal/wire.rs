//! The fields of PayPal's objects that this client reads, and their conversion into the shop's types.

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};
use stepwise_workflows::money::{Currency, Money};
use stepwise_workflows::payment::gateway::{
    Approval, ApprovalStatus, Authorization, AuthorizationStatus, Capture, DisputeStatus,
    GatewayError, MadeRefund, News, Reason, Reference, Refund, RefundStatus, Trouble,
};
use uuid::Uuid;

use super::PREFIX;

/// The currencies of which PayPal takes whole units only, though the currency has cents.
const WHOLE: [&str; 2] = ["HUF", "TWD"];

/// An order. Only its first purchase unit is read, because this client makes no other.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    #[serde(default)]
    intent: String,
    status: String,
    #[serde(default)]
    purchase_units: Vec<Unit>,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Debug, Clone, Deserialize)]
struct Unit {
    amount: Amount,
    custom_id: Option<String>,
    #[serde(default)]
    payments: Payments,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Payments {
    authorizations: Vec<Payment>,
    captures: Vec<CaptureObject>,
    refunds: Vec<RefundObject>,
}

/// An authorization.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Payment {
    pub(super) id: String,
    status: String,
    amount: Amount,
}

/// A capture.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CaptureObject {
    pub(super) id: String,
    status: String,
    amount: Amount,
}

/// A refund.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RefundObject {
    id: String,
    status: String,
    amount: Amount,
    custom_id: Option<String>,
    status_details: Option<Details>,
}

#[derive(Debug, Clone, Deserialize)]
struct Details {
    reason: Option<String>,
}

/// A dispute.
#[derive(Debug, Deserialize)]
pub(super) struct Dispute {
    dispute_id: String,
    status: Option<String>,
    dispute_amount: Amount,
    dispute_outcome: Option<Outcome>,
    #[serde(default)]
    disputed_transactions: Vec<Disputed>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    outcome_code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Disputed {
    seller_transaction_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Link {
    pub(super) rel: String,
    pub(super) href: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Amount {
    currency_code: String,
    value: String,
}

/// A 4xx answer, which is a decision of PayPal.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u16,
    /// The issue of the first detail, or else the name of the error.
    issue: String,
}

impl Failure {
    pub(super) fn read(status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            name: String,
            #[serde(default)]
            details: Vec<Detail>,
        }
        #[derive(Deserialize)]
        struct Detail {
            issue: Option<String>,
        }
        let Body { name, details } = serde_json::from_slice(body).ok()?;
        let issue = details.into_iter().find_map(|detail| detail.issue).unwrap_or(name);
        Some(Self { status, issue })
    }

    /// Whether the refusal may follow from an earlier request: then the order says what happened.
    pub(super) fn is_about_status(&self) -> bool {
        self.issue.starts_with("ORDER_") || self.issue == "ACTION_DOES_NOT_MATCH_INTENT"
    }

    /// The reason of a refusal. An error if the refusal concerns this client or the shop's account, not the payment.
    pub(super) fn reason(&self) -> Result<Reason, GatewayError> {
        let is_about_us = self.status == 400
            || self.issue.starts_with("PAYEE_")
            || matches!(&*self.issue, "DUPLICATE_REQUEST_ID" | "PERMISSION_DENIED");
        if is_about_us {
            return Err(GatewayError::NotDone(Trouble::Misconfigured(self.status)));
        }
        Ok(Reason::new(&self.issue))
    }
}

impl Order {
    pub(super) fn reference(&self) -> Reference {
        Reference(format!("{PREFIX}{}", self.id))
    }

    pub(super) fn amount(&self) -> Option<Money> {
        self.purchase_units.first()?.amount.money()
    }

    pub(super) fn custom_id(&self) -> Option<&str> {
        self.purchase_units.first()?.custom_id.as_deref().filter(|id| !id.is_empty())
    }

    /// The authorization, if there is one.
    pub(super) fn payment(&self) -> Option<&Payment> {
        self.purchase_units.first()?.payments.authorizations.first()
    }

    /// The capture that took the money, if there is one.
    pub(super) fn capture(&self) -> Option<&CaptureObject> {
        self.purchase_units.first()?.payments.captures.iter().find(|capture| capture.is_taken())
    }

    /// The refund whose `custom_id` is this request id.
    pub(super) fn refund_under(&self, request_id: &str) -> Option<&RefundObject> {
        let made = &self.purchase_units.first()?.payments.refunds;
        made.iter().find(|refund| refund.custom_id.as_deref() == Some(request_id))
    }

    pub(super) fn into_refunds(self) -> Vec<RefundObject> {
        self.purchase_units.into_iter().next().map(|unit| unit.payments.refunds).unwrap_or_default()
    }

    /// The address at which the customer approves the order.
    pub(super) fn approval_url(&self) -> Option<String> {
        let link = |rel: &str| self.links.iter().find(|link| link.rel == rel);
        Some(link("payer-action").or_else(|| link("approve"))?.href.clone())
    }

    /// The status as an approval. `None` if this client makes no such order.
    pub(super) fn approval_status(&self) -> Option<ApprovalStatus> {
        Some(match &*self.status {
            _ if self.is_closed() => ApprovalStatus::Voided,
            "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED" => ApprovalStatus::Open,
            "APPROVED" => ApprovalStatus::Approved,
            "COMPLETED" => ApprovalStatus::Completed,
            "VOIDED" => ApprovalStatus::Voided,
            _ => return None,
        })
    }

    /// The status as an authorization. `None` if this client makes no such order.
    pub(super) fn status(&self) -> Option<AuthorizationStatus> {
        let Some(payment) = self.payment() else {
            return Some(match self.approval_status()? {
                ApprovalStatus::Open => AuthorizationStatus::ApprovalRequired(Approval {
                    url: self.approval_url()?,
                    expires_at: None,
                }),
                ApprovalStatus::Approved => AuthorizationStatus::Created,
                ApprovalStatus::Voided => AuthorizationStatus::Cancelled,
                ApprovalStatus::Completed => return None,
            });
        };
        Some(match &*payment.status {
            "CREATED" => AuthorizationStatus::Authorized,
            "PENDING" => AuthorizationStatus::Processing,
            "DENIED" => AuthorizationStatus::Declined(Reason::new("authorization_denied")),
            "VOIDED" | "EXPIRED" => AuthorizationStatus::Cancelled,
            "CAPTURED" | "PARTIALLY_CAPTURED" => self.taken()?,
            _ => return None,
        })
    }

    fn taken(&self) -> Option<AuthorizationStatus> {
        let Payments { captures, refunds, .. } = &self.purchase_units.first()?.payments;
        let zero = Money::zero(self.amount()?.currency());
        let sum = |sum: Option<Money>, money: Option<Money>| sum?.plus(money?);
        if captures.iter().any(CaptureObject::is_pending) {
            return Some(AuthorizationStatus::Processing);
        }
        if !captures.iter().any(CaptureObject::is_taken) {
            return Some(AuthorizationStatus::Declined(Reason::new("capture_declined")));
        }
        let taken = captures.iter().filter(|capture| capture.is_taken());
        let back = refunds.iter().filter(|refund| !refund.has_failed());
        Some(AuthorizationStatus::Captured {
            captured: taken.map(|capture| capture.amount.money()).fold(Some(zero), sum)?,
            refunded: back.map(|refund| refund.amount.money()).fold(Some(zero), sum)?,
        })
    }

    /// The amount that a void released; zero if nothing was reserved.
    pub(super) fn released(&self) -> Option<Money> {
        match self.payment() {
            Some(payment) if payment.status != "DENIED" => payment.amount.money(),
            _ => Some(Money::zero(self.amount()?.currency())),
        }
    }

    pub(super) fn into_authorization(self) -> Option<Authorization> {
        Some(Authorization {
            status: self.status()?,
            order_id: self.custom_id().and_then(|id| Uuid::parse_str(id).ok()),
            amount: self.amount()?,
            reference: self.reference(),
        })
    }

    /// Whether this client has closed the order to authorizing.
    fn is_closed(&self) -> bool {
        self.intent == "CAPTURE" && self.payment().is_none() && self.status != "COMPLETED"
    }
}

impl CaptureObject {
    /// Whether PayPal still examines it.
    fn is_pending(&self) -> bool {
        self.status == "PENDING"
    }

    fn is_taken(&self) -> bool {
        matches!(&*self.status, "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED")
    }

    /// The answer to the request that made the capture.
    pub(super) fn into_capture(self) -> Option<Result<Capture, GatewayError>> {
        Some(match &*self.status {
            // PayPal examines it, and says later whether the money is the shop's.
            "PENDING" => Err(GatewayError::Unknown(Trouble::InFlight)),
            "DECLINED" | "FAILED" => Ok(Capture::Refused(Reason::new("capture_declined"))),
            _ if self.is_taken() => Ok(Capture::Captured { amount: self.amount.money()? }),
            _ => return None,
        })
    }
}

impl RefundObject {
    fn has_failed(&self) -> bool {
        matches!(&*self.status, "FAILED" | "CANCELLED")
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
        let status = match &*self.status {
            "COMPLETED" => RefundStatus::Succeeded,
            _ if self.has_failed() => {
                let why = self.status_details.and_then(|details| details.reason);
                RefundStatus::Failed(Reason::new(why.as_deref().unwrap_or(&self.status)))
            }
            _ => RefundStatus::Pending,
        };
        Some(MadeRefund {
            amount: self.amount.money()?,
            reference: Reference(self.id),
            status,
            key: self.custom_id.filter(|key| !key.is_empty()),
        })
    }
}

impl Dispute {
    /// The id of the disputed capture, if PayPal says it.
    pub(super) fn capture(&self) -> Option<String> {
        self.disputed_transactions.iter().find_map(|paid| paid.seller_transaction_id.clone())
    }

    /// The content of an event about this dispute. `None` if its money or its outcome cannot be read.
    pub(super) fn into_news(self, authorization: Reference) -> Option<News> {
        let is_decided = self.status.as_deref() == Some("RESOLVED");
        let outcome = self.dispute_outcome.and_then(|outcome| outcome.outcome_code);
        let status = match outcome.as_deref() {
            _ if !is_decided => DisputeStatus::Open,
            Some("RESOLVED_BUYER_FAVOUR" | "ACCEPTED") => DisputeStatus::Lost,
            // Among others a withdrawal, or a payout by PayPal: the money stays with the shop.
            Some(_) => DisputeStatus::Won,
            None => return None,
        };
        Some(News::Dispute {
            authorization,
            amount: self.dispute_amount.money()?,
            reference: Reference(self.dispute_id),
            status,
        })
    }
}

impl Amount {
    fn money(&self) -> Option<Money> {
        let currency: Currency = self.currency_code.parse().ok()?;
        Money::new(Decimal::from_str_exact(&self.value).ok()?, currency).ok()
    }
}

/// An amount as PayPal wants it.
pub(super) fn amount(money: Money) -> Value {
    let (amount, code) = (money.amount(), money.currency().code().to_owned());
    let is_whole = WHOLE.contains(&&*code) && amount.fract().is_zero();
    let value = if is_whole { amount.trunc() } else { amount };
    json!({ "currency_code": code, "value": value.to_string() })
}
