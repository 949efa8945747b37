//! Webhooks of the gateway: only those with a valid and recent signature are accepted.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use stepwise_adapters::{
    gateway::webhook::{SIGNATURE_HEADER, sign},
    sandbox::ledger::Op,
};
use uuid::Uuid;

use crate::{
    house::{Answer, House, WEBHOOK_SECRET, refusal, send},
    shopper::{Shopper, id, product},
};

const PATH: &str = "/v1/webhooks/gateway";

pub(crate) fn event(order: Uuid) -> Value {
    json!({
        "id": format!("evt_{}", Uuid::now_v7().simple()), "object": "event", "created": 1_795_000_000,
        "type": "payment_intent.amount_capturable_updated",
        "data": {"object": {
            "id": "pi_test_1", "object": "payment_intent", "amount": 1000, "amount_capturable": 1000,
            "amount_received": 0, "currency": "usd", "status": "requires_capture",
            "metadata": {"order_id": order, "orderId": order}, "created": 1_795_000_000,
        }},
    })
}

fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

async fn sent(house: &House, body: &str, signature: Option<String>) -> Answer {
    let request = house.ask(reqwest::Method::POST, PATH).body(body.to_owned());
    send(match signature {
        Some(signature) => request.header(SIGNATURE_HEADER, signature),
        None => request,
    })
    .await
}

#[tokio::test]
async fn what_is_not_signed_by_the_gateway_is_not_even_read() {
    let house = House::open().await;
    let body = event(Uuid::now_v7()).to_string();
    let ours = [WEBHOOK_SECRET.to_owned().into()];
    let old = sign(body.as_bytes(), &ours, now() - Duration::from_secs(301));
    let forged = sign(body.as_bytes(), &["whsec_other".to_owned().into()], now());
    let other_body = sign(b"{}", &ours, now());
    for (signature, code) in [
        (None, "signature_missing"),
        (Some("nonsense".to_owned()), "signature_missing"),
        (Some(forged), "signature_invalid"),
        (Some(other_body), "signature_invalid"),
        (Some(old), "signature_expired"),
    ] {
        let answer = sent(&house, &body, signature).await;
        assert_eq!(answer.problem(), refusal(401, code));
    }
    house.close().await;
}

/// Sends an event with a valid signature.
pub(crate) async fn told(house: &House, body: &str) -> Answer {
    let signature = sign(body.as_bytes(), &[WEBHOOK_SECRET.to_owned().into()], now());
    sent(house, body, Some(signature)).await
}

/// The parked events: id, reason and order.
async fn parked(house: &House) -> Vec<(String, String, Option<Uuid>)> {
    sqlx::query_as(
        "select event_id, why, order_id from shop.parked_gateway_event order by parked_at, event_id",
    )
    .fetch_all(house.database.pool())
    .await
    .expect("read")
}

#[tokio::test]
async fn an_event_about_a_payment_nobody_knows_is_parked_once() {
    let house = House::open().await;
    let order = Uuid::now_v7();
    let body = event(order).to_string();
    for _ in 0..2 {
        let answer = told(&house, &body).await.is(202).json();
        assert_eq!(answer, json!({"status": "parked", "reason": "unknown_payment"}));
    }
    let parked = parked(&house).await;
    assert_eq!(parked.len(), 1);
    assert_eq!((&*parked[0].1, parked[0].2), ("unknown_payment", Some(order)));
    house.close().await;
}

#[tokio::test]
async fn an_event_of_any_shape_is_parked_or_counted_and_none_is_refused() {
    let house = House::open().await;
    let nul = r#"{"id":"evt_\u0000x","type":"payment_intent.\u0000new","data":{"object":{"id":"\u0000"}}}"#;
    let mut new_status = event(Uuid::now_v7());
    new_status["data"]["object"]["status"] = "requires_something_new".into();
    let new_status = new_status.to_string();
    for body in ["", "{", "[]", "{\"id\":1}", nul, &*new_status] {
        for _ in 0..2 {
            let answer = told(&house, body).await.is(202).json();
            assert_eq!(answer["reason"], "unreadable", "{body}");
        }
    }
    assert_eq!(parked(&house).await.len(), 6);
    let mut nul = event(Uuid::now_v7());
    nul["data"]["object"]["id"] = "pi_\u{0}".into();
    assert_eq!(told(&house, &nul.to_string()).await.is(202).json()["reason"], "unknown_payment");

    // Of another kind, or about a payment that another shop of this account has made.
    let mut foreign = event(Uuid::now_v7());
    foreign["data"]["object"]["metadata"] = json!({});
    let other =
        json!({"id": "evt_c", "created": 1, "type": "customer.created", "data": {"object": {}}});
    for body in [&foreign, &other, &other] {
        assert_eq!(
            told(&house, &body.to_string()).await.is(200).json(),
            json!({"status": "ignored"})
        );
    }
    let counted: Vec<(String, i64, String)> = sqlx::query_as(
        "select kind, events, last_event_id from shop.gateway_event_count order by kind",
    )
    .fetch_all(house.database.pool())
    .await
    .expect("read");
    let foreign = foreign["id"].as_str().expect("a text").to_owned();
    let expected = [
        ("customer.created".to_owned(), 2, "evt_c".to_owned()),
        ("payment_intent.amount_capturable_updated".to_owned(), 1, foreign),
    ];
    assert_eq!(counted, expected);
    house.close().await;
}

