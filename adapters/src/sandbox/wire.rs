//! Stripe's objects in the sandbox's answers, with the fields that its clients read.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stepwise_workflows::money::Money;

use super::book::{Intent, RefundMade, RefundStatus, Refusal, Status};
use super::ledger::{LineResult, refund_id};
use crate::gateway::to_units;

#[derive(Serialize)]
pub(super) struct IntentObject {
    id: String,
    object: &'static str,
    amount: i64,
    amount_capturable: i64,
    amount_received: i64,
    cancellation_reason: Option<&'static str>,
    capture_method: &'static str,
    created: i64,
    currency: String,
    last_payment_error: Option<ErrorObject>,
    latest_charge: Option<Charge>,
    livemode: bool,
    metadata: Metadata,
    next_action: Option<NextAction>,
    payment_method: String,
    payment_method_types: [&'static str; 1],
    status: &'static str,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "orderId", skip_serializing_if = "String::is_empty")]
    order_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
}

#[derive(Serialize)]
struct NextAction {
    #[serde(rename = "type")]
    kind: &'static str,
    redirect_to_url: Redirect,
}

#[derive(Serialize)]
struct Redirect {
    url: String,
}

/// The id of an object, or the object itself if the request asked for it.
#[derive(Serialize)]
#[serde(untagged)]
enum Charge {
    Id(String),
    Object(ChargeObject),
}

#[derive(Serialize)]
pub(super) struct ChargeObject {
    id: String,
    object: &'static str,
    amount: i64,
    amount_captured: i64,
    amount_refunded: i64,
    captured: bool,
    currency: String,
    metadata: Metadata,
    payment_intent: String,
    refunded: bool,
    status: &'static str,
}

#[derive(Serialize)]
pub(super) struct RefundObject {
    pub(super) id: String,
    object: &'static str,
    amount: i64,
    created: i64,
    currency: String,
    metadata: Metadata,
    payment_intent: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct ListObject<T> {
    pub(super) object: &'static str,
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
    pub(super) url: &'static str,
}

#[derive(Serialize)]
pub(super) struct ErrorObject {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_code: Option<&'static str>,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_intent: Option<Box<IntentObject>>,
}

/// The options for showing an authorization.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The base address of the approval pages.
    pub(super) public_url: &'a str,
    /// Whether to show the charge as an object instead of its id.
    pub(super) expand: bool,
}

impl View<'_> {
    /// Shows the authorization as it is, or as it was just after `then`.
    pub(super) fn intent(self, intent: &Intent, then: Option<LineResult>) -> IntentObject {
        let status = then.and_then(status_after).unwrap_or(intent.status);
        let amount = minor(intent.amount);
        let is = |wanted| status == wanted;
        IntentObject {
            id: intent.reference.to_string(),
            object: "payment_intent",
            amount,
            amount_capturable: if is(Status::Authorized) { amount } else { 0 },
            amount_received: if is(Status::Captured) { minor(intent.captured) } else { 0 },
            cancellation_reason: (is(Status::Cancelled) && intent.expired).then_some("automatic"),
            capture_method: "manual",
            created: intent.created_at.timestamp(),
            currency: currency(intent.amount),
            last_payment_error: match status {
                Status::Declined | Status::Unsupported => Some(card_error(status)),
                _ => None,
            },
            latest_charge: intent.confirmed.then(|| match self.expand {
                true => Charge::Object(charge(intent)),
                false => Charge::Id(charge_id(intent)),
            }),
            livemode: false,
            metadata: metadata(intent, &intent.key),
            next_action: is(Status::ApprovalRequired).then(|| NextAction {
                kind: "redirect_to_url",
                redirect_to_url: Redirect {
                    url: format!("{}/sandbox/approve/{}", self.public_url, intent.reference),
                },
            }),
            payment_method: intent.behaviour.token(),
            payment_method_types: ["card"],
            status: match status {
                Status::Created => "requires_confirmation",
                Status::ApprovalRequired => "requires_action",
                Status::Authorized => "requires_capture",
                Status::Declined | Status::Unsupported => "requires_payment_method",
                Status::Captured => "succeeded",
                Status::Cancelled => "canceled",
            },
        }
    }
}

/// The charge of a confirmed authorization. A voided charge shows as refunded and not captured.
pub(super) fn charge(intent: &Intent) -> ChargeObject {
    let refunded = match intent.status {
        Status::Cancelled => intent.amount,
        _ => intent.refunded(),
    };
    let captured = intent.status == Status::Captured;
    let taken = if captured { intent.captured } else { intent.amount };
    ChargeObject {
        id: charge_id(intent),
        object: "charge",
        amount: minor(intent.amount),
        amount_captured: minor(intent.captured),
        amount_refunded: minor(refunded),
        captured,
        currency: currency(intent.amount),
        metadata: metadata(intent, &intent.key),
        payment_intent: intent.reference.to_string(),
        refunded: refunded == taken,
        status: "succeeded",
    }
}

