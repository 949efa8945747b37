//! The gateway's routes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use secrecy::ExposeSecret;
use stepwise_workflows::money::Money;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::answer::{Format, missing};
use super::book::{Ask, Intent, Subject};
use super::ledger::Op;
use super::method::{Behaviour, SandboxMethod};
use super::misbehave::perform;
use super::params::{self, Fields, Wrong};
use super::wire::{self, ListObject};
use super::{Gateway, Shared, approval, paypal, wallet};
use crate::gateway::API_VERSION;
use crate::paypal::PREFIX;

/// The maximum length of a request's body. Clients of this subset send nothing longer.
const BODY_BYTES: usize = 32 * 1024;

/// Serves requests until `shutdown`, then lets running requests end.
pub(super) async fn run(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without this option answers may wait 40 ms. If it cannot be set, nothing else is affected.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, routes(gateway)).with_graceful_shutdown(shutdown).await
}

fn routes(gateway: Arc<Gateway>) -> Router {
    let api = Router::new()
        .route("/v1/payment_intents", post(create))
        .route("/v1/payment_intents/search", get(search))
        .route("/v1/payment_intents/{reference}", get(retrieve))
        .route("/v1/payment_intents/{reference}/confirm", post(confirm))
        .route("/v1/payment_intents/{reference}/cancel", post(cancel))
        .route("/v1/payment_intents/{reference}/capture", post(capture))
        .route("/v1/refunds", post(refund).get(refunds))
        .route("/v1/customers", post(wallet::open))
        .route("/v1/customers/{id}", delete(wallet::delete))
        .route("/v1/payment_methods/{token}", get(wallet::retrieve))
        .route("/v1/payment_methods/{token}/attach", post(wallet::attach))
        .route("/v1/payment_methods/{token}/detach", post(wallet::detach))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gateway), admit));
    let pages = Router::new()
        .route("/sandbox/approve/{reference}", get(approval::show).post(approval::decide))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gateway), open));
    Router::new()
        .merge(api)
        .merge(paypal::routes(&gateway))
        .merge(pages)
        .route("/sandbox/down", post(go_down))
        .route("/sandbox/up", post(come_up))
        .route("/sandbox/misbehave", post(misbehave))
        .route("/sandbox/health", get(health))
        .fallback(async || missing())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(gateway)
}

/// Refuses requests while the gateway is switched off, requests without the API key, and those for another version of the API.
async fn admit(State(gateway): Shared, request: Request, next: Next) -> Response {
    if gateway.is_down() {
        return closed_for_now();
    }
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let token = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    if !bool::from(token.ct_eq(gateway.api_key.expose_secret().as_bytes())) {
        let (kind, code) = ("invalid_request_error", "api_key_invalid");
        return wire::error(StatusCode::UNAUTHORIZED, kind, code, "Invalid API key provided.");
    }
    // Stripe does not know the payments at PayPal.
    if request.uri().path().contains(PREFIX) {
        return missing();
    }
    let version = request.headers().get("stripe-version");
    if version.is_some_and(|version| version != API_VERSION) {
        return Wrong("api_version_invalid").into_response();
    }
    next.run(request).await
}

async fn open(State(gateway): Shared, request: Request, next: Next) -> Response {
    if gateway.is_down() { closed_for_now() } else { next.run(request).await }
}

