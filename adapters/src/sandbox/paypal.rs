//! PayPal's API in the sandbox: Orders v2 and Payments v2, as far as [`crate::paypal`] uses them, on the same book and ledger.
//!
//! An order of PayPal is an authorization in the book whose reference is `paypal:` and the order's id. Its authorization, capture and
//! refunds have ids that consist of the order's id and `A`, `C` or `R` with a number. A customer approves it at the same page as a
//! payment by card that needs it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use stepwise_workflows::money::Money;

use super::answer::Format;
use super::book::{Ask, Intent, Status, Subject};
use super::ledger::Op;
use super::misbehave::perform;
use super::{Gateway, Shared};
use crate::paypal::PREFIX;

pub(super) mod answer;
mod hooks;
mod objects;
mod params;
mod token;

pub use self::hooks::PAYPAL_WEBHOOK_ID;
pub(super) use self::hooks::{event, sign};
pub(super) use self::params::Returns;
pub use self::token::PAYPAL_CLIENT_ID;

use self::answer::closed_for_now;
use self::objects::View;
use self::params::{AmountBody, CaptureBody, Nothing, OpenBody, PatchBody, RefundBody, Wrong};

pub(super) fn routes(gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    let api = Router::new()
        .route("/v2/checkout/orders", post(open))
        .route("/v2/checkout/orders/{id}", get(show_order).patch(patch))
        .route("/v2/checkout/orders/{id}/authorize", post(authorize))
        .route("/v2/payments/authorizations/{id}", get(show_authorization))
        .route("/v2/payments/authorizations/{id}/void", post(void))
        .route("/v2/payments/authorizations/{id}/capture", post(capture))
        .route("/v2/payments/captures/{id}", get(show_capture))
        .route("/v2/payments/captures/{id}/refund", post(refund))
        .route("/v1/notifications/verify-webhook-signature", post(hooks::verify))
        .route_layer(middleware::from_fn_with_state(Arc::clone(gateway), token::admit));
    let tokens = Router::new()
        .route("/v1/oauth2/token", post(token::grant))
        .route_layer(middleware::from_fn_with_state(Arc::clone(gateway), open_only));
    api.merge(tokens)
}

async fn open_only(State(gateway): Shared, request: Request, next: Next) -> Response {
    if gateway.is_down() { closed_for_now() } else { next.run(request).await }
}

