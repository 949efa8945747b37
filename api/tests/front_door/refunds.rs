//! Giving back money that was taken, over HTTP, with the sandbox gateway, its webhooks and a worker.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
    webhooks::{Placed, told},
};

/// An order, and an admin who gives its money back.
struct Order<'h> {
    house: &'h House,
    admin: String,
    shopper: Shopper<'h>,
    id: Uuid,
}

impl<'h> Order<'h> {
    /// An order of 27.44 that is placed and paid by this method.
    async fn placed(house: &'h House, method: &str) -> Self {
        let admin = house.key("admin", &[]).await;
        let thing = product(house, &admin, "10.00", 5).await;
        let shopper = Shopper::new(house).await;
        shopper.add(thing, 2).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method(method).await);
        let id = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
        Self { house, admin, shopper, id }
    }

    async fn shipped(house: &'h House, method: &str) -> Self {
        let order = Self::placed(house, method).await;
        order.command("confirm", &Value::Null).await.is(200);
        let parcel = json!({ "trackingNumber": "1Z999", "carrier": "UPS" });
        order.command("ship", &parcel).await.is(200);
        order
    }

    async fn command(&self, what: &str, body: &Value) -> Answer {
        let path = format!("/v1/orders/{}/{what}", self.id);
        send(self.ask(&path, &self.admin, &key(), body)).await
    }

    fn ask(&self, path: &str, by: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.house.ask(Method::POST, path).bearer_auth(by);
        let request = request.header("idempotency-key", key).header("prefer", "wait=15");
        if body.is_null() { request } else { request.json(body) }
    }

    async fn refund(&self, amount: &str) -> Answer {
        let body = body(self.id, amount, "USD");
        send(self.ask(PATH, &self.admin, &key(), &body)).await
    }

    /// The payment as the customer sees it: status and refunded amount.
    async fn payment(&self) -> (String, String) {
        let order = self.shopper.get(&format!("/v1/orders/{}", self.id)).await.is(200).json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let payment = &order["payment"];
        (text(&payment["status"]), text(&payment["refundedAmount"]["amount"]))
    }

    /// By PaymentRefunded the request that led to it, and whether the event led to a message for partners.
    async fn causes(&self) -> Vec<(String, bool)> {
        sqlx::query_as(
            "with message as (
                select causation from saga.outbox where kind = 'shop.payment.refund-processed.v1'
                union all
                select causation from saga.feed where kind = 'shop.payment.refund-processed.v1'
            )
            select e.correlation::text, exists (select from message m where m.causation = e.event_id::text)
            from shop.domain_event e join shop.payment p on p.payment_id = e.aggregate_id
            where p.order_id = $1 and e.name = 'PaymentRefunded' order by e.n",
        )
        .bind(self.id)
        .fetch_all(self.house.database.pool())
        .await
        .expect("read")
    }

    /// Waits until the payment is in this state, with this much given back.
    async fn is(&self, state: &str, refunded: &str) {
        let look = async {
            while self.payment().await != (state.to_owned(), refunded.to_owned()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), look).await;
        assert!(reached.is_ok(), "not {state} with {refunded} back: {:?}", self.payment().await);
    }
}

const PATH: &str = "/v1/payments/refunds";

fn key() -> String {
    Uuid::now_v7().to_string()
}

fn body(order: Uuid, amount: &str, currency: &str) -> Value {
    json!({ "orderId": order, "amount": { "amount": amount, "currency": currency } })
}

