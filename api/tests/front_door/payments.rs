//! Payments over HTTP: another one is authorized for an order, and all are shown with their moves of money.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    paypal::Checkout,
    shopper::{Shopper, id, product},
};

const AUTHORIZE: &str = "/v1/payments/authorizations";

/// A placed order with its customer.
struct Placed<'h> {
    shopper: Shopper<'h>,
    order: Uuid,
    payment: Uuid,
    total: Value,
}

impl<'h> Placed<'h> {
    async fn new(house: &'h House, thing: Uuid) -> Self {
        let shopper = Shopper::new(house).await;
        shopper.add(thing, 1).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method("ok").await);
        let placed = shopper.place(&body, 15).await.is(201).json();
        let (order, payment) = (id(&placed["id"]), id(&placed["payment"]["id"]));
        Self { shopper, order, payment, total: placed["totalAmount"].clone() }
    }

    /// The body of authorizePayment, with one of the customer's methods.
    async fn body(&self, method: &str) -> Value {
        let method = self.shopper.method(method).await;
        json!({ "orderId": self.order, "paymentMethodId": method, "amount": self.total })
    }

    async fn shown(&self) -> Value {
        self.shopper.get(&format!("/v1/orders/{}", self.order)).await.is(200).json()
    }

    /// Waits until the order's payment in force is in this state.
    async fn is(&self, state: &str) {
        let look = async {
            while self.shown().await["payment"]["status"] != state {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), look).await;
        assert!(reached.is_ok(), "not {state}: {}", self.shown().await);
    }

    /// Somebody voids the authorization at the gateway, which tells the shop of it.
    async fn lapses(&self) {
        lapse(&self.shopper, self.payment).await;
        self.is("voided").await;
    }
}

/// Somebody voids the authorization of a payment at the gateway.
async fn lapse(shopper: &Shopper<'_>, payment: Uuid) {
    let payment = shopper.get(&format!("/v1/payments/{payment}")).await.is(200).json();
    let reference = payment["transactions"][0]["reference"].as_str().expect("it has one");
    let cancel = format!("/v1/payment_intents/{reference}/cancel");
    shopper.house.outside(&cancel, &[]).await.is(200);
}

async fn authorize(house: &House, by: &str, body: &Value, wait: u8) -> Answer {
    let request = house.ask(Method::POST, AUTHORIZE).bearer_auth(by).json(body);
    let request = request.header("idempotency-key", Uuid::now_v7().to_string());
    send(request.header("prefer", format!("wait={wait}"))).await
}

/// The body with another value.
fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[field] = value;
    body
}

#[tokio::test]
async fn each_refusal_of_an_authorization_has_its_code_and_changes_nothing() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let placed = Placed::new(&house, thing).await;
    let body = placed.body("ok").await;

    let no_key = house.ask(Method::POST, AUTHORIZE).bearer_auth(&admin).json(&body);
    assert_eq!(send(no_key).await.problem(), refusal(400, "idempotency_key_required"));
    let scoped = house.key("service", &["payments:read"]).await;
    let operator = house.key("operator", &[]).await;
    for by in [&placed.shopper.token, &operator, &scoped] {
        assert_eq!(authorize(&house, by, &body, 0).await.problem(), refusal(403, "forbidden"));
    }
    let refused = authorize(&house, &admin, &body, 0).await;
    assert_eq!(refused.problem(), refusal(409, "already_authorized"));

    placed.lapses().await;
    let other = Shopper::new(&house).await;
    let cents = |amount: &str| json!({ "amount": amount, "currency": "USD" });
    for (field, value, expected) in [
        ("orderId", json!(Uuid::now_v7()), refusal(404, "order_not_found")),
        ("paymentMethodId", json!(Uuid::now_v7()), refusal(404, "payment_method_not_found")),
        (
            "paymentMethodId",
            json!(other.method("ok").await),
            refusal(404, "payment_method_not_found"),
        ),
        ("amount", cents("1.00"), refusal(422, "amount_mismatch")),
        ("amount", cents("0.00"), refusal(422, "amount_mismatch")),
        ("amount", cents("-1.00"), refusal(422, "invalid_amount")),
        ("amount", cents("1.001"), refusal(422, "invalid_amount")),
        ("amount", json!({ "amount": "1.00", "currency": "EUR" }), refusal(422, "amount_mismatch")),
        ("amount", json!({ "amount": "1.00", "currency": "usd" }), refusal(422, "invalid_amount")),
    ] {
        let refused = authorize(&house, &admin, &with(&body, field, value.clone()), 0).await;
        assert_eq!(refused.problem(), expected, "{field} {value}");
    }
    let payments: i64 = sqlx::query_scalar("select count(*) from shop.payment where order_id = $1")
        .bind(placed.order)
        .fetch_one(house.database.pool())
        .await
        .expect("readable");
    assert_eq!(payments, 1);

    // The operation tells a refusal of the gateway.
    for (method, expected) in [
        ("declined", refusal(402, "card_declined")),
        ("unsupported", refusal(422, "unsupported_card_type")),
    ] {
        let refused = authorize(&house, &admin, &placed.body(method).await, 15).await;
        assert_eq!(refused.problem(), expected);
        assert_eq!(placed.shown().await["payment"]["status"], "voided");
    }

    placed.shopper.cancel(placed.order, 15).await.is(200);
    let refused = authorize(&house, &admin, &body, 0).await;
    assert_eq!(refused.problem(), refusal(409, "invalid_status_transition"));
    house.close().await;
}

