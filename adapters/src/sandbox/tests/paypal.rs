//! Approvals at PayPal, and how strict the sandbox is about PayPal's API.

use serde_json::{Value, json};
use stepwise_workflows::payment::gateway::ApprovalStatus;
use stepwise_workflows::payment::paypal::{ApprovalRequest, Opening, PayPalApprovals};

use super::*;
use crate::paypal::{PayPal, PayPalConfig};

impl Running {
    pub(super) fn paypal(&self) -> PayPal {
        PayPal::new(self.paypal_config()).expect("a client can be made")
    }

    pub(super) fn paypal_config(&self) -> PayPalConfig {
        let url = self.url("").parse().expect("an address is a URL");
        PayPalConfig {
            timeout: Duration::from_millis(600),
            webhook_id: PAYPAL_WEBHOOK_ID.to_owned(),
            ..PayPalConfig::new(url, PAYPAL_CLIENT_ID, API_KEY.into())
        }
    }

    /// An access token for requests without the shop's client.
    async fn token(&self) -> String {
        let form = [("grant_type", "client_credentials")];
        let asking = http().post(self.url("/v1/oauth2/token")).form(&form);
        let granted = asking.basic_auth(PAYPAL_CLIENT_ID, Some(API_KEY)).send().await;
        let granted: Value = granted.expect("answered").json().await.expect("JSON");
        granted["access_token"].as_str().expect("a token").to_owned()
    }
}

fn request(amount: Money) -> ApprovalRequest {
    ApprovalRequest {
        amount,
        return_url: "https://shop.example/paid?n=1".to_owned(),
        cancel_url: "https://shop.example/left".to_owned(),
    }
}

/// Opens an approval under `key`: its reference, and the address of its page.
async fn opening(sandbox: &Running, key: &str, amount: Money) -> (Reference, String) {
    match sandbox.paypal().open(key, &request(amount)).await.expect("answered") {
        Opening::Opened { reference, approval } => (reference, approval.url),
        Opening::Refused(reason) => panic!("refused: {reason}"),
    }
}

/// A payment with an approval that the customer has given.
pub(super) async fn approved(sandbox: &Running, key: &str, amount: Money) -> Charge {
    let (reference, url) = opening(sandbox, key, amount).await;
    let answer = http().post(&url).send().await.expect("answered");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let method = MethodToken(reference.0);
    Charge { order_id: Uuid::now_v7(), amount, method, customer: None }
}

async fn approval(paypal: &PayPal, reference: &Reference) -> Option<ApprovalStatus> {
    PayPalApprovals::find(paypal, reference).await.expect("answered")
}

fn refusal(creation: Result<Creation, GatewayError>) -> String {
    match creation.expect("answered") {
        Creation::Refused(reason) => reason.as_str().to_owned(),
        created @ Creation::Created(_) => panic!("{created:?}"),
    }
}

#[tokio::test]
async fn an_approval_is_given_on_its_page_which_sends_the_customer_back_to_the_shop() {
    let mut sandbox = Running::start().await;
    let paypal = sandbox.paypal();
    let (reference, url) = opening(&sandbox, "k", usd(49_99)).await;
    assert_eq!(opening(&sandbox, "k", usd(49_99)).await, (reference.clone(), url.clone()));
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Open));
    let page = http().get(&url).send().await.expect("answered").text().await.expect("read");
    assert!(page.contains("49.99 USD") && page.contains("<button"), "{page}");

    let left = http().post(&url).form(&[("decision", "decline")]).send().await.expect("answered");
    let order = reference.0.strip_prefix("paypal:").expect("PayPal's");
    let to = |answer: &reqwest::Response| answer.headers()["location"].to_str().map(str::to_owned);
    assert_eq!(to(&left).expect("text"), format!("https://shop.example/left?token={order}"));
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Open));
    let given = http().post(&url).send().await.expect("answered");
    assert_eq!(to(&given).expect("text"), format!("https://shop.example/paid?n=1&token={order}"));
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Approved));

    // An approval is known after a restart, and is given once.
    sandbox.stop().await;
    sandbox.start_again().await;
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Approved));
    let again = http().post(&url).send().await.expect("answered");
    assert_eq!(again.status(), StatusCode::OK);
    let expected = [LineResult::ApprovalRequired, LineResult::Approved];
    assert_eq!(sandbox.results(), expected);
    assert_eq!(approval(&paypal, &Reference("paypal:0".to_owned())).await, None);
    assert_eq!(sandbox.live(), 0);
}

