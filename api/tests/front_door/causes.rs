//! The events and messages that a request leads to name the request and its sender.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    house::{Answer, House, send},
    shopper::{Shopper, id, product},
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends an order and waits for its end.
async fn place(request: RequestBuilder, body: &Value) -> Answer {
    let request = request.json(body).header("idempotency-key", Uuid::now_v7().to_string());
    send(request.header("prefer", "wait=15")).await
}

/// The name and the actor of the events of a request, and of the sagas it has started, in their order.
async fn events(pool: &PgPool, answer: &Answer) -> Vec<(String, String)> {
    sqlx::query_as(
        "select name, actor from shop.domain_event where correlation = $1::uuid
        order by recorded_at, event_id",
    )
    .bind(answer.header("x-request-id"))
    .fetch_all(pool)
    .await
    .expect("readable")
}

/// The trace parent of the one message that the request has led to, and the event that it follows from, if it follows from one.
async fn message(pool: &PgPool, answer: &Answer) -> (String, Option<String>) {
    sqlx::query_as(
        "select m.traceparent, e.name
        from (select correlation, causation, traceparent from saga.outbox
              union all select correlation, causation, traceparent from saga.feed) m
        left join shop.domain_event e on e.event_id::text = m.causation
        where m.correlation = $1",
    )
    .bind(answer.header("x-request-id"))
    .fetch_one(pool)
    .await
    .expect("there is one")
}

fn by(actor: &str, names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), actor.to_owned())).collect()
}

#[tokio::test]
async fn everything_an_order_leads_to_names_its_request_its_trace_and_its_actor() {
    let house = House::open_working().await;
    let pool = house.database.pool();
    let admin = house.key("admin", &[]).await;
    let admin_id: Uuid = sqlx::query_scalar("select id from shop.access_key where role = 'admin'")
        .fetch_one(pool)
        .await
        .expect("there is one");
    let thing = product(&house, &admin, "10.00", 100).await;
    let shopper = Shopper::new(&house).await;
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let happened = ["InventoryReserved", "PaymentAuthorized", "OrderPlaced", "CartCleared"];

    shopper.add(thing, 1).await.is(200);
    let asked = shopper.ask(Method::POST, "/v1/orders").header("traceparent", TRACE);
    let placed = place(asked, &body).await;
    placed.is(201);
    let customer = format!("customer:{}", shopper.id);
    assert_eq!(events(pool, &placed).await, by(&customer, &happened));
    let order_placed = Some("OrderPlaced".to_owned());
    assert_eq!(message(pool, &placed).await, (TRACE.to_owned(), order_placed.clone()));

    // An admin orders for the customer; a trace parent that is none is ignored.
    shopper.add(thing, 1).await.is(200);
    let asked = house.ask(Method::POST, "/v1/orders").bearer_auth(&admin);
    let placed = place(asked.header("traceparent", "00-nonsense-01"), &body).await;
    placed.is(201);
    assert_eq!(events(pool, &placed).await, by(&format!("admin:{admin_id}"), &happened));
    let (trace, follows) = message(pool, &placed).await;
    let begins = format!("00-{}-", placed.header("x-request-id").replace('-', ""));
    assert!(trace.starts_with(&begins), "a trace of its own: {trace}");
    assert_eq!(follows, order_placed);
    let audit = house.get(&format!("/v1/products/{thing}/inventory/audit")).bearer_auth(&admin);
    let audit = send(audit).await.is(200).json();
    assert_eq!(audit["items"][0]["actor"], json!(admin_id));

    // An admin cancels it.
    let path = format!("/v1/orders/{}/cancel", id(&placed.json()["id"]));
    let asked = house.ask(Method::POST, &path).bearer_auth(&admin);
    let cancelled = place(asked, &json!({"reason": "out of fashion"})).await;
    cancelled.is(200);
    let happened = ["InventoryReleased", "OrderCancelled", "PaymentRefunded"];
    assert_eq!(events(pool, &cancelled).await, by(&format!("admin:{admin_id}"), &happened));

    // The shop itself takes back an order that is not paid for.
    shopper.add(thing, 1).await.is(200);
    let declined = shopper.order(shopper.address().await, shopper.method("declined").await);
    let failed = place(shopper.ask(Method::POST, "/v1/orders"), &declined).await;
    failed.is(402);
    let mut wanted = by(&customer, &["InventoryReserved"]);
    wanted.extend(by("system", &["InventoryReleased"]));
    assert_eq!(events(pool, &failed).await, wanted);
    assert_eq!(message(pool, &failed).await.1, None, "no event of the catalogue says it");
    house.close().await;
}
