//! Tests of single calls and events with a PayPal that the test scripts. The tests with the sandbox are beside it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use stepwise_workflows::money::Currency;
use stepwise_workflows::payment::gateway::{
    DisputeStatus, GatewayEvent, GatewayEventKind, MethodToken, News, OPERATION, RefundStatus,
};
use tokio::net::TcpListener;

use super::client::renewed_after;
use super::webhook::{NotBelieved, QUESTIONS, Transmission};
use super::*;

const SECRET: &str = "paypal-secret";

/// A PayPal that grants tokens and gives its scripted answers one after the other.
#[derive(Clone)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    requests: Arc<Mutex<Vec<String>>>,
    granted: Arc<AtomicUsize>,
    expires_in: Arc<AtomicU64>,
    /// The number of the token that is refused.
    refuses: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start(answers: &[(u16, &str)]) -> (Self, PayPal) {
        let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let scripted = Self {
            answers: Arc::new(Mutex::new(answers)),
            requests: Arc::default(),
            granted: Arc::default(),
            expires_in: Arc::new(AtomicU64::new(32_400)),
            refuses: Arc::default(),
        };
        let app = Router::new()
            .route("/v1/oauth2/token", post(grant))
            .fallback(answer)
            .with_state(scripted.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let config = PayPalConfig {
            webhook_id: "WH".to_owned(),
            timeout: Duration::from_secs(2),
            ..PayPalConfig::new(url.parse().expect("a URL"), "client", SECRET.into())
        };
        (scripted, PayPal::new(config).expect("made"))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("whole").clone()
    }
}

async fn grant(State(scripted): State<Scripted>) -> Response {
    let number = scripted.granted.fetch_add(1, SeqCst) + 1;
    let expires_in = scripted.expires_in.load(SeqCst);
    axum::Json(json!({ "access_token": format!("token-{number}"), "expires_in": expires_in }))
        .into_response()
}

async fn answer(
    State(scripted): State<Scripted>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header =
        |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
    let text = String::from_utf8_lossy(&body);
    let (token, key) = (header("authorization"), header("paypal-request-id"));
    let request = format!("{method} {} {token} {key} {text}", uri.path());
    scripted.requests.lock().expect("whole").push(request);
    let is_refused = token == format!("Bearer token-{}", scripted.refuses.load(SeqCst));
    let answer = if is_refused {
        Some((401, String::new()))
    } else {
        scripted.answers.lock().expect("whole").pop_front()
    };
    let (status, body) = answer.unwrap_or((404, NOWHERE.to_owned()));
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json")], body).into_response()
}

const NOWHERE: &str =
    r#"{"name":"RESOURCE_NOT_FOUND","details":[{"issue":"INVALID_RESOURCE_ID"}]}"#;

/// An order with this status and these fields of its purchase unit.
fn order(status: &str, unit: &str) -> String {
    format!(
        r#"{{"id":"O1","intent":"AUTHORIZE","status":"{status}","purchase_units":[{{"amount":{{"currency_code":"USD","value":"49.99"}}{unit}}}],
        "links":[{{"rel":"approve","href":"https://paypal.example/approve"}}]}}"#
    )
}