async fn go_down(State(gateway): Shared) -> StatusCode {
    gateway.down.store(true, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn come_up(State(gateway): Shared) -> StatusCode {
    gateway.down.store(false, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn health(State(gateway): Shared) -> Response {
    Json(serde_json::json!({ "up": !gateway.is_down() })).into_response()
}

async fn create(
    State(gateway): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let known = [
        "amount",
        "currency",
        "capture_method",
        "customer",
        "payment_method",
        "payment_method_types[]",
        "metadata",
        "expand[]",
    ];
    let fields = params::only(&body, &known)?;
    let key = params::key(&headers, &fields)?;
    let amount = params::money(&fields)?;
    if fields.get("capture_method").map(String::as_str) != Some("manual") {
        return Err(Wrong("parameter_unsupported"));
    }
    params::one_of(&fields, "payment_method_types[]", &["card"])?;
    let token = fields.get("payment_method").map(String::as_str).unwrap_or_default();
    let behaviour = Behaviour::from_token(token).ok_or(Wrong("resource_missing"))?;
    {
        let state = gateway.state();
        // A repeated request gets the answer that it got before.
        if state.book.created_under(key).is_none() {
            state.wallets.allows(token, fields.get("customer").map(String::as_str))?;
        }
    }
    let subject = Subject::New { behaviour, order_id: params::order_id(&fields)? };
    let fingerprint = Some(params::fingerprint("create", &fields));
    let ask = Ask { op: Op::Create, key, subject, amount: Some(amount), fingerprint };
    Ok(perform(&gateway, &ask, Format::Stripe(&fields)).await)
}

async fn confirm(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["return_url", "expand[]"])?;
    params::address(&fields, "return_url")?;
    let ask = about(Op::Confirm, &reference, params::key(&headers, &fields)?, None, &fields);
    let needs_approval = gateway.state().book.method(&ask) == Some(SandboxMethod::Challenge);
    if needs_approval && !fields.contains_key("return_url") {
        return Err(Wrong("parameter_missing"));
    }
    Ok(perform(&gateway, &ask, Format::Stripe(&fields)).await)
}

async fn cancel(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["cancellation_reason", "expand[]"])?;
    let reasons = ["abandoned", "duplicate", "fraudulent", "requested_by_customer"];
    params::one_of(&fields, "cancellation_reason", &reasons)?;
    let ask = about(Op::Cancel, &reference, params::key(&headers, &fields)?, None, &fields);
    Ok(perform(&gateway, &ask, Format::Stripe(&fields)).await)
}

async fn capture(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["amount_to_capture", "expand[]"])?;
    let key = params::key(&headers, &fields)?;
    let amount = params::part(&gateway, &reference, &fields, "amount_to_capture")?;
    let ask = about(Op::Capture, &reference, key, amount, &fields);
    Ok(perform(&gateway, &ask, Format::Stripe(&fields)).await)
}

async fn refund(
    State(gateway): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Wrong> {
    let fields = params::only(&body, &["payment_intent", "amount", "reason", "metadata"])?;
    let key = params::key(&headers, &fields)?;
    let reasons = ["duplicate", "fraudulent", "requested_by_customer"];
    params::one_of(&fields, "reason", &reasons)?;
    let reference = fields.get("payment_intent").ok_or(Wrong("parameter_missing"))?;
    let amount = params::part(&gateway, reference, &fields, "amount")?;
    let ask = about(Op::Refund, reference, key, amount, &fields);
    Ok(perform(&gateway, &ask, Format::Stripe(&fields)).await)
}

fn about<'a>(
    op: Op,
    reference: &'a str,
    key: &'a str,
    amount: Option<Money>,
    fields: &Fields,
) -> Ask<'a> {
    let path = format!("{op:?} {reference}");
    let fingerprint = Some(params::fingerprint(&path, fields));
    Ask { op, key, subject: Subject::Reference(reference), amount, fingerprint }
}

async fn refunds(State(gateway): Shared, RawQuery(query): RawQuery) -> Result<Response, Wrong> {
    let known = ["payment_intent", "limit", "starting_after"];
    let fields = params::only(query.unwrap_or_default().as_bytes(), &known)?;
    let limit = params::limit(&fields)?;
    let reference = fields.get("payment_intent").map(String::as_str).unwrap_or_default();
    let made = gateway.read(reference, |intent| {
        let intent = intent?;
        let made = intent.refunds.iter().enumerate().rev();
        Some(made.map(|(index, made)| wire::refund(intent, index, made)).collect::<Vec<_>>())
    });
    let mut made = made.await.unwrap_or_default();
    if let Some(after) = fields.get("starting_after") {
        let at = made.iter().position(|refund| refund.id == *after);
        made.drain(..=at.ok_or(Wrong("resource_missing"))?);
    }
    let has_more = made.len() > limit;
    made.truncate(limit);
    Ok(list(made, has_more, "list", "/v1/refunds"))
}

