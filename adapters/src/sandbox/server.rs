//! The gateway's routes, and the misbehaviour of each method on its confirm.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use rust_decimal::Decimal;
use secrecy::ExposeSecret;
use stepwise_workflows::money::{Currency, Money};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::book::{Ask, Intent, Refusal, Status, Subject};
use super::ledger::{LineResult, Op};
use super::method::SandboxMethod;
use super::wire::{self, ListObject};
use super::{Done, Gateway, Stopped, approval};

/// The maximum length of a request's body. Clients of this subset send nothing longer.
const BODY_BYTES: usize = 32 * 1024;
/// The maximum length of an idempotency key, the same as Stripe's.
const KEY_BYTES: usize = 255;
const ORDER_ID_BYTES: usize = 64;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

type Shared = State<Arc<Gateway>>;
type Fields = HashMap<String, String>;

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
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gateway), admit));
    let pages = Router::new()
        .route("/sandbox/approve/{reference}", get(approval::show).post(approval::decide))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gateway), open));
    Router::new()
        .merge(api)
        .merge(pages)
        .route("/sandbox/down", post(go_down))
        .route("/sandbox/up", post(come_up))
        .route("/sandbox/health", get(health))
        .fallback(async || missing())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(gateway)
}

/// Refuses requests while the gateway is switched off, and requests without the key.
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

async fn create(State(gateway): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let fields = form(&body);
    let Some(key) = key(&headers) else { return bad_request("idempotency_key_invalid") };
    let Some(amount) = amount(&fields, "amount").zip(currency(&fields)) else {
        return bad_request("parameter_invalid_integer");
    };
    let Ok(amount) = Money::from_minor(amount.0, amount.1) else {
        return bad_request("amount_too_large");
    };
    if fields.get("capture_method").map(String::as_str) != Some("manual") {
        return bad_request("parameter_unsupported");
    }
    let token = fields.get("payment_method").map(String::as_str).unwrap_or_default();
    let Some(method) = SandboxMethod::from_token(token) else {
        return bad_request("resource_missing");
    };
    let order_id = fields.get("metadata[orderId]").map(String::as_str).unwrap_or_default();
    if order_id.len() > ORDER_ID_BYTES || order_id.contains(char::is_control) {
        return bad_request("metadata_invalid");
    }
    let subject = Subject::New { method, order_id };
    let ask = Ask { op: Op::Create, key, subject, amount: Some(amount) };
    answer(&gateway, &ask, &fields).await
}

async fn confirm(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields = form(&body);
    let Some(key) = key(&headers) else { return bad_request("idempotency_key_invalid") };
    let ask = Ask { op: Op::Confirm, key, subject: Subject::Reference(&reference), amount: None };
    match misbehaving(&gateway, &reference, key) {
        None | Some(SandboxMethod::Ok) => answer(&gateway, &ask, &fields).await,
        Some(SandboxMethod::Slow) => {
            let answer = answer(&gateway, &ask, &fields).await;
            pause(&gateway, gateway.timing.slow).await;
            answer
        }
        Some(SandboxMethod::TimeoutAfter) => {
            // The result is in the ledger; the caller must not learn it.
            let _unsaid = answer(&gateway, &ask, &fields).await;
            never(&gateway).await
        }
        Some(SandboxMethod::ActsLate) => {
            let Some(_late) = Late::begin(&gateway, &reference, key) else {
                return in_flight();
            };
            never(&gateway).await
        }
        Some(_) => never(&gateway).await,
    }
}

/// The misbehaviour of a confirm. `None` if it behaves. `ActsLate` and `TimeoutBefore` behave if the outcome is already
/// decided: the authorization was cancelled, or the late act has happened.
fn misbehaving(gateway: &Gateway, reference: &str, key: &str) -> Option<SandboxMethod> {
    let state = gateway.state();
    let intent = state.book.intent(reference)?;
    match intent.method {
        method @ (SandboxMethod::Slow | SandboxMethod::TimeoutAfter) => Some(method),
        method @ (SandboxMethod::ActsLate | SandboxMethod::TimeoutBefore) => {
            let open = intent.status == Status::Created && !state.book.knows_key(key);
            open.then_some(method)
        }
        SandboxMethod::Ok
        | SandboxMethod::Declined
        | SandboxMethod::Unsupported
        | SandboxMethod::Twice
        | SandboxMethod::Challenge => None,
    }
}

async fn cancel(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(key) = key(&headers) else { return bad_request("idempotency_key_invalid") };
    let ask = Ask { op: Op::Cancel, key, subject: Subject::Reference(&reference), amount: None };
    answer(&gateway, &ask, &form(&body)).await
}