fn payments(authorization: &str, capture: &str) -> String {
    let amount = r#""amount":{"currency_code":"USD","value":"49.99"}"#;
    let authorization = format!(r#"{{"id":"A1","status":"{authorization}",{amount}}}"#);
    let capture = format!(r#"{{"id":"C1","status":"{capture}",{amount}}}"#);
    format!(r#","payments":{{"authorizations":[{authorization}],"captures":[{capture}]}}"#)
}

fn failure(issue: &str) -> String {
    format!(r#"{{"name":"UNPROCESSABLE_ENTITY","details":[{{"issue":"{issue}"}}]}}"#)
}

fn reference() -> Reference {
    Reference("paypal:O1".to_owned())
}

fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD).expect("small")
}

async fn confirm(answers: &[(u16, &str)]) -> Result<Confirmation, GatewayError> {
    Scripted::start(answers).await.1.confirm("k", &reference()).await
}

#[tokio::test]
async fn only_what_surely_did_nothing_may_be_repeated_without_asking() {
    use Trouble::{Garbled, InFlight, Misconfigured, ServerError, Unavailable};

    type Expected = fn(&GatewayError) -> bool;
    let cases: [(u16, &str, Expected); 9] = [
        (500, "", |e| matches!(e, GatewayError::Unknown(ServerError(500)))),
        (503, "", |e| matches!(e, GatewayError::Unknown(ServerError(503)))),
        (429, "", |e| matches!(e, GatewayError::NotDone(Unavailable(429)))),
        (403, "", |e| matches!(e, GatewayError::NotDone(Misconfigured(403)))),
        (409, "", |e| matches!(e, GatewayError::Unknown(InFlight))),
        (422, "", |e| matches!(e, GatewayError::Unknown(Garbled))),
        (200, "[]", |e| matches!(e, GatewayError::Unknown(Garbled))),
        (400, r#"{"name":"INVALID_REQUEST"}"#, |e| {
            matches!(e, GatewayError::NotDone(Misconfigured(400)))
        }),
        (422, r#"{"name":"X","details":[{"issue":"PAYEE_ACCOUNT_RESTRICTED"}]}"#, |e| {
            matches!(e, GatewayError::NotDone(Misconfigured(422)))
        }),
    ];
    for (status, body, expected) in cases {
        let error = confirm(&[(status, body)]).await.expect_err("no answer");
        assert!(expected(&error), "{error} for {status} {body}");
    }
    // Nothing was asked for before the question was answered.
    let (_, paypal) = Scripted::start(&[(500, "")]).await;
    let error = paypal.capture("k", &reference(), usd(1)).await.expect_err("unasked");
    assert!(matches!(error, GatewayError::NotDone(Trouble::ServerError(500))), "{error}");
}

#[tokio::test]
async fn a_refusal_to_authorize_is_a_decline_or_says_to_look_at_the_order() {
    let refused = failure("ORDER_ALREADY_AUTHORIZED");
    let held = order("COMPLETED", &payments("CREATED", "DECLINED"));
    let answer = confirm(&[(422, &refused), (200, &held)]).await.expect("answered");
    assert_eq!(answer, Confirmation::Confirmed(reference()));
    let voided = order("COMPLETED", &payments("VOIDED", "DECLINED"));
    let answer = confirm(&[(422, &refused), (200, &voided)]).await.expect("answered");
    assert_eq!(answer, Confirmation::Cancelled);
    let waits = order("CREATED", "");
    let answer = confirm(&[(422, &failure("ORDER_NOT_APPROVED")), (200, &waits)]).await;
    let Ok(Confirmation::ApprovalRequired(approval)) = answer else { panic!("{answer:?}") };
    assert_eq!(approval.url, "https://paypal.example/approve");
    let answer = confirm(&[(422, &failure("INSTRUMENT_DECLINED"))]).await.expect("answered");
    assert_eq!(answer, Confirmation::Declined(Reason::new("instrument_declined")));
    let denied = order("COMPLETED", &payments("DENIED", "DECLINED"));
    let answer = confirm(&[(201, &denied)]).await.expect("answered");
    assert_eq!(answer, Confirmation::Declined(Reason::new("authorization_denied")));
    let pending = order("COMPLETED", &payments("PENDING", "DECLINED"));
    let answer = confirm(&[(201, &pending)]).await;
    assert!(matches!(answer, Err(GatewayError::Unknown(Trouble::InFlight))), "{answer:?}");
}

#[tokio::test]
async fn a_capture_that_paypal_examines_is_unknown_until_paypal_has_decided() {
    let held = order("COMPLETED", &payments("CREATED", "DECLINED"));
    let made = |status: &str| {
        format!(
            r#"{{"id":"C1","status":"{status}","amount":{{"currency_code":"USD","value":"49.99"}}}}"#
        )
    };
    let capture = async |answers: &[(u16, &str)]| {
        Scripted::start(answers).await.1.capture("k", &reference(), usd(49_99)).await
    };
    let pending = capture(&[(200, &held), (201, &made("PENDING"))]).await;
    assert!(matches!(pending, Err(GatewayError::Unknown(Trouble::InFlight))), "{pending:?}");
    let declined = capture(&[(200, &held), (201, &made("DECLINED"))]).await.expect("answered");
    assert_eq!(declined, Capture::Refused(Reason::new("capture_declined")));
    let examined = order("COMPLETED", &payments("CAPTURED", "PENDING"));
    let found = Scripted::start(&[(200, &examined)]).await.1;
    let found = PaymentGateway::find(&found, &reference()).await.expect("answered");
    assert_eq!(found.expect("found").status, AuthorizationStatus::Processing);
    // It was captured by an earlier call, and another one captures meanwhile.
    let taken = order("COMPLETED", &payments("CAPTURED", "COMPLETED"));
    let expected = Capture::Captured { amount: usd(49_99) };
    assert_eq!(capture(&[(200, &taken)]).await.expect("answered"), expected);
    let refused = failure("AUTHORIZATION_ALREADY_CAPTURED");
    let again = capture(&[(200, &held), (422, &refused), (200, &taken)]).await;
    assert_eq!(again.expect("answered"), expected);
}

