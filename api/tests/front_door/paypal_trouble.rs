//! PayPal in trouble: lost, forged and repeated webhooks, customers who never approve, and a PayPal that does not answer.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::json;
use stepwise_adapters::sandbox::ledger::Op;
use stepwise_workflows::{
    money::{Currency, Money},
    payment::gateway::Reference,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Mutex,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    paypal::{Checkout, TOTAL, request},
};

const WEBHOOK: &str = "/v1/webhooks/paypal";

/// Moves business time.
async fn later(house: &House, seconds: f64) {
    sqlx::query("update saga.clock set offset_by = offset_by + make_interval(secs => $1)")
        .bind(seconds)
        .execute(house.database.pool())
        .await
        .expect("the clock moves");
}

/// How often the saga's step has failed.
async fn attempts(house: &House, saga: Uuid) -> i64 {
    sqlx::query_scalar("select count(*) from saga.journal where saga_id = $1 and kind = 'attempt'")
        .bind(saga)
        .fetch_one(house.database.pool())
        .await
        .expect("readable")
}

/// A server that takes PayPal's webhooks in place of the shop, and keeps them.
#[derive(Clone, Default)]
struct Letterbox(Arc<Mutex<Vec<String>>>);

impl Letterbox {
    /// Opens it; returns its address as well.
    async fn open() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}{WEBHOOK}", listener.local_addr().expect("it is bound"));
        let this = Self::default();
        let taking = this.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let taking = taking.clone();
                tokio::spawn(async move {
                    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
                    while let Ok(read @ 1..) = stream.read(&mut part).await {
                        bytes.extend_from_slice(&part[..read]);
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        if is_whole(&text) {
                            taking.0.lock().await.push(text);
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                            if stream.write_all(answer).await.is_err() {
                                return;
                            }
                            bytes.clear();
                        }
                    }
                });
            }
        });
        (this, address)
    }

    /// The first webhook that contains this text.
    async fn with(&self, text: &str) -> String {
        let look = async {
            loop {
                let kept = self.0.lock().await.iter().find(|one| one.contains(text)).cloned();
                if let Some(found) = kept {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), look).await.expect("PayPal sends it")
    }
}

/// Whether a request has arrived to its end.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

/// Sends the shop a webhook as it stands, with this body in place of its own if one is given.
async fn forward(house: &House, webhook: &str, body: Option<&str>) -> Answer {
    let (head, own) = webhook.split_once("\r\n\r\n").expect("a whole request");
    let mut sending = house.ask(Method::POST, WEBHOOK).body(body.unwrap_or(own).to_owned());
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && name.to_ascii_lowercase().starts_with("paypal-")
        {
            sending = sending.header(name, value);
        }
    }
    send(sending).await
}

#[tokio::test]
async fn an_approval_whose_webhook_is_lost_is_found_by_the_order_that_is_refused_or_in_the_end() {
    let (_letterbox, elsewhere) = Letterbox::open().await;
    let house = House::open_without_webhooks_of_paypal(&elsewhere).await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    let early = checkout.place(opened.method).await;
    assert_eq!(early.problem(), refusal(409, "payment_not_approved"));
    checkout.until(opened.operation, "running").await;
    opened.approve().await;
    let refused = checkout.place(opened.method).await;
    assert_eq!(refused.problem(), refusal(409, "payment_not_approved"));
    checkout.until(opened.operation, "succeeded").await;
    checkout.place(opened.method).await.is(201);

    let opened = checkout.opened().await;
    opened.approve().await;
    later(&house, 1_801.0).await;
    checkout.until(opened.operation, "succeeded").await;
    checkout.is(opened.method, "approved").await;
    house.close().await;
}

#[tokio::test]
async fn what_paypal_has_not_sent_is_refused_and_what_it_repeats_changes_nothing() {
    let (letterbox, elsewhere) = Letterbox::open().await;
    let house = House::open_without_webhooks_of_paypal(&elsewhere).await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    opened.approve().await;
    let genuine = letterbox.with("CHECKOUT.ORDER.APPROVED").await;

    let unsigned = send(house.ask(Method::POST, WEBHOOK).body("{}")).await;
    assert_eq!(unsigned.problem(), refusal(401, "signature_missing"));
    let (_, body) = genuine.split_once("\r\n\r\n").expect("a whole request");
    let changed = body.replacen("APPROVED", "DECLINED", 1);
    for forged in [&*changed, "{}", "no JSON"] {
        let answer = forward(&house, &genuine, Some(forged)).await;
        assert_eq!(answer.problem(), refusal(401, "signature_invalid"), "{forged}");
    }
    // While PayPal cannot be asked whether it has sent the event, it keeps it.
    house.outside("/sandbox/down", &[]).await.is(204);
    let kept = forward(&house, &genuine, None).await;
    assert_eq!(kept.problem(), refusal(503, "gateway_unavailable"));
    house.outside("/sandbox/up", &[]).await.is(204);
    checkout.is(opened.method, "pending").await;

    for _ in 0..2 {
        let answer = forward(&house, &genuine, None).await;
        assert_eq!(answer.is(200).json(), json!({"status": "received"}));
        checkout.until(opened.operation, "succeeded").await;
    }
    let order = checkout.place(opened.method).await.is(201).json();
    forward(&house, &genuine, None).await.is(200);
    assert_eq!(checkout.listed(opened.method).await.expect("listed")["status"], "used");
    assert_eq!(order["payment"]["status"], "authorized");
    house.close().await;
}