pub(super) fn refund(intent: &Intent, index: usize, made: &RefundMade) -> RefundObject {
    RefundObject {
        id: refund_id(&intent.reference, index),
        object: "refund",
        amount: minor(made.amount),
        created: made.at.timestamp(),
        currency: currency(made.amount),
        metadata: metadata(intent, &made.key),
        payment_intent: intent.reference.to_string(),
        status: match made.status {
            RefundStatus::Pending => "pending",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
        },
        failure_reason: (made.status == RefundStatus::Failed).then_some("lost_or_stolen_card"),
    }
}

/// An error response in Stripe's format.
pub(super) fn error(
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: &'static str,
) -> Response {
    let error = ErrorObject { kind, code, decline_code: None, message, payment_intent: None };
    answer_error(status, error)
}

/// The error response for a card that was not accepted.
pub(super) fn card_refused(result: LineResult, intent: IntentObject) -> Response {
    let status = status_after(result).unwrap_or(Status::Declined);
    let error = ErrorObject { payment_intent: Some(Box::new(intent)), ..card_error(status) };
    answer_error(StatusCode::PAYMENT_REQUIRED, error)
}

/// The error response for a refusal. `intent` is its authorization, if there is one.
pub(super) fn refused(refusal: Refusal, intent: Option<IntentObject>) -> Response {
    let (status, kind, code, message) = match refusal {
        Refusal::Declined => {
            let error = ErrorObject {
                payment_intent: intent.map(Box::new),
                ..card_error(Status::Declined)
            };
            return answer_error(StatusCode::PAYMENT_REQUIRED, error);
        }
        Refusal::KeyReused => (
            StatusCode::BAD_REQUEST,
            "idempotency_error",
            "idempotency_key_reused",
            "The idempotency key was used with other parameters.",
        ),
        Refusal::Unknown => (
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            "resource_missing",
            "No such payment_intent.",
        ),
        Refusal::State => (
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "payment_intent_unexpected_state",
            "The PaymentIntent's status does not allow this.",
        ),
        Refusal::Amount => (
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "amount_too_large",
            "The amount is zero or more than what is left.",
        ),
    };
    let payment_intent = intent.map(Box::new);
    answer_error(status, ErrorObject { kind, code, decline_code: None, message, payment_intent })
}

fn answer_error(status: StatusCode, error: ErrorObject) -> Response {
    #[derive(Serialize)]
    struct Body {
        error: ErrorObject,
    }
    (status, Json(Body { error })).into_response()
}

fn card_error(status: Status) -> ErrorObject {
    let unsupported = status == Status::Unsupported;
    ErrorObject {
        kind: "card_error",
        code: "card_declined",
        decline_code: Some(if unsupported { "card_not_supported" } else { "generic_decline" }),
        message: if unsupported {
            "Your card does not support this type of purchase."
        } else {
            "Your card was declined."
        },
        payment_intent: None,
    }
}

fn status_after(result: LineResult) -> Option<Status> {
    Some(match result {
        LineResult::Created | LineResult::Approved => Status::Created,
        LineResult::Confirmed => Status::Authorized,
        LineResult::Declined => Status::Declined,
        LineResult::Unsupported => Status::Unsupported,
        LineResult::ApprovalRequired => Status::ApprovalRequired,
        LineResult::Cancelled | LineResult::RefusedCancelled | LineResult::Expired => {
            Status::Cancelled
        }
        LineResult::Captured => Status::Captured,
        LineResult::Refunded
        | LineResult::RefundPending
        | LineResult::RefundSettled
        | LineResult::RefundFailed => return None,
    })
}

fn metadata(intent: &Intent, key: &str) -> Metadata {
    Metadata { order_id: intent.order_id.to_string(), key: key.to_owned() }
}

fn charge_id(intent: &Intent) -> String {
    format!("ch_{}", unique(intent))
}

fn unique(intent: &Intent) -> &str {
    intent.reference.rsplit('_').next().unwrap_or_default()
}

/// The amount as Stripe counts it. A ledger of an earlier build may have an amount that Stripe would not take.
fn minor(money: Money) -> i64 {
    to_units(money).unwrap_or(money.minor())
}

fn currency(money: Money) -> String {
    money.currency().code().to_ascii_lowercase()
}