#[tokio::test]
async fn a_shipped_and_a_delivered_order_are_refunded_in_part() {
    let house = House::open_working().await;
    let order = Order::shipped(&house, "ok").await;
    let (first, body) = (key(), body(order.id, "10.00", "USD"));
    let answer = send(order.ask(PATH, &order.admin, &first, &body)).await;
    let (request, refunded) = (answer.header("x-request-id").to_owned(), answer.is(200).json());
    assert_eq!((&refunded["id"], &refunded["status"]), (&json!(order.id), &json!("shipped")));
    assert_eq!(refunded["payment"]["status"], "partially_refunded");
    assert_eq!(refunded["payment"]["refundedAmount"]["amount"], "10.00");
    // The same request again is the same refund.
    let again = send(order.ask(PATH, &order.admin, &first, &body)).await;
    assert_eq!(again.is(200).json()["payment"]["refundedAmount"]["amount"], "10.00");
    order.command("deliver", &Value::Null).await.is(200);
    let service = house.key("service", &["payments:write", "operations:read"]).await;
    let rest = self::body(order.id, "17.44", "USD");
    let accepted = order.ask(PATH, &service, &key(), &rest).header("prefer", "wait=0");
    let accepted = send(accepted).await;
    assert!(matches!(accepted.status, 200 | 202), "{accepted:?}");
    order.is("refunded", "27.44").await;

    let timeline = format!("/v1/orders/{}/timeline", order.id);
    let timeline = order.shopper.get(&timeline).await.is(200).json();
    let items = timeline["items"].as_array().expect("items").iter();
    let refunds: Vec<_> = items
        .filter(|item| item["event"] == "PaymentRefunded")
        .map(|item| item["actor"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(refunds, ["admin", "service"]);
    assert_eq!(
        order.causes().await,
        [(request, true), (accepted.header("x-request-id").to_owned(), true)]
    );
    house.close().await;
}

#[tokio::test]
async fn an_amount_that_is_no_amount_or_more_than_is_left_is_refused() {
    let house = House::open_working().await;
    let order = Order::shipped(&house, "ok").await;
    for (amount, currency) in [
        ("0", "USD"),
        ("0.00", "USD"),
        ("-1.00", "USD"),
        ("1.001", "USD"),
        ("1e2", "USD"),
        ("", "USD"),
        ("ten", "USD"),
        ("1.00", "EUR"),
        ("1.00", "usd"),
    ] {
        let body = body(order.id, amount, currency);
        let refused = send(order.ask(PATH, &order.admin, &key(), &body)).await;
        assert_eq!(refused.problem(), refusal(422, "invalid_amount"), "{amount} {currency}");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/amount");
    }
    for amount in ["27.45", "1000000.00", "999999999999.99"] {
        let refused = order.refund(amount).await;
        assert_eq!(refused.problem(), refusal(422, "refund_exceeds_payment"), "{amount}");
    }
    order.refund("27.00").await.is(200);
    let refused = order.refund("0.45").await;
    assert_eq!(refused.problem(), refusal(422, "refund_exceeds_payment"));
    assert!(refused.json()["detail"].as_str().is_some_and(|text| text.contains("0.44 USD")));
    assert_eq!(order.payment().await, ("partially_refunded".to_owned(), "27.00".to_owned()));
    order.refund("0.44").await.is(200);
    assert_eq!(order.payment().await, ("refunded".to_owned(), "27.44".to_owned()));
    assert_eq!(order.refund("0.01").await.problem(), refusal(422, "refund_exceeds_payment"));
    house.close().await;
}

#[tokio::test]
async fn a_payment_that_is_unknown_not_taken_or_of_an_order_that_may_still_go_is_not_refunded() {
    let house = House::open_working().await;
    let order = Order::placed(&house, "ok").await;
    let unknown = body(Uuid::now_v7(), "1.00", "USD");
    let unknown = send(order.ask(PATH, &order.admin, &key(), &unknown)).await;
    assert_eq!(unknown.problem(), refusal(404, "payment_not_found"));
    assert_eq!(order.refund("1.00").await.problem(), refusal(409, "payment_not_captured"));
    let reference: String =
        sqlx::query_scalar("select authorization_id from shop.payment where order_id = $1")
            .bind(order.id)
            .fetch_one(house.database.pool())
            .await
            .expect("it is authorized");
    let capture = format!("/v1/payment_intents/{reference}/capture");
    house.outside(&capture, &[("amount_to_capture", "2000")]).await.is(200);
    order.is("captured", "0.00").await;
    assert_eq!(order.refund("1.00").await.problem(), refusal(409, "order_not_shipped"));
    // Cancelled, it gets back what was taken, and not what had been reserved.
    let cancelled = order.shopper.cancel(order.id, 15).await.is(200).json();
    assert_eq!(cancelled["payment"]["refundedAmount"]["amount"], "20.00");
    assert_eq!(cancelled["payment"]["status"], "refunded");
    assert_eq!(order.refund("0.01").await.problem(), refusal(422, "refund_exceeds_payment"));

    let voided = Order::placed(&house, "ok").await;
    voided.shopper.cancel(voided.id, 15).await.is(200);
    assert_eq!(voided.refund("1.00").await.problem(), refusal(409, "payment_not_captured"));
    house.close().await;
}

#[tokio::test]
async fn a_refund_that_the_gateway_refuses_is_502_and_changes_nothing() {
    let house = House::open_working().await;
    let order = Order::shipped(&house, "declinedOnRefund").await;
    let refused = order.refund("10.00").await;
    assert_eq!(refused.problem(), refusal(502, "refund_failed"));
    assert_eq!(order.payment().await, ("captured".to_owned(), "0.00".to_owned()));
    let timeline = format!("/v1/orders/{}/timeline", order.id);
    assert!(!order.shopper.get(&timeline).await.is(200).text.contains("PaymentRefunded"));
    house.close().await;
}

/// Fault: gateway: it accepts a refund, and fails it some time later
/// Customer: the payment counts the refund until then, and does not count it afterwards
/// Operator: `doctor` names a parked event `refund_failed`
/// Within: as soon as the gateway says so
/// Ends: when somebody gives the money back once more (`refundPayment`)
#[tokio::test]
async fn a_refund_that_fails_after_it_was_accepted_is_left_to_be_given_back_again() {
    let house = House::open_working().await;
    let order = Order::shipped(&house, "fails").await;
    order.refund("10.00").await.is(200);
    assert_eq!(order.payment().await, ("partially_refunded".to_owned(), "10.00".to_owned()));
    // Its webhook says so, some seconds later.
    order.is("captured", "0.00").await;
    let parked: Vec<(String, Option<Uuid>)> =
        sqlx::query_as("select why, order_id from shop.parked_gateway_event")
            .fetch_all(house.database.pool())
            .await
            .expect("read");
    assert_eq!(parked, [("refund_failed".to_owned(), Some(order.id))]);
    house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", "slow")]).await.is(204);
    order.refund("27.44").await.is(200);
    assert_eq!(order.payment().await, ("refunded".to_owned(), "27.44".to_owned()));
    house.close().await;
}

/// An event about a refund names neither order nor key, so only the gateway knows which payment it is about.
#[tokio::test]
async fn news_of_a_refund_that_overtakes_the_authorization_comes_again_until_it_can_be_booked() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::being_placed(&house, product(&house, &admin, "10.00", 5).await).await;
    let capture = format!("/v1/payment_intents/{}/capture", placed.reference);
    house.outside(&capture, &[]).await.is(200);
    let form = [("payment_intent", &*placed.reference), ("amount", "400")];
    let made = house.outside("/v1/refunds", &form).await.is(200).json();
    let news = |id: &str, intent: &Value| {
        let mut refund = made.clone();
        refund["payment_intent"] = intent.clone();
        json!({"id": id, "created": 1_795_000_000, "type": "refund.updated", "data": {"object": refund}})
            .to_string()
    };
    let ours = news("evt_ours", &made["payment_intent"]);
    let early = told(&house, &ours).await;
    assert_eq!(early.problem(), refusal(503, "payment_in_progress"));
    placed.is("partially_refunded", "4.00").await;
    assert_eq!(told(&house, &ours).await.is(200).json(), json!({"status": "received"}));
    assert_eq!(placed.moves().await.len(), 2, "the capture and the refund, once");

    let foreign = news("evt_foreign", &json!("pi_of_another_shop"));
    assert_eq!(told(&house, &foreign).await.is(200).json(), json!({"status": "ignored"}));
    house.close().await;
}

#[tokio::test]
async fn only_admins_and_services_with_the_scope_refund_and_a_key_is_required() {
    let house = House::open_working().await;
    let order = Order::shipped(&house, "ok").await;
    let body = body(order.id, "1.00", "USD");
    let other = house.key("service", &["inventory:write"]).await;
    let operator = house.key("operator", &[]).await;
    for by in [&other, &operator, &order.shopper.token] {
        assert_eq!(send(order.ask(PATH, by, &key(), &body)).await.problem().0, 403);
    }
    let without_key = house.ask(Method::POST, PATH).bearer_auth(&order.admin).json(&body);
    let refused = send(without_key).await;
    assert_eq!(refused.problem(), refusal(400, "idempotency_key_required"));
    for (body, code) in [
        (json!({ "orderId": order.id }), "missing_field"),
        (json!({ "amount": { "amount": "1.00", "currency": "USD" } }), "missing_field"),
        (json!({ "orderId": order.id, "amount": body["amount"], "why": "" }), "unknown_field"),
    ] {
        let refused = send(order.ask(PATH, &order.admin, &key(), &body)).await;
        assert_eq!(refused.problem(), refusal(422, code), "{body}");
    }
    assert_eq!(order.payment().await, ("captured".to_owned(), "0.00".to_owned()));
    house.close().await;
}