async fn capture(
    State(gateway): Shared,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fields = form(&body);
    let Some(key) = key(&headers) else { return bad_request("idempotency_key_invalid") };
    let amount = match part(&gateway, &reference, &fields, "amount_to_capture") {
        Ok(amount) => amount,
        Err(code) => return bad_request(code),
    };
    let ask = Ask { op: Op::Capture, key, subject: Subject::Reference(&reference), amount };
    answer(&gateway, &ask, &fields).await
}

async fn refund(State(gateway): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let fields = form(&body);
    let Some(key) = key(&headers) else { return bad_request("idempotency_key_invalid") };
    let Some(reference) = fields.get("payment_intent") else {
        return bad_request("parameter_missing");
    };
    let amount = match part(&gateway, reference, &fields, "amount") {
        Ok(amount) => amount,
        Err(code) => return bad_request(code),
    };
    let ask = Ask { op: Op::Refund, key, subject: Subject::Reference(reference), amount };
    match gateway.commit(&ask).await {
        Ok(done) => {
            let made = gateway.state().book.intent(&done.reference).and_then(|intent| {
                // Without a key, the newest is found.
                let index = intent.refunds.iter().rposition(|made| &*made.key == key)?;
                Some(wire::refund(intent, index, &intent.refunds[index]))
            });
            made.map_or_else(missing, |refund| Json(refund).into_response())
        }
        Err(stopped) => refuse(&gateway, reference, stopped),
    }
}

async fn refunds(State(gateway): Shared, RawQuery(query): RawQuery) -> Response {
    let fields = form(query.unwrap_or_default().as_bytes());
    let reference = fields.get("payment_intent").map(String::as_str).unwrap_or_default();
    let data = gateway
        .read(reference, |intent| {
            let intent = intent?;
            let made = intent.refunds.iter().enumerate().rev();
            Some(made.map(|(index, made)| wire::refund(intent, index, made)).collect())
        })
        .await;
    list(data.unwrap_or_default(), "list", "/v1/refunds")
}

async fn retrieve(
    State(gateway): Shared,
    Path(reference): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let view = gateway.view(expands(&form(query.unwrap_or_default().as_bytes())));
    let object = gateway.read(&reference, |intent| Some(view.intent(intent?, None))).await;
    object.map_or_else(missing, |object| Json(object).into_response())
}

/// Searches by `metadata['key']`, and by `metadata['orderId']` if that is also given.
async fn search(State(gateway): Shared, RawQuery(query): RawQuery) -> Response {
    let fields = form(query.unwrap_or_default().as_bytes());
    let query = fields.get("query").map(String::as_str).unwrap_or_default();
    let Some(key) = quoted(query, "metadata['key']:'") else {
        return bad_request("parameter_invalid_string");
    };
    let order_id = quoted(query, "metadata['orderId']:'");
    let is_wanted =
        |intent: &&Intent| order_id.as_deref().is_none_or(|wanted| *wanted == *intent.order_id);
    let reference = {
        let state = gateway.state();
        state.book.created_under(&key).filter(is_wanted).map(|intent| intent.reference.to_string())
    };
    let mut data = Vec::new();
    if let Some(reference) = reference {
        let view = gateway.view(expands(&fields));
        data.extend(gateway.read(&reference, |intent| Some(view.intent(intent?, None))).await);
    }
    list(data, "search_result", "/v1/payment_intents/search")
}

/// Executes an operation and returns the authorization.
async fn answer(gateway: &Gateway, ask: &Ask<'_>, fields: &Fields) -> Response {
    let reference = match ask.subject {
        Subject::Reference(reference) | Subject::Approval { reference, .. } => reference,
        Subject::New { .. } => "",
    };
    let Done { reference, result } = match gateway.commit(ask).await {
        Ok(done) => done,
        Err(stopped) => return refuse(gateway, reference, stopped),
    };
    let state = gateway.state();
    let Some(intent) = state.book.intent(&reference) else { return missing() };
    let object = gateway.view(expands(fields)).intent(intent, Some(result));
    drop(state);
    match result {
        LineResult::Declined | LineResult::Unsupported => wire::card_refused(result, object),
        LineResult::RefusedCancelled => wire::refused(Refusal::State, Some(object)),
        _ => Json(object).into_response(),
    }
}

fn refuse(gateway: &Gateway, reference: &str, stopped: Stopped) -> Response {
    let refusal = match stopped {
        Stopped::Refused(refusal) => refusal,
        Stopped::Closed => return out_of_order(),
    };
    let state = gateway.state();
    let intent = match refusal {
        Refusal::State => state.book.intent(reference),
        Refusal::KeyReused | Refusal::Unknown | Refusal::Amount => None,
    };
    wire::refused(refusal, intent.map(|intent| gateway.view(false).intent(intent, None)))
}

