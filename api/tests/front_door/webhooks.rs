//! Webhooks of the gateway: only those with a valid and recent signature are accepted.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use stepwise_adapters::gateway::webhook::{SIGNATURE_HEADER, sign};
use uuid::Uuid;

use crate::house::{Answer, House, WEBHOOK_SECRET, refusal, send};

const PATH: &str = "/v1/webhooks/gateway";

fn event(order: Uuid) -> Value {
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

#[tokio::test]
async fn an_event_about_a_payment_nobody_knows_is_parked_once() {
    let house = House::open().await;
    let body = event(Uuid::now_v7()).to_string();
    let signature = || Some(sign(body.as_bytes(), &[WEBHOOK_SECRET.to_owned().into()], now()));
    for _ in 0..2 {
        let answer = sent(&house, &body, signature()).await;
        assert_eq!(answer.is(202).json()["status"], "parked");
    }
    let parked: i64 = sqlx::query_scalar("select count(*) from shop.parked_gateway_event")
        .fetch_one(house.database.pool())
        .await
        .expect("a count");
    assert_eq!(parked, 1);
    house.close().await;
}

#[tokio::test]
async fn what_is_signed_and_unreadable_is_422() {
    let house = House::open().await;
    for body in ["", "{", "[]", "{\"id\":1}"] {
        let signature = sign(body.as_bytes(), &[WEBHOOK_SECRET.to_owned().into()], now());
        let answer = sent(&house, body, Some(signature)).await;
        assert_eq!(answer.problem(), refusal(422, "unreadable_event"), "{body}");
    }
    house.close().await;
}