async fn open(State(gateway): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Wrong> {
    let key = params::request_id(&headers)?;
    if key.is_empty() {
        return Err(Wrong::malformed("PAYPAL_REQUEST_ID_REQUIRED"));
    }
    let (amount, returns) = params::read::<OpenBody>(&body)?.checked()?;
    let ask = Ask {
        op: Op::Create,
        key,
        subject: Subject::PayPal,
        amount: Some(amount),
        fingerprint: fingerprint("open", &body),
    };
    let answer = perform(&gateway, &ask, Format::PayPal).await;
    if answer.status().is_success() {
        let mut state = gateway.state();
        if let Some(reference) = state.book.opened_under(key).map(str::to_owned) {
            state.returns.insert(reference, returns);
        }
    }
    Ok(answer)
}

/// Names the shop's order, or closes an order to authorizing by another intent.
async fn patch(
    State(gateway): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let key = params::request_id(&headers)?;
    let patch = params::read::<PatchBody>(&body)?.checked()?;
    let reference = format!("{PREFIX}{id}");
    let (op, subject) = match &patch {
        params::Patch::CustomId(order_id) => {
            (Op::Create, Subject::Named { reference: &reference, order_id })
        }
        params::Patch::Capture => (Op::Cancel, Subject::Unreserved(&reference)),
    };
    let ask = Ask { op, key, subject, amount: None, fingerprint: fingerprint(&id, &body) };
    Ok(perform(&gateway, &ask, Format::PayPal).await)
}

async fn authorize(
    State(gateway): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    params::read::<Nothing>(&body)?;
    let reference = format!("{PREFIX}{id}");
    act(&gateway, Op::Confirm, &reference, &headers, None, &body).await
}

async fn void(
    State(gateway): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    params::read::<Nothing>(&body)?;
    let reference = paid(&gateway, &id, 'A', |intent| intent.confirmed)?;
    act(&gateway, Op::Cancel, &reference, &headers, None, &body).await
}

async fn capture(
    State(gateway): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let reference = paid(&gateway, &id, 'A', |intent| intent.confirmed)?;
    let asked: CaptureBody = params::read(&body)?;
    // The rest of an authorization is always released, so a capture that leaves it open is not spoken here.
    if !asked.final_capture {
        return Err(Wrong::refused("FINAL_CAPTURE_REQUIRED"));
    }
    let amount = part(&gateway, &reference, asked.amount, "AUTH_CAPTURE_CURRENCY_MISMATCH")?;
    act(&gateway, Op::Capture, &reference, &headers, amount, &body).await
}

async fn refund(
    State(gateway): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let reference = paid(&gateway, &id, 'C', |intent| intent.status == Status::Captured)?;
    let asked: RefundBody = params::read(&body)?;
    // The ledger keeps one key, so the two cannot differ here.
    if asked.custom_id.is_some_and(|id| Ok(&*id) != params::request_id(&headers)) {
        return Err(Wrong::malformed("INVALID_PARAMETER_VALUE"));
    }
    let amount = part(&gateway, &reference, asked.amount, "REFUND_CAPTURE_CURRENCY_MISMATCH")?;
    act(&gateway, Op::Refund, &reference, &headers, amount, &body).await
}

async fn act(
    gateway: &Arc<Gateway>,
    op: Op,
    reference: &str,
    headers: &HeaderMap,
    amount: Option<Money>,
    body: &[u8],
) -> Result<Response, Wrong> {
    let key = params::request_id(headers)?;
    let fingerprint = fingerprint(&format!("{op:?} {reference}"), body);
    let ask = Ask { op, key, subject: Subject::Reference(reference), amount, fingerprint };
    Ok(perform(gateway, &ask, Format::PayPal).await)
}

/// The reference of the order of an authorization or a capture.
fn paid(
    gateway: &Gateway,
    id: &str,
    suffix: char,
    exists: impl Fn(&Intent) -> bool,
) -> Result<String, Wrong> {
    let reference = id.strip_suffix(suffix).map(|order| format!("{PREFIX}{order}"));
    let state = gateway.state();
    let intent = reference.as_deref().and_then(|reference| state.book.intent(reference));
    match intent.filter(|intent| exists(intent)) {
        Some(intent) => Ok(intent.reference.to_string()),
        None => Err(Wrong::missing()),
    }
}

/// A part of the amount of an authorization or a capture. `None` for all of it.
fn part(
    gateway: &Gateway,
    reference: &str,
    amount: Option<AmountBody>,
    mismatch: &'static str,
) -> Result<Option<Money>, Wrong> {
    let Some(amount) = amount.map(|amount| amount.money()).transpose()? else { return Ok(None) };
    let state = gateway.state();
    let is_same = |intent: &Intent| intent.amount.currency() == amount.currency();
    match state.book.intent(reference).is_none_or(is_same) {
        true => Ok(Some(amount)),
        false => Err(Wrong::refused(mismatch)),
    }
}

async fn show_order(State(gateway): Shared, Path(id): Path<String>) -> Result<Response, Wrong> {
    let reference = format!("{PREFIX}{id}");
    let view = View { public_url: &gateway.public_url };
    let found = gateway.read(&reference, |intent| Some(view.order(intent?))).await;
    found.map(|order| Json(order).into_response()).ok_or(Wrong::missing())
}

async fn show_authorization(
    State(gateway): Shared,
    Path(id): Path<String>,
) -> Result<Response, Wrong> {
    let reference = paid(&gateway, &id, 'A', |intent| intent.confirmed)?;
    let view = View { public_url: &gateway.public_url };
    let found = gateway.read(&reference, |intent| Some(view.authorization(intent?))).await;
    found.map(|found| Json(found).into_response()).ok_or(Wrong::missing())
}

async fn show_capture(State(gateway): Shared, Path(id): Path<String>) -> Result<Response, Wrong> {
    let reference = paid(&gateway, &id, 'C', |intent| intent.status == Status::Captured)?;
    let view = View { public_url: &gateway.public_url };
    let found = gateway.read(&reference, |intent| Some(view.capture(intent?))).await;
    found.map(|found| Json(found).into_response()).ok_or(Wrong::missing())
}

/// A hash of the address and the body: a repeated request has the same.
fn fingerprint(path: &str, body: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    (path, body).hash(&mut hasher);
    Some(hasher.finish())
}