#[tokio::test]
async fn an_approval_pays_for_one_order_of_its_amount() {
    let sandbox = Running::start().await;
    let paypal = sandbox.paypal();
    let (reference, url) = opening(&sandbox, "k", usd(49_99)).await;
    let charge = Charge {
        order_id: Uuid::now_v7(),
        amount: usd(49_99),
        method: MethodToken(reference.0.clone()),
        customer: None,
    };
    assert_eq!(refusal(paypal.create("c", &charge).await), "order_not_approved");
    let early = paypal.confirm("early", &reference).await.expect("answered");
    let Confirmation::ApprovalRequired(waits) = early else { panic!("{early:?}") };
    assert_eq!(waits.url, url);
    http().post(&url).send().await.expect("answered");

    let other = Charge { amount: usd(50_00), ..charge.clone() };
    assert_eq!(refusal(paypal.create("c", &other).await), "amount_mismatch");
    let created = paypal.create("c", &charge).await.expect("answered");
    assert_eq!(created, Creation::Created(reference.clone()));
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Completed));
    let other = Charge { order_id: Uuid::now_v7(), ..charge.clone() };
    assert_eq!(refusal(paypal.create("o", &other).await), "order_already_completed");
    paypal.confirm("f", &reference).await.expect("answered");
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Completed));
    assert_eq!(refusal(paypal.create("n", &charge).await), "order_already_completed");
    assert_eq!(sandbox.live(), 1);
}

#[tokio::test]
async fn a_void_ends_an_approval_that_was_not_used() {
    let sandbox = Running::start().await;
    let paypal = sandbox.paypal();
    let (open, url) = opening(&sandbox, "k", usd(49_99)).await;
    let used = approved(&sandbox, "k2", usd(1_00)).await;
    let approved = Reference(used.method.0.clone());
    for reference in [&open, &approved] {
        let void = paypal.cancel(&format!("v {reference}"), reference).await.expect("answered");
        assert!(matches!(void, Cancellation::Cancelled { released, .. } if released == usd(0)));
        assert_eq!(approval(&paypal, reference).await, Some(ApprovalStatus::Voided));
    }
    let late = http().post(&url).send().await.expect("answered");
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_eq!(refusal(paypal.create("c", &used).await), "order_already_completed");
}

#[tokio::test]
async fn an_amount_that_paypal_does_not_take_is_refused_when_it_is_opened() {
    let sandbox = Running::start().await;
    let money = |minor, code: &str| Money::from_minor(minor, code.parse().expect("a currency"));
    let open = async |key: &str, amount: Money| {
        sandbox.paypal().open(key, &request(amount)).await.expect("answered")
    };
    for (minor, code, issue) in [
        (49_99, "HUF", "decimals_not_supported"),
        (49_99, "KRW", "currency_not_supported"),
        (49_999, "KWD", "currency_not_supported"),
        (0, "USD", "cannot_be_zero_or_negative"),
    ] {
        let opening = open(code, money(minor, code).expect("an amount")).await;
        let Opening::Refused(why) = opening else { panic!("{code}: {opening:?}") };
        assert_eq!(why.as_str(), issue, "{code}");
    }
    for (minor, code) in [(49_00, "HUF"), (49_99, "JPY"), (49_99, "EUR")] {
        let amount = money(minor, code).expect("an amount");
        let opening = open(&format!("good {code}"), amount).await;
        let Opening::Opened { reference, .. } = opening else { panic!("{code}: {opening:?}") };
        let found = PaymentGateway::find(&sandbox.paypal(), &reference).await;
        assert_eq!(found.expect("answered").expect("found").amount, amount);
    }
}

/// The issue of an error.
async fn issue(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let error: Value = answer.json().await.expect("JSON");
    (status, error["details"][0]["issue"].as_str().unwrap_or_default().to_owned())
}