#[tokio::test]
async fn a_gateway_that_never_answers_fails_the_authorization() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 9).await).await;
    placed.lapses().await;
    let begun = authorize(&house, &admin, &placed.body("timeoutBefore").await, 0).await;
    let operation =
        format!("/v1/operations/{}", begun.is(202).json()["id"].as_str().expect("an id"));
    let busy = authorize(&house, &admin, &placed.body("ok").await, 0).await;
    assert_eq!(busy.problem(), refusal(409, "operation_in_progress"));
    let shown = async || placed.shopper.get(&operation).await.is(200).json();
    let payment: Uuid =
        sqlx::query_scalar("select payment_id from shop.payment where state = 'authorizing'")
            .fetch_one(house.database.pool())
            .await
            .expect("it is there");
    let payment = format!("/v1/payments/{payment}");
    let until = async |what: &str, is: &dyn Fn(&Value, &Value) -> bool| {
        let look = async {
            loop {
                let payment = placed.shopper.get(&payment).await.is(200).json();
                let operation = shown().await;
                if is(&operation, &payment) {
                    return (operation, payment);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), look)
            .await
            .unwrap_or_else(|_| panic!("{what}"))
    };
    let doubtful = |_: &Value, payment: &Value| payment["status"] == "unknown";
    let (_, payment) = until("a doubt", &doubtful).await;
    assert_eq!(payment["transactions"][0]["state"], "unknown");
    assert_eq!(placed.shown().await["payment"]["status"], "voided", "the one in force");
    sqlx::query("update saga.clock set offset_by = offset_by + interval '31 minutes'")
        .execute(house.database.pool())
        .await
        .expect("the clock moves");
    let failed = |operation: &Value, payment: &Value| {
        operation["status"] == "failed" && payment["status"] != "authorizing"
    };
    let (operation, payment) = until("the end", &failed).await;
    let problem = &operation["problem"];
    assert_eq!((&problem["status"], &problem["code"]), (&json!(502), &json!("gateway_error")));
    let ended =
        (&payment["status"], &payment["failureReason"], &payment["transactions"][0]["state"]);
    assert_eq!(ended, (&json!("voided"), &json!("gateway_error"), &json!("failed")));
    house.close().await;
}