/// Waits until PayPal has reserved an order's money, and returns its reference. The shop has not heard of it.
async fn reserved(house: &House, order: Uuid) -> Reference {
    let look = async {
        loop {
            let line = house.ledger_of(order).into_iter().find(|line| line.op == Op::Confirm);
            if let Some(line) = line {
                return Reference(line.reference);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), look).await.expect("the money is reserved")
}

#[tokio::test]
async fn news_of_a_refund_that_overtakes_paypals_own_answer_is_booked_when_it_comes_again() {
    let (letterbox, elsewhere) = Letterbox::open().await;
    let house = House::open_without_webhooks_of_paypal(&elsewhere).await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    opened.approve().await;
    forward(&house, &letterbox.with("CHECKOUT.ORDER.APPROVED").await, None).await.is(200);
    checkout.until(opened.operation, "succeeded").await;
    let slow = [("on", "confirm"), ("method", "slow")];
    house.outside("/sandbox/misbehave", &slow).await.is(204);
    let body = checkout.shopper.order(checkout.shopper.address().await, opened.method);
    let placing = checkout.shopper.place(&body, 0).await.is(202).json();
    let order = placing["subject"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let reference = reserved(&house, order).await;
    let usd = |cents| Money::from_minor(cents, Currency::USD).expect("small");
    let gateway = &house.door.shop.gateway;
    gateway.capture("by hand 1", &reference, usd(27_44)).await.expect("it is taken");
    gateway.refund("by hand 2", &reference, usd(4_00)).await.expect("it is given back");
    let news = letterbox.with("PAYMENT.CAPTURE.REFUNDED").await;
    let early = forward(&house, &news, None).await;
    assert_eq!(early.problem(), refusal(503, "payment_in_progress"));

    let operation = placing["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    checkout.until(operation, "succeeded").await;
    assert_eq!(forward(&house, &news, None).await.is(200).json(), json!({"status": "received"}));
    let placed = checkout.shopper.get(&format!("/v1/orders/{order}")).await.is(200).json();
    assert_eq!(placed["payment"]["status"], "partially_refunded");
    assert_eq!(placed["payment"]["refundedAmount"]["amount"], "4.00");
    // PayPal knows the capture under the key of this test, which our books do not have.
    house.shut().await;
}

#[tokio::test]
async fn an_approval_that_nobody_gives_or_uses_in_time_expires() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    later(&house, 1_801.0).await;
    let failed = checkout.until(opened.operation, "failed").await;
    assert_eq!(failed["problem"]["code"], "approval_expired");
    assert_eq!(failed["problem"]["status"], 402);
    checkout.is(opened.method, "expired").await;
    let late = checkout.place(opened.method).await;
    assert_eq!(late.problem(), refusal(409, "payment_method_expired"));

    let unused = checkout.approved().await;
    later(&house, 3.0 * 3_600.0 + 1.0).await;
    checkout.is(unused, "expired").await;
    let late = checkout.place(unused).await;
    assert_eq!(late.problem(), refusal(409, "payment_method_expired"));
    house.close().await;
}

#[tokio::test]
async fn a_paypal_that_does_not_open_the_approval_is_a_service_error_and_leaves_no_method() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    house.outside("/sandbox/down", &[]).await.is(204);
    let request = checkout.shopper.ask(Method::POST, "/v1/payments/paypal").json(&request(TOTAL));
    let begun = send(request.header("idempotency-key", Uuid::now_v7().to_string())).await;
    let begun = begun.is(202).json();
    let operation = begun["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    // The first attempt must have failed before its time can run out.
    while attempts(&house, operation).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    later(&house, 61.0).await;
    let failed = checkout.until(operation, "failed").await;
    assert_eq!(failed["problem"]["code"], "paypal_service_error");
    assert_eq!(failed["problem"]["status"], 502);
    let list = checkout.shopper.get("/v1/customers/{me}/payment-methods").await.json();
    assert_eq!(list["items"], json!([]));
    house.outside("/sandbox/up", &[]).await.is(204);
    house.close().await;
}

#[tokio::test]
async fn a_method_that_paypal_keeps_for_an_order_that_was_not_placed_expires() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let method = checkout.approved().await;
    let misbehave = |method: &'static str| [("on", "create"), ("method", method)];
    house.outside("/sandbox/misbehave", &misbehave("timeoutAfter")).await.is(204);
    let body = checkout.shopper.order(checkout.shopper.address().await, method);
    let placing = checkout.shopper.place(&body, 0).await.is(202).json();
    let operation = placing["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    // PayPal has named the order, and its answer is lost for as long as the placement is patient.
    while attempts(&house, operation).await == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    later(&house, 1_801.0).await;
    checkout.until(operation, "failed").await;
    checkout.is(method, "expired").await;
    house.outside("/sandbox/misbehave", &misbehave("ok")).await.is(204);
    assert_eq!(checkout.place(method).await.problem(), refusal(409, "payment_method_expired"));
    let placed = checkout.place(checkout.approved().await).await;
    assert_eq!(placed.is(201).json()["payment"]["status"], "authorized");
    house.close().await;
}

#[tokio::test]
async fn a_method_whose_order_is_not_placed_is_usable_again_if_paypal_holds_the_approval() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let method = checkout.approved().await;
    house.outside("/sandbox/down", &[]).await.is(204);
    let body = checkout.shopper.order(checkout.shopper.address().await, method);
    let placing = checkout.shopper.place(&body, 0).await.is(202).json();
    checkout.is(method, "used").await;
    let order = placing["subject"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    checkout.shopper.cancel(order, 0).await.is(202);
    house.outside("/sandbox/up", &[]).await.is(204);
    let operation = placing["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    checkout.until(operation, "failed").await;
    checkout.is(method, "approved").await;
    let placed = checkout.place(method).await;
    assert_eq!(placed.is(201).json()["payment"]["status"], "authorized");
    house.close().await;
}