/// As many events wait for a person as may wait.
async fn park_as_many_as_may_wait(house: &House) {
    sqlx::query(
        "insert into shop.parked_gateway_event (event_id, why, kind, parked_at)
        select n::text, 'unreadable', 'new', now() from generate_series(1, 10000) n",
    )
    .execute(house.database.pool())
    .await
    .expect("written");
}

/// A person has dealt with one of them.
async fn unpark_one(house: &House) {
    let delete = "delete from shop.parked_gateway_event where event_id = '7'";
    sqlx::query(delete).execute(house.database.pool()).await.expect("deleted");
}

#[tokio::test]
async fn the_gateway_keeps_events_while_ten_thousand_wait_for_a_person() {
    let house = House::open().await;
    park_as_many_as_may_wait(&house).await;
    let body = event(Uuid::now_v7()).to_string();
    let refused = told(&house, &body).await;
    assert_eq!(refused.problem(), refusal(503, "too_many_parked_events"));
    assert!(!refused.header("retry-after").is_empty());
    unpark_one(&house).await;
    for _ in 0..2 {
        told(&house, &body).await.is(202);
    }
    house.close().await;
}

/// A placed order and what the gateway knows it by.
pub(crate) struct Placed<'h> {
    shopper: Shopper<'h>,
    pub(crate) order: Uuid,
    pub(crate) reference: String,
    pub(crate) total: String,
}