#[tokio::test]
async fn a_payment_is_shown_with_its_moves_to_its_customer_and_to_staff_and_a_lapsed_one_is_replaced()
 {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 9).await).await;
    placed.lapses().await;

    // A service may authorize, the customer approves, and the gateway tells the shop of it.
    let service = house.key("service", &["payments:write", "payments:read"]).await;
    let begun =
        authorize(&house, &service, &placed.body("challenge").await, 15).await.is(202).json();
    assert_eq!(begun["action"]["type"], "approve_payment", "{begun}");
    assert!(begun["action"]["url"].is_null(), "only the customer sees the link");
    let operation = format!("/v1/operations/{}", begun["id"].as_str().expect("an id"));
    let seen = placed.shopper.get(&operation).await.is(200).json();
    let page = seen["action"]["url"].as_str().expect("its customer sees the link");
    let approved = house.client.post(page).body("decision=approve").send().await;
    approved.expect("the gateway answers").error_for_status().expect("approved");
    placed.is("authorized").await;

    let order = placed.shown().await;
    let payment = format!("/v1/payments/{}", order["payment"]["id"].as_str().expect("an id"));
    let shown = placed.shopper.get(&payment).await.is(200).json();
    assert_eq!(shown["orderId"], json!(placed.order));
    assert_eq!((&shown["status"], &shown["amount"]), (&json!("authorized"), &placed.total));
    assert_eq!(
        (&shown["method"], &shown["refundedAmount"]["amount"]),
        (&json!("card:visa"), &json!("0.00"))
    );
    let moved = &shown["transactions"][0];
    assert_eq!((&moved["kind"], &moved["state"]), (&json!("authorize"), &json!("succeeded")));
    assert!(moved["reference"].is_string() && moved["settledAt"].is_string(), "{moved}");
    let before = format!("/v1/payments/{}", placed.payment);
    let before = placed.shopper.get(&before).await.is(200).json();
    let kinds: Vec<_> = before["transactions"].as_array().expect("a list").iter().collect();
    let kinds: Vec<_> = kinds.iter().map(|moved| moved["kind"].as_str().unwrap_or("")).collect();
    assert_eq!(
        (before["status"].as_str(), &kinds[..]),
        (Some("voided"), &["authorize", "void"][..])
    );

    let timeline = format!("/v1/orders/{}/timeline", placed.order);
    let timeline = placed.shopper.get(&timeline).await.is(200).json();
    let events = timeline["items"].as_array().expect("a list").iter();
    let authorized = events.filter(|item| item["event"] == "PaymentAuthorized").count();
    assert_eq!(authorized, 2, "{timeline}");

    for by in [&admin, &service, &house.key("viewer", &[]).await, &house.key("operator", &[]).await]
    {
        send(house.get(&payment).bearer_auth(by)).await.is(200);
    }
    let stranger = Shopper::new(&house).await;
    assert_eq!(stranger.get(&payment).await.problem(), refusal(404, "payment_not_found"));
    let unknown = format!("/v1/payments/{}", Uuid::now_v7());
    let unknown = send(house.get(&unknown).bearer_auth(&admin)).await;
    assert_eq!(unknown.problem(), refusal(404, "payment_not_found"));
    let unscoped = house.key("service", &["payments:write"]).await;
    let unscoped = send(house.get(&payment).bearer_auth(&unscoped)).await;
    assert_eq!(unscoped.problem(), refusal(403, "forbidden"));
    house.close().await;
}

#[tokio::test]
async fn an_order_whose_authorization_lapsed_is_paid_with_an_approval_at_paypal() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let checkout = Checkout::new(&house).await;
    let card = checkout.shopper.method("ok").await;
    let order = checkout.place(card).await.is(201).json();
    let placed = Placed {
        order: id(&order["id"]),
        payment: id(&order["payment"]["id"]),
        total: order["totalAmount"].clone(),
        shopper: checkout.shopper.clone(),
    };
    placed.lapses().await;
    let opened = checkout.opened().await;
    let body = json!({ "orderId": placed.order, "paymentMethodId": opened.method, "amount": placed.total });
    let early = authorize(&house, &admin, &body, 0).await;
    assert_eq!(early.problem(), refusal(409, "payment_not_approved"));
    opened.approve().await;
    checkout.until(opened.operation, "succeeded").await;
    let paid = authorize(&house, &admin, &body, 15).await.is(200).json();
    assert_eq!(paid["payment"]["status"], "authorized", "{paid}");
    checkout.is(opened.method, "used").await;
    placed.shopper.cancel(placed.order, 15).await.is(200);
    placed.is("voided").await;
    house.close().await;
}