#[tokio::test]
async fn each_write_carries_its_request_id_and_says_what_paypal_needs() {
    let unit = r#","reference_id":"default""#;
    let approved = order("APPROVED", unit);
    let held = order("COMPLETED", &payments("CREATED", "DECLINED"));
    let (scripted, paypal) = Scripted::start(&[
        (201, &order("PAYER_ACTION_REQUIRED", unit)),
        (200, &approved),
        (204, ""),
        (201, &held),
        (204, ""),
        (200, &held),
        (200, "{}"),
    ])
    .await;
    let request = ApprovalRequest {
        amount: usd(49_99),
        return_url: "https://shop.example/paid".to_owned(),
        cancel_url: "https://shop.example/left".to_owned(),
    };
    let opening = paypal.open("k1", &request).await.expect("answered");
    assert!(matches!(opening, Opening::Opened { reference: found, .. } if found == reference()));
    let order_id = Uuid::now_v7();
    let method = MethodToken("paypal:O1".to_owned());
    let charge = Charge { order_id, amount: usd(49_99), method, customer: None };
    paypal.create("k2", &charge).await.expect("answered");
    let long = "k".repeat(200);
    paypal.confirm(&long, &reference()).await.expect("answered");
    let void = paypal.cancel("k4", &reference()).await.expect("answered");
    assert_eq!(void, Cancellation::Cancelled { reference: reference(), released: usd(49_99) });
    let requests = scripted.requests();
    let of_order = "/v2/checkout/orders/O1";
    let expected = [
        "POST /v2/checkout/orders Bearer token-1 k1 {\"intent\":\"AUTHORIZE\"".to_owned(),
        format!("GET {of_order} Bearer token-1 - "),
        format!("PATCH {of_order} Bearer token-1 k2 [{{\"op\":\"add\""),
        format!("POST {of_order}/authorize Bearer token-1 {} {{}}", request_id(&long)),
        format!("PATCH {of_order} Bearer token-1 k4.close [{{\"op\":\"replace\""),
        format!("GET {of_order} Bearer token-1 - "),
        "POST /v2/payments/authorizations/A1/void Bearer token-1 k4 {}".to_owned(),
    ];
    for (request, expected) in requests.iter().zip(&expected) {
        assert!(request.starts_with(expected), "{request} does not start with {expected}");
    }
    assert_eq!(requests.len(), expected.len());
    assert!(requests[2].contains(&order_id.to_string()), "{}", requests[2]);
    assert!(request_id(&long).len() <= 108 && request_id("k") == "k");
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_request_for_a_token() {
    let (scripted, paypal) = Scripted::start(&[]).await;
    let none = reference();
    let find = || async { PaymentGateway::find(&paypal, &none).await.expect("answered") };
    futures::future::join_all((0..50).map(|_| find())).await;
    assert_eq!(scripted.granted.load(SeqCst), 1);
    // All of them are refused, and share the renewal.
    scripted.refuses.store(1, SeqCst);
    futures::future::join_all((0..20).map(|_| find())).await;
    assert_eq!(scripted.granted.load(SeqCst), 2);
    // A token that is refused although it is new is our own mistake, and nothing is repeated.
    let refused = vec![(401, String::new()); 2];
    scripted.answers.lock().expect("whole").extend(refused);
    let before = scripted.requests().len();
    let error = PaymentGateway::find(&paypal, &none).await.expect_err("refused");
    assert!(matches!(error, GatewayError::NotDone(Trouble::Misconfigured(401))), "{error}");
    assert_eq!(scripted.requests().len(), before + 2);
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let s = Duration::from_secs;
    assert_eq!(renewed_after(s(32_400)), s(32_340));
    assert_eq!(renewed_after(s(40)), s(30), "a quarter before, if it lives for a short time");
}

#[tokio::test]
async fn a_token_that_is_over_is_renewed() {
    let (scripted, paypal) = Scripted::start(&[]).await;
    scripted.expires_in.store(0, SeqCst);
    for expected in 1..=3 {
        PaymentGateway::find(&paypal, &reference()).await.expect("answered");
        assert_eq!(scripted.granted.load(SeqCst), expected);
    }
}

#[test]
fn no_secret_shows_in_debug_output() {
    let url = "http://127.0.0.1".parse().expect("a URL");
    let config = PayPalConfig::new(url, "client", SECRET.into());
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(!format!("{:?}", PayPal::new(config).expect("made")).contains(SECRET));
}

fn transmission() -> Transmission {
    Transmission::read(|_| Some("x")).expect("whole")
}

const SUCCESS: (u16, &str) = (200, r#"{"verification_status":"SUCCESS"}"#);

/// The event that this body is, if PayPal vouches for it and then gives these answers.
async fn event(body: &str, answers: &[(u16, &str)]) -> GatewayEvent {
    let answers = [&[SUCCESS], answers].concat();
    let (_, paypal) = Scripted::start(&answers).await;
    paypal.receive(Some(&transmission()), body.as_bytes()).await.expect("genuine")
}

async fn news(kind: &str, resource: &str, answers: &[(u16, &str)]) -> News {
    let body = format!(
        r#"{{"id":"WH-1","create_time":"2026-11-27T10:00:00.000Z","event_type":"{kind}","resource":{resource}}}"#
    );
    event(&body, answers).await.news
}

const REFUND: &str = r#"{"id":"R1","status":"COMPLETED","amount":{"currency_code":"USD","value":"9.99"},"custom_id":"k",
    "links":[{"rel":"self","href":"https://api/v2/payments/refunds/R1"},{"rel":"up","href":"https://api/v2/payments/captures/C1"}]}"#;
const CAPTURE_UP: &str =
    r#"{"id":"C1","links":[{"rel":"up","href":"https://api/v2/payments/authorizations/A1"}]}"#;
const RELATED: &str = r#"{"id":"A1","supplementary_data":{"related_ids":{"order_id":"O1"}}}"#;

#[tokio::test]
async fn events_lead_to_the_order_whose_payment_they_are_about() {
    let taken = order("COMPLETED", &payments("CAPTURED", "COMPLETED"));
    for (kind, expected) in [
        ("PAYMENT.AUTHORIZATION.CREATED", GatewayEventKind::Authorized),
        ("PAYMENT.AUTHORIZATION.VOIDED", GatewayEventKind::Cancelled),
        ("PAYMENT.CAPTURE.COMPLETED", GatewayEventKind::Captured),
        ("PAYMENT.CAPTURE.DENIED", GatewayEventKind::Declined),
        ("PAYMENT.CAPTURE.PENDING", GatewayEventKind::Other),
    ] {
        let News::Authorization(kind, found) = news(kind, RELATED, &[(200, &taken)]).await else {
            panic!("{kind}")
        };
        assert_eq!((kind, found.reference), (expected, reference()));
    }
    for kind in ["PAYMENT.CAPTURE.REFUNDED", "PAYMENT.CAPTURE.REVERSED", "PAYMENT.REFUND.PENDING"] {
        let found = news(kind, REFUND, &[(200, CAPTURE_UP), (200, RELATED)]).await;
        let News::Refund { authorization, refund } = found else { panic!("{kind} {found:?}") };
        assert_eq!((authorization, refund.status), (reference(), RefundStatus::Succeeded));
        assert_eq!((refund.amount, refund.key.as_deref()), (usd(9_99), Some("k")));
    }
    let dispute = |status: &str, outcome: &str| {
        format!(
            r#"{{"dispute_id":"PP-1","status":"{status}","dispute_amount":{{"currency_code":"USD","value":"3.00"}},
            "dispute_outcome":{{"outcome_code":"{outcome}"}},"disputed_transactions":[{{"seller_transaction_id":"C1"}}]}}"#
        )
    };
    for (status, outcome, expected) in [
        ("OPEN", "NONE", DisputeStatus::Open),
        ("RESOLVED", "RESOLVED_BUYER_FAVOUR", DisputeStatus::Lost),
        ("RESOLVED", "RESOLVED_SELLER_FAVOUR", DisputeStatus::Won),
        ("RESOLVED", "CANCELED_BY_BUYER", DisputeStatus::Won),
    ] {
        let answers = [(200, CAPTURE_UP), (200, RELATED)];
        let found = news("CUSTOMER.DISPUTE.UPDATED", &dispute(status, outcome), &answers).await;
        let News::Dispute { authorization, amount, status, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!((authorization, amount, status), (reference(), usd(3_00), expected));
    }
    for (status, expected) in [
        ("APPROVED", ApprovalStatus::Approved),
        ("VOIDED", ApprovalStatus::Voided),
        ("COMPLETED", ApprovalStatus::Completed),
    ] {
        let found = news("CHECKOUT.ORDER.APPROVED", &order(status, ""), &[]).await;
        assert_eq!(found, News::Approval { reference: reference(), status: expected });
    }
}