impl<'h> Placed<'h> {
    pub(crate) async fn new(house: &'h House, product: Uuid) -> Self {
        let shopper = Shopper::new(house).await;
        shopper.add(product, 1).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method("ok").await);
        let placed = shopper.place(&body, 15).await.is(201).json();
        let order = id(&placed["id"]);
        let reference: Option<String> =
            sqlx::query_scalar("select authorization_id from shop.payment where order_id = $1")
                .bind(order)
                .fetch_one(house.database.pool())
                .await
                .expect("it has a payment");
        let total = placed["totalAmount"]["amount"].as_str().expect("an amount").to_owned();
        Self { shopper, order, reference: reference.expect("it is authorized"), total }
    }

    /// An order whose money the gateway has just reserved: it answers two seconds later.
    pub(crate) async fn being_placed(house: &'h House, product: Uuid) -> Self {
        let shopper = Shopper::new(house).await;
        shopper.add(product, 1).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method("slow").await);
        shopper.place(&body, 0).await.is(202);
        let (order, total): (Uuid, String) = sqlx::query_as(
            r#"select order_id, round(total_amount, 2)::text from shop."order" where customer_id = $1"#,
        )
        .bind(shopper.id)
        .fetch_one(house.database.pool())
        .await
        .expect("it is there");
        let reserved = async {
            loop {
                let line = house.ledger_of(order).into_iter().find(|line| line.op == Op::Confirm);
                if let Some(line) = line {
                    return line.reference;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reference = tokio::time::timeout(Duration::from_secs(10), reserved).await;
        Self { shopper, order, reference: reference.expect("the money is reserved"), total }
    }

    async fn payment(&self) -> Value {
        self.shopper.get(&format!("/v1/orders/{}", self.order)).await.is(200).json()["payment"]
            .clone()
    }

    /// Waits until the payment is in this state, with this much given back.
    pub(crate) async fn is(&self, state: &str, refunded: &str) {
        let look = async {
            loop {
                let payment = self.payment().await;
                if payment["status"] == state && payment["refundedAmount"]["amount"] == refunded {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(10), look).await;
        assert!(reached.is_ok(), "not {state} with {refunded} back: {}", self.payment().await);
    }

    /// Kind, state, key and amount of every move but the authorization.
    pub(crate) async fn moves(&self) -> Vec<(String, String, Option<String>, String)> {
        sqlx::query_as(
            "select t.kind, t.state, t.key, round(t.amount, 2)::text
            from shop.payment_transaction t join shop.payment p using (payment_id)
            where p.order_id = $1 and t.kind <> 'authorize' order by t.transaction_id",
        )
        .bind(self.order)
        .fetch_all(self.shopper.house.database.pool())
        .await
        .expect("read")
    }

    /// An event about this payment, as the gateway would send it.
    pub(crate) fn event(&self, kind: &str, status: &str) -> Value {
        let minor: i64 = self.total.replace('.', "").parse().expect("cents");
        let taken = if status == "succeeded" { minor } else { 0 };
        json!({
            "id": format!("evt_{}", Uuid::now_v7().simple()), "object": "event",
            "created": 1_795_000_000, "type": kind,
            "data": {"object": {
                "id": self.reference, "object": "payment_intent", "amount": minor,
                "amount_received": taken, "currency": "usd", "status": status,
                "metadata": {"orderId": self.order},
            }},
        })
    }
}

pub(crate) fn moved(kind: &str, amount: &str) -> (String, String, Option<String>, String) {
    (kind.to_owned(), "succeeded".to_owned(), None, amount.to_owned())
}

#[tokio::test]
async fn what_the_gateway_did_without_the_shop_is_on_the_payment_and_in_the_books_once() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let lapsed = Placed::new(&house, thing).await;
    let intent = |placed: &Placed<'_>| format!("/v1/payment_intents/{}", placed.reference);
    house.outside(&format!("{}/cancel", intent(&lapsed)), &[]).await.is(200);
    lapsed.is("voided", "0.00").await;
    assert_eq!(lapsed.moves().await, [moved("void", &lapsed.total)]);

    let taken = Placed::new(&house, thing).await;
    house.outside(&format!("{}/capture", intent(&taken)), &[]).await.is(200);
    taken.is("captured", "0.00").await;
    let refund = [("payment_intent", &*taken.reference), ("amount", "400")];
    house.outside("/v1/refunds", &refund).await.is(200);
    taken.is("partially_refunded", "4.00").await;
    house.outside("/v1/refunds", &refund[..1]).await.is(200);
    taken.is("refunded", &taken.total).await;
    let moves = taken.moves().await;
    assert_eq!((&moves[0], &moves[1]), (&moved("capture", &taken.total), &moved("refund", "4.00")));
    assert_eq!(moves.len(), 3);

    // Late events and copies say nothing new. An order without money can be cancelled.
    for (placed, kind, status) in [
        (&lapsed, "payment_intent.amount_capturable_updated", "requires_capture"),
        (&lapsed, "payment_intent.canceled", "canceled"),
        (&taken, "payment_intent.amount_capturable_updated", "requires_capture"),
        (&taken, "payment_intent.succeeded", "succeeded"),
    ] {
        let event = placed.event(kind, status).to_string();
        for _ in 0..2 {
            assert_eq!(told(&house, &event).await.is(200).json(), json!({"status": "received"}));
        }
    }
    lapsed.is("voided", "0.00").await;
    taken.is("refunded", &taken.total).await;
    assert_eq!((lapsed.moves().await.len(), taken.moves().await), (1, moves));
    assert!(parked(&house).await.is_empty());
    lapsed.shopper.cancel(lapsed.order, 15).await.is(200);
    house.close().await;
}

/// The events come before the gateway's own answer to the placement.
#[tokio::test]
async fn what_the_gateway_does_while_an_order_is_being_placed_is_booked_without_a_question() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    for (acts, state) in [
        (&["cancel"][..], "voided"),
        (&["capture"], "captured"),
        (&["capture", "refund"], "refunded"),
    ] {
        let placed = Placed::being_placed(&house, thing).await;
        for act in acts {
            let refund = [("payment_intent", &*placed.reference)];
            let (path, form) = match *act {
                "refund" => ("/v1/refunds".to_owned(), &refund[..]),
                act => (format!("/v1/payment_intents/{}/{act}", placed.reference), &refund[..0]),
            };
            house.outside(&path, form).await.is(200);
        }
        let refunded = if state == "refunded" { &*placed.total } else { "0.00" };
        placed.is(state, refunded).await;
        let order = placed.shopper.get(&format!("/v1/orders/{}", placed.order)).await;
        assert_eq!(order.is(200).json()["status"], "pending");
    }
    assert!(parked(&house).await.is_empty());
    house.close().await;
}

#[tokio::test]
async fn money_that_was_taken_while_an_order_is_being_placed_and_cancelled_is_in_the_books() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let placed = Placed::being_placed(&house, thing).await;
    let capture = format!("/v1/payment_intents/{}/capture", placed.reference);
    house.outside(&capture, &[]).await.is(200);
    placed.shopper.cancel(placed.order, 15).await.is(200);
    placed.is("refunded", &placed.total).await;
    assert!(parked(&house).await.is_empty());
    house.close().await;
}