async fn retrieve(
    State(gateway): Shared,
    Path(reference): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Wrong> {
    let fields = params::only(query.unwrap_or_default().as_bytes(), &["expand[]"])?;
    let view = gateway.view(params::expands(&fields));
    let object = gateway.read(&reference, |intent| Some(view.intent(intent?, None))).await;
    Ok(object.map_or_else(missing, |object| Json(object).into_response()))
}

/// Searches by `metadata['key']`, and by `metadata['orderId']` if that is also given.
async fn search(State(gateway): Shared, RawQuery(query): RawQuery) -> Result<Response, Wrong> {
    let known = ["query", "limit", "expand[]"];
    let fields = params::only(query.unwrap_or_default().as_bytes(), &known)?;
    params::limit(&fields)?;
    let query = fields.get("query").map(String::as_str).unwrap_or_default();
    let key = quoted(query, "metadata['key']:'").ok_or(Wrong("parameter_invalid_string"))?;
    let order_id = quoted(query, "metadata['orderId']:'");
    let is_wanted =
        |intent: &&Intent| order_id.as_deref().is_none_or(|wanted| *wanted == *intent.order_id);
    let reference = {
        let state = gateway.state();
        state.book.created_under(&key).filter(is_wanted).map(|intent| intent.reference.to_string())
    };
    let mut data = Vec::new();
    if let Some(reference) = reference {
        let view = gateway.view(params::expands(&fields));
        data.extend(gateway.read(&reference, |intent| Some(view.intent(intent?, None))).await);
    }
    Ok(list(data, false, "search_result", "/v1/payment_intents/search"))
}

/// `POST /sandbox/misbehave`: `on` an operation every authorization behaves like `method`, until `method` is `ok`.
async fn misbehave(State(gateway): Shared, body: Bytes) -> Result<StatusCode, Wrong> {
    let fields = params::only(&body, &["on", "method"])?;
    let given = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let on = match given("on") {
        "create" => Op::Create,
        "confirm" => Op::Confirm,
        "capture" => Op::Capture,
        "void" => Op::Cancel,
        "refund" => Op::Refund,
        _ => return Err(Wrong("parameter_invalid_string")),
    };
    let method = SandboxMethod::named(given("method")).filter(|method| method.suits(on));
    let method = method.ok_or(Wrong("parameter_invalid_string"))?;
    let mut state = gateway.state();
    match method {
        SandboxMethod::Ok => state.book.switched.remove(&on),
        method => state.book.switched.insert(on, method),
    };
    Ok(StatusCode::NO_CONTENT)
}

/// The text between `start` and the next unescaped quote.
fn quoted(query: &str, start: &str) -> Option<String> {
    let (_, rest) = query.split_once(start)?;
    let mut text = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '\\' => text.push(chars.next()?),
            '\'' => return Some(text),
            other => text.push(other),
        }
    }
}

fn list<T: serde::Serialize>(
    data: Vec<T>,
    has_more: bool,
    object: &'static str,
    url: &'static str,
) -> Response {
    Json(ListObject { object, data, has_more, url }).into_response()
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let message = "A parameter is missing, unknown, malformed or out of range.";
        wire::error(StatusCode::BAD_REQUEST, "invalid_request_error", self.0, message)
    }
}

fn closed_for_now() -> Response {
    let (kind, code) = ("api_error", "closed");
    let message = "The sandbox is switched off; nothing was done.";
    let answer = wire::error(StatusCode::SERVICE_UNAVAILABLE, kind, code, message);
    ([(header::RETRY_AFTER, "1")], answer).into_response()
}