/// A confirm that acts some time after its caller has given up. The caller's giving up drops this value.
struct Late {
    gateway: Arc<Gateway>,
    reference: String,
    key: String,
}

impl Late {
    /// Registers a late confirm. `None` if one with this key is already registered.
    fn begin(gateway: &Arc<Gateway>, reference: &str, key: &str) -> Option<Self> {
        let fresh = gateway.state().late.insert(format!("{reference} {key}"));
        fresh.then(|| Self {
            gateway: Arc::clone(gateway),
            reference: reference.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let (gateway, closing) = (Arc::clone(&self.gateway), self.gateway.closing.clone());
        let (reference, key) = (std::mem::take(&mut self.reference), std::mem::take(&mut self.key));
        let act = async move {
            tokio::time::sleep(gateway.timing.acts_late).await;
            let subject = Subject::Reference(&reference);
            let ask = Ask { op: Op::Confirm, key: &key, subject, amount: None };
            // The caller has gone, so the result is only in the ledger.
            let _unheard = gateway.commit(&ask).await;
            gateway.state().late.remove(&format!("{reference} {key}"));
        };
        self.gateway.tasks.spawn(closing.run_until_cancelled_owned(act));
    }
}

/// Keeps the connection open without an answer until the caller gives up. When the gateway stops, or after a long wait,
/// it answers with an error that does not tell the outcome.
async fn never(gateway: &Gateway) -> Response {
    pause(gateway, gateway.timing.hold).await;
    out_of_order()
}

async fn pause(gateway: &Gateway, time: std::time::Duration) {
    gateway.closing.run_until_cancelled(tokio::time::sleep(time)).await;
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let key = headers.get(IDEMPOTENCY_KEY).map_or(Ok(""), |value| value.to_str()).ok()?;
    (key.len() <= KEY_BYTES).then_some(key)
}

/// Form fields and query parameters. If a name is given twice, the last value counts.
pub(super) fn form(body: &[u8]) -> Fields {
    form_urlencoded::parse(body).into_owned().collect()
}

fn amount(fields: &Fields, name: &str) -> Option<i64> {
    fields.get(name)?.parse().ok().filter(|minor| *minor >= 0)
}

fn currency(fields: &Fields) -> Option<Currency> {
    fields.get("currency")?.to_ascii_uppercase().parse().ok()
}

/// A part of the authorization's amount. `None` for all of it.
fn part(
    gateway: &Gateway,
    reference: &str,
    fields: &Fields,
    name: &str,
) -> Result<Option<Money>, &'static str> {
    if !fields.contains_key(name) {
        return Ok(None);
    }
    let minor = amount(fields, name).ok_or("parameter_invalid_integer")?;
    let state = gateway.state();
    // If the authorization is unknown, its currency does not matter: the request is refused.
    let currency = state.book.intent(reference).map_or(Currency::USD, |i| i.amount.currency());
    let money = Money::from_minor(minor, currency).map_err(|_| "amount_too_large")?;
    (money.amount() > Decimal::ZERO).then_some(Some(money)).ok_or("parameter_invalid_integer")
}

fn expands(fields: &Fields) -> bool {
    fields.get("expand[]").is_some_and(|what| what == "latest_charge")
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

fn list<T: serde::Serialize>(data: Vec<T>, object: &'static str, url: &'static str) -> Response {
    Json(ListObject { object, data, has_more: false, url }).into_response()
}

fn bad_request(code: &'static str) -> Response {
    let message = "A parameter is missing, malformed or out of range.";
    wire::error(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
}

fn missing() -> Response {
    let (kind, code) = ("invalid_request_error", "resource_missing");
    wire::error(StatusCode::NOT_FOUND, kind, code, "There is no such object.")
}

fn in_flight() -> Response {
    let (kind, code) = ("idempotency_error", "idempotency_key_in_use");
    wire::error(StatusCode::CONFLICT, kind, code, "A request with this key is still running.")
}

fn closed_for_now() -> Response {
    let (kind, code) = ("api_error", "closed");
    let message = "The sandbox is switched off; nothing was done.";
    let answer = wire::error(StatusCode::SERVICE_UNAVAILABLE, kind, code, message);
    ([(header::RETRY_AFTER, "1")], answer).into_response()
}

fn out_of_order() -> Response {
    let (kind, code) = ("api_error", "internal");
    let message = "Whether anything was done is not known.";
    wire::error(StatusCode::INTERNAL_SERVER_ERROR, kind, code, message)
}