fn body(change: impl Fn(&mut Value)) -> Value {
    let mut body = json!({
        "intent": "AUTHORIZE",
        "purchase_units": [{ "amount": { "currency_code": "USD", "value": "49.99" } }],
        "payment_source": { "paypal": { "experience_context": {
            "return_url": "https://shop.example/paid", "cancel_url": "https://shop.example/left",
        } } },
    });
    change(&mut body);
    body
}

#[tokio::test]
async fn a_request_that_paypal_would_refuse_is_refused_and_leaves_nothing_behind() {
    let sandbox = Running::start().await;
    let token = sandbox.token().await;
    let post = async |key: &str, body: &Value| {
        let request = http().post(sandbox.url("/v2/checkout/orders")).bearer_auth(&token);
        let request = request.header("paypal-request-id", key).json(body);
        request.send().await.expect("answered")
    };
    assert_eq!(post("k", &body(|_| ())).await.status(), StatusCode::CREATED);
    type Change = fn(&mut Value);
    let changes: [(Change, u16, &str); 12] = [
        (|b| b["amout"] = json!(1), 400, "MALFORMED_REQUEST_JSON"),
        (|b| b["intent"] = json!("CAPTURE"), 400, "INVALID_PARAMETER_VALUE"),
        (|b| b["purchase_units"] = json!([]), 422, "MULTIPLE_PURCHASE_UNITS_NOT_SUPPORTED"),
        (|b| b["purchase_units"][0]["amount"]["value"] = json!("49.999"), 422, "DECIMAL_PRECISION"),
        (
            |b| b["purchase_units"][0]["amount"]["value"] = json!("-1"),
            400,
            "INVALID_PARAMETER_SYNTAX",
        ),
        (
            |b| b["purchase_units"][0]["amount"]["value"] = json!(49.99),
            400,
            "MALFORMED_REQUEST_JSON",
        ),
        (
            |b| b["purchase_units"][0]["amount"]["currency_code"] = json!("usd"),
            422,
            "CURRENCY_NOT_SUPPORTED",
        ),
        (
            |b| b["purchase_units"][0]["amount"]["value"] = json!("9".repeat(13)),
            422,
            "MAX_VALUE_EXCEEDED",
        ),
        (|b| b["payment_source"] = json!({ "card": {} }), 400, "MALFORMED_REQUEST_JSON"),
        (
            |b| b["payment_source"]["paypal"]["experience_context"]["return_url"] = json!("/paid"),
            400,
            "INVALID_PARAMETER_SYNTAX",
        ),
        (
            |b| b["payment_source"]["paypal"]["experience_context"]["user_action"] = json!("RUN"),
            400,
            "INVALID_PARAMETER_VALUE",
        ),
        (
            |b| b["purchase_units"][0]["reference_id"] = json!("other"),
            400,
            "INVALID_PARAMETER_VALUE",
        ),
    ];
    for (number, (change, status, expected)) in changes.into_iter().enumerate() {
        let answer = post(&format!("k{number}"), &body(change)).await;
        assert_eq!(issue(answer).await, (status, expected.to_owned()));
    }
    let other = body(|b| b["purchase_units"][0]["amount"]["value"] = json!("50.00"));
    assert_eq!(issue(post("k", &other).await).await.1, "DUPLICATE_REQUEST_ID");
    assert_eq!(issue(post("", &body(|_| ())).await).await.1, "PAYPAL_REQUEST_ID_REQUIRED");
    assert_eq!(issue(post(&"k".repeat(109), &body(|_| ())).await).await.0, 400);
    for token in ["", "A21.9999999999999.00", &format!("{token}0")] {
        let stranger = http().post(sandbox.url("/v2/checkout/orders")).bearer_auth(token);
        let answer = stranger.send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{token}");
    }
    assert_eq!(sandbox.lines().len(), 1);
}