#[tokio::test]
async fn an_event_that_the_gateway_does_not_confirm_changes_nothing_and_is_parked() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let mut event = placed.event("payment_intent.canceled", "canceled");
    // While the gateway cannot be asked, it keeps the event.
    house.outside("/sandbox/down", &[]).await.is(204);
    let kept = told(&house, &event.to_string()).await;
    assert_eq!(kept.problem(), refusal(503, "gateway_unavailable"));
    house.outside("/sandbox/up", &[]).await.is(204);
    // The payment is found by its reference, even without our metadata.
    event["data"]["object"]["metadata"] = json!({});
    let captured = placed.event("payment_intent.succeeded", "succeeded");
    for event in [&event, &captured] {
        for _ in 0..2 {
            let answer = told(&house, &event.to_string()).await.is(202).json();
            assert_eq!(answer["reason"], "contradicts_our_books");
        }
    }
    let parked = parked(&house).await;
    assert_eq!(parked.len(), 2);
    assert!(parked.iter().all(|(_, _, order)| *order == Some(placed.order)), "{parked:?}");
    placed.is("authorized", "0.00").await;
    assert!(placed.moves().await.is_empty());
    let mut other = placed.event("payment_intent.canceled", "canceled");
    other["data"]["object"]["amount"] = 1.into();
    assert_eq!(told(&house, &other.to_string()).await.is(202).json()["reason"], "other_amount");
    house.close().await;
}

/// An event about a dispute of this payment.
fn disputed(placed: &Placed<'_>, kind: &str, status: &str) -> String {
    json!({
        "id": format!("evt_{kind}_{status}"), "created": 1_795_000_000,
        "type": format!("charge.dispute.{kind}"),
        "data": {"object": {"id": "dp_1", "object": "dispute", "amount": 700, "currency": "usd",
            "payment_intent": placed.reference, "status": status}},
    })
    .to_string()
}

#[tokio::test]
async fn an_event_that_cannot_be_parked_is_not_booked_and_its_next_delivery_is_taken_in_whole() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    park_as_many_as_may_wait(&house).await;
    let dispute = disputed(&placed, "created", "needs_response");
    for _ in 0..2 {
        let refused = told(&house, &dispute).await;
        assert_eq!(refused.problem(), refusal(503, "too_many_parked_events"));
        assert!(placed.moves().await.is_empty(), "{:?}", placed.moves().await);
    }
    unpark_one(&house).await;
    assert_eq!(told(&house, &dispute).await.is(202).json()["reason"], "dispute");
    assert_eq!(placed.moves().await.len(), 1);
    told(&house, &dispute).await.is(200);
    // The sandbox's book knows no disputes.
    house.shut().await;
}

#[tokio::test]
async fn a_dispute_is_in_the_books_and_needs_a_person() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let placed = Placed::new(&house, product(&house, &admin, "10.00", 5).await).await;
    let dispute = |kind: &str, status: &str| disputed(&placed, kind, status);
    for (kind, status, answer) in [
        ("created", "needs_response", 202),
        ("updated", "under_review", 200),
        ("closed", "lost", 202),
        ("created", "needs_response", 200),
    ] {
        told(&house, &dispute(kind, status)).await.is(answer);
    }
    assert_eq!(placed.moves().await, [moved("dispute", "7.00")]);
    let parked = parked(&house).await;
    let reasons: Vec<_> = parked.iter().map(|(_, why, order)| (&**why, *order)).collect();
    assert_eq!(reasons, [("dispute", Some(placed.order)), ("dispute", Some(placed.order))]);
    // The sandbox's book knows no disputes.
    house.shut().await;
}