#[tokio::test]
async fn an_event_of_any_shape_is_recorded_with_an_id_that_can_be_stored() {
    // Paid without an order, or by an account or a system that PayPal does not tell this shop about.
    for (kind, resource) in [
        ("PAYMENT.SALE.COMPLETED", "{}"),
        ("PAYMENT.CAPTURE.COMPLETED", "{}"),
        ("PAYMENT.CAPTURE.COMPLETED", CAPTURE_UP),
        ("PAYMENT.CAPTURE.REFUNDED", REFUND),
        ("PAYMENT.AUTHORIZATION.CREATED", RELATED),
    ] {
        assert_eq!(news(kind, resource, &[]).await, News::NoConcern, "{kind}");
    }
    for (kind, resource) in [
        ("PAYMENT.CAPTURE.REFUNDED", "{}"),
        ("CUSTOMER.DISPUTE.CREATED", "{}"),
        ("CHECKOUT.ORDER.APPROVED", "[]"),
        ("CHECKOUT.ORDER.APPROVED", &*order("NEW_STATUS", "")),
    ] {
        assert_eq!(news(kind, resource, &[]).await, News::Unreadable, "{kind}");
    }
    let strange = order("COMPLETED", &payments("NEW_STATUS", "COMPLETED"));
    let found = news("PAYMENT.AUTHORIZATION.CREATED", RELATED, &[(200, &strange)]).await;
    assert_eq!(found, News::Unreadable);
    for body in ["[]", "7", "{\"id\":1}", "{\"event_type\":{}}", "null"] {
        let event = event(body, &[]).await;
        assert_eq!(event.news, News::Unreadable, "{body}");
        assert!(event.id.starts_with("sha256:"), "{}", event.id);
    }
    let long = format!(r#"{{"id":"{}","event_type":"A.B\u0000"}}"#, "x".repeat(10_000));
    let event = event(&long, &[]).await;
    assert_eq!((event.id.len(), &*event.name, event.at), (255, "A.B", None));
}

#[tokio::test]
async fn an_event_is_sent_back_byte_by_byte_and_only_so_many_are_verified_at_a_time() {
    let (scripted, paypal) = Scripted::start(&[SUCCESS]).await;
    let body = "{ \"id\" : \"WH-1\",\n \"event_type\":\"X\", \"n\":1.00 }";
    paypal.receive(Some(&transmission()), body.as_bytes()).await.expect("genuine");
    let request = scripted.requests().remove(0);
    assert!(
        request.ends_with(&format!("\"webhook_id\":\"WH\",\"webhook_event\":{body}}}")),
        "{request}"
    );

    let held = paypal.questions.acquire_many(u32::try_from(QUESTIONS).expect("few")).await;
    let busy = paypal.receive(Some(&transmission()), body.as_bytes()).await;
    assert!(matches!(busy, Err(NotBelieved::Unasked(GatewayError::NotDone(_)))), "{busy:?}");
    drop(held);
    assert_eq!(scripted.requests().len(), 1);
}

#[tokio::test]
async fn an_approval_that_paypal_does_not_answer_ends_when_the_time_that_the_port_allows_is_over() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let config = PayPalConfig::new(url.parse().expect("a URL"), "client", SECRET.into());
    let paypal = PayPal::new(PayPalConfig { timeout: 3 * OPERATION, ..config }).expect("made");
    let request = ApprovalRequest {
        amount: Money::from_minor(4_999, Currency::USD).expect("small"),
        return_url: "https://shop.example/thanks".to_owned(),
        cancel_url: "https://shop.example/cart".to_owned(),
    };
    let reference = reference();
    let begun = Instant::now();
    let (opened, found) = tokio::join!(
        PayPalApprovals::open(&paypal, "k", &request),
        PayPalApprovals::find(&paypal, &reference)
    );
    assert!(matches!(opened, Err(GatewayError::Unknown(Trouble::TimedOut))), "{opened:?}");
    assert!(matches!(found, Err(GatewayError::Unknown(Trouble::TimedOut))), "{found:?}");
    assert!((OPERATION..OPERATION * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