#[tokio::test]
async fn a_move_that_does_not_fit_the_status_is_refused_in_paypals_words() {
    let sandbox = Running::start().await;
    let token = sandbox.token().await;
    let post = async |path: &str, body: Value| {
        let request = http().post(sandbox.url(path)).bearer_auth(&token).json(&body);
        issue(request.send().await.expect("answered")).await.1
    };
    let paypal = sandbox.paypal();
    let (open, _) = opening(&sandbox, "o", usd(49_99)).await;
    let id = |reference: &Reference| reference.0.strip_prefix("paypal:").expect("ours").to_owned();
    let authorize = format!("/v2/checkout/orders/{}/authorize", id(&open));
    assert_eq!(post(&authorize, json!({})).await, "ORDER_NOT_APPROVED");
    assert_eq!(post(&authorize, json!({ "amount": 1 })).await, "MALFORMED_REQUEST_JSON");
    paypal.cancel("v", &open).await.expect("answered");
    assert_eq!(post(&authorize, json!({})).await, "ACTION_DOES_NOT_MATCH_INTENT");

    let charge = approved(&sandbox, "a", usd(49_99)).await;
    let reference = Reference(charge.method.0.clone());
    paypal.create("c", &charge).await.expect("answered");
    paypal.confirm("f", &reference).await.expect("answered");
    let authorize = format!("/v2/checkout/orders/{}/authorize", id(&reference));
    assert_eq!(post(&authorize, json!({})).await, "ORDER_ALREADY_AUTHORIZED");
    let authorization = format!("/v2/payments/authorizations/{}A", id(&reference));
    let capture = |value: &str, code: &str| {
        let amount = json!({ "currency_code": code, "value": value });
        json!({ "amount": amount, "final_capture": true })
    };
    let path = format!("{authorization}/capture");
    assert_eq!(post(&path, capture("50.00", "USD")).await, "MAX_CAPTURE_AMOUNT_EXCEEDED");
    assert_eq!(post(&path, capture("49.99", "EUR")).await, "AUTH_CAPTURE_CURRENCY_MISMATCH");
    assert_eq!(post(&path, json!({})).await, "FINAL_CAPTURE_REQUIRED");
    paypal.capture("t", &reference, usd(49_99)).await.expect("answered");
    assert_eq!(post(&path, capture("49.99", "USD")).await, "AUTHORIZATION_ALREADY_CAPTURED");
    assert_eq!(post(&format!("{authorization}/void"), json!({})).await, "PREVIOUSLY_CAPTURED");
    let refund = format!("/v2/payments/captures/{}C/refund", id(&reference));
    assert_eq!(post(&refund, capture("1.00", "USD")).await, "MALFORMED_REQUEST_JSON");
    let amount = json!({ "amount": { "currency_code": "USD", "value": "49.98" } });
    paypal.refund("r", &reference, usd(1_00)).await.expect("answered");
    assert_eq!(post(&refund, amount).await, "REFUND_AMOUNT_EXCEEDED");
    paypal.refund("r2", &reference, usd(48_99)).await.expect("answered");
    assert_eq!(post(&refund, json!({})).await, "CAPTURE_FULLY_REFUNDED");
    for path in ["/v2/payments/authorizations/0A/void", "/v2/payments/captures/0C/refund"] {
        assert_eq!(post(path, json!({})).await, "INVALID_RESOURCE_ID");
    }
}

#[tokio::test]
async fn a_token_that_paypal_no_longer_takes_is_renewed_once() {
    let mut sandbox = Running::start().await;
    let paypal = sandbox.paypal();
    let (reference, _) = opening(&sandbox, "k", usd(49_99)).await;
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Open));
    // No token is valid after a restart, and the client does not know that.
    sandbox.stop().await;
    sandbox.start_again().await;
    assert_eq!(approval(&paypal, &reference).await, Some(ApprovalStatus::Open));
    // A token that ends at once is refused even if it is new, which nothing but the configuration can mend.
    let sandbox = sandbox.with(|timing| timing.tokens = Duration::ZERO).await;
    let refused = PayPalApprovals::find(&sandbox.paypal(), &reference).await;
    assert!(
        matches!(refused, Err(GatewayError::NotDone(Trouble::Misconfigured(401)))),
        "{refused:?}"
    );
    let stranger = PayPalConfig { client_secret: "wrong".into(), ..sandbox.paypal_config() };
    let stranger = PayPal::new(stranger).expect("made");
    let refused = stranger.open("k2", &request(usd(1_00))).await;
    assert!(
        matches!(refused, Err(GatewayError::NotDone(Trouble::Misconfigured(401)))),
        "{refused:?}"
    );
}
