//! Requests that are sent twice.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stepwise_workflows::purge;
use uuid::Uuid;

use crate::{
    house::{House, refusal, send},
    inventory::Store,
    shopper::{Shopper, product},
};

const RESETS: &str = "/v1/customers/password-resets";

fn adjust(store: &Store, key: Option<&str>, body: &Value) -> RequestBuilder {
    let path = format!("/v1/products/{}/inventory/adjust", store.product);
    let request = store.house.ask(Method::POST, &path).bearer_auth(&store.key).json(body);
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

#[tokio::test]
async fn a_repetition_gets_the_same_answer_and_has_no_second_effect() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "found one"});
    let first = send(adjust(&store, Some("k1"), &body)).await;
    assert_eq!(first.is(200).header("idempotent-replayed"), "");
    // The same JSON in another spelling is the same request.
    let same = json!({"reason": "found one", "adjustment": 1});
    for key in ["k1", "\"k1\""] {
        let again = send(adjust(&store, Some(key), &same)).await;
        assert_eq!(again.is(200).header("idempotent-replayed"), "true");
        assert_eq!(again.text, first.text);
    }
    assert_eq!(store.stock().await, (11, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_key_used_for_another_request_is_refused_and_another_caller_is_another_matter() {
    let mut store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    send(adjust(&store, Some("k"), &body)).await.is(200);
    let other = json!({"adjustment": 2, "reason": "x"});
    let answer = send(adjust(&store, Some("k"), &other)).await;
    assert_eq!(answer.problem(), refusal(422, "idempotency_key_reused"));
    store.key = store.house.key("service", &["inventory:write", "inventory:read"]).await;
    send(adjust(&store, Some("k"), &other)).await.is(200);
    assert_eq!(store.stock().await, (13, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_refusal_is_not_kept() {
    let store = Store::open(1).await;
    let body = json!({"adjustment": -2, "reason": "x"});
    let answer = send(adjust(&store, Some("k"), &body)).await;
    assert_eq!(answer.problem(), refusal(409, "negative_stock"));
    send(adjust(&store, Some("other"), &json!({"adjustment": 5, "reason": "x"}))).await.is(200);
    send(adjust(&store, Some("k"), &body)).await.is(200);
    assert_eq!(store.stock().await, (4, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_missing_or_impossible_key_is_400() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    let answer = send(adjust(&store, None, &body)).await;
    assert_eq!(answer.problem(), refusal(400, "idempotency_key_required"));
    let long = "x".repeat(300);
    for key in ["", "\"\"", long.as_str(), "\u{e9}"] {
        let answer = send(adjust(&store, Some(key), &body)).await;
        assert_eq!(answer.problem(), refusal(400, "invalid_idempotency_key"), "{key}");
    }
    assert_eq!(store.stock().await, (10, 0));
    store.house.close().await;
}

/// Locks the stock's row, so that requests run for as long as the test needs.
async fn hold(store: &Store) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut holding = store.house.database.pool().begin().await.expect("a transaction");
    let stock = sqlx::query("select 1 from shop.inventory for update");
    stock.execute(&mut *holding).await.expect("ok");
    holding
}

/// Waits until a request waits for a lock.
async fn is_waiting(store: &Store) {
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(store.house.database.pool())
        .await
        .expect("a count")
        == 0
    {}
}

#[tokio::test]
async fn while_the_first_one_runs_its_twin_is_told_to_come_back() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    let holding = hold(&store).await;
    let first = tokio::spawn(send(adjust(&store, Some("k"), &body)));
    is_waiting(&store).await;
    let twin = send(adjust(&store, Some("k"), &body)).await;
    assert_eq!(twin.problem(), refusal(409, "request_in_flight"));
    assert_eq!(twin.header("retry-after"), "1");
    assert_eq!(twin.json()["retryable"], true);
    holding.rollback().await.expect("ok");
    first.await.expect("it ends").is(200);
    assert_eq!(store.stock().await, (11, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_twin_that_prefers_to_wait_gets_the_answer_of_the_first_one() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    let holding = hold(&store).await;
    let first = tokio::spawn(send(adjust(&store, Some("k"), &body)));
    is_waiting(&store).await;
    let patient = adjust(&store, Some("k"), &body).header("prefer", "wait=10");
    let twin = tokio::spawn(send(patient));
    // The lock is not held for longer, because the first one waits for it for a second only.
    for _ in 0..3 {
        let hasty = send(adjust(&store, Some("k"), &body)).await;
        assert_eq!(hasty.problem(), refusal(409, "request_in_flight"));
    }
    assert!(!twin.is_finished(), "it waits for the first one");
    holding.rollback().await.expect("ok");
    let (first, twin) = (first.await.expect("it ends"), twin.await.expect("it ends"));
    assert_eq!((first.status, twin.status), (200, 200), "{}", twin.text);
    assert_eq!(twin.json(), first.json());
    assert_eq!(store.stock().await, (11, 0), "and has no effect of its own");
    store.house.close().await;
}

#[tokio::test]
async fn a_hundred_twins_at_once_have_one_effect() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    let answers = join_all((0..100).map(|_| send(adjust(&store, Some("k"), &body)))).await;
    let fresh = answers
        .iter()
        .filter(|a| a.status == 200 && a.header("idempotent-replayed").is_empty())
        .count();
    assert_eq!(fresh, 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.problem(), refusal(409, "request_in_flight"));
    }
    assert_eq!(store.stock().await, (11, 0));
    store.house.close().await;
}

#[tokio::test]
async fn a_hundred_identical_placements_at_once_place_one_order() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(product(&house, &admin, "10.00", 200).await, 2).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let ask = || {
        let request = shopper.ask(Method::POST, "/v1/orders").json(&body);
        send(request.header("idempotency-key", "k"))
    };
    let answers = join_all((0..100).map(|_| ask())).await;
    let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    let fresh = accepted.iter().filter(|a| a.header("idempotent-replayed").is_empty()).count();
    assert_eq!(fresh, 1);
    let operation = accepted[0].json()["id"].clone();
    assert!(accepted.iter().all(|answer| answer.json()["id"] == operation));
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(answer.problem(), refusal(409, "request_in_flight"));
    }
    let placed = send(
        shopper
            .ask(Method::POST, "/v1/orders")
            .json(&body)
            .header("idempotency-key", "k")
            .header("prefer", "wait=15"),
    )
    .await;
    assert_eq!(placed.is(201).json()["status"], "pending");
    let orders = shopper.get("/v1/orders").await.is(200).json();
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(1));
    house.close().await;
}

#[tokio::test]
async fn an_answer_is_kept_for_72_hours() {
    let store = Store::open(10).await;
    let body = json!({"adjustment": 1, "reason": "x"});
    send(adjust(&store, Some("k"), &body)).await.is(200);
    let later = |hours: i32| {
        let pool = store.house.database.pool().clone();
        async move {
            sqlx::query("update saga.clock set offset_by = make_interval(hours => $1)")
                .bind(hours)
                .execute(&pool)
                .await
                .expect("the clock moves");
        }
    };
    // The caller's access key must not expire when the clock is moved.
    sqlx::query("update shop.access_key set expires_at = null")
        .execute(store.house.database.pool())
        .await
        .expect("ok");
    later(71).await;
    let kept = send(adjust(&store, Some("k"), &body)).await;
    assert_eq!(kept.header("idempotent-replayed"), "true");
    later(73).await;
    let anew = send(adjust(&store, Some("k"), &body)).await;
    assert_eq!(anew.is(200).header("idempotent-replayed"), "");
    assert_eq!(store.stock().await, (12, 0));
    later(200).await;
    let purged = purge::run(&store.house.door.db, &purge::Retention::default()).await;
    assert_eq!(purged.expect("a purge"), 1);
    store.house.close().await;
}

#[tokio::test]
async fn the_answer_to_a_customer_is_stored_sealed_and_belongs_to_them() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let add = || {
        let item = json!({"productId": thing, "quantity": 1});
        let request = shopper.ask(Method::POST, "/v1/customers/{me}/cart/items").json(&item);
        send(request.header("idempotency-key", "k"))
    };
    let first = add().await;
    assert!(first.text.contains(&thing.to_string()), "{}", first.text);
    let (owner, body): (Option<Uuid>, Vec<u8>) = sqlx::query_as(
        "select customer_id, body from shop.idempotency where operation = 'addItemToCart'",
    )
    .fetch_one(house.database.pool())
    .await
    .expect("one answer");
    let body = String::from_utf8_lossy(&body);
    assert_eq!(owner, Some(shopper.id));
    assert!(!body.contains(&thing.to_string()), "{body}");
    let again = add().await;
    assert_eq!((again.header("idempotent-replayed"), &again.text), ("true", &first.text));
    house.close().await;
}

/// The plain hash of a request for a mail, which anybody can compute.
fn plain_hash(body: &Value) -> Vec<u8> {
    let of_body = Sha256::digest(body.to_string());
    Sha256::new().chain_update(RESETS).chain_update(of_body).finalize().to_vec()
}

#[tokio::test]
async fn a_stored_request_does_not_tell_whether_an_address_was_guessed() {
    let house = House::open().await;
    let body = json!({"email": "ada@example.org"});
    let ask = || send(house.post(RESETS, &body).header("idempotency-key", "k"));
    ask().await.is(204);
    let pool = house.database.pool();
    let stored: Vec<u8> = sqlx::query_scalar("select fingerprint from shop.idempotency")
        .fetch_one(pool)
        .await
        .expect("one answer");
    assert_ne!(stored, plain_hash(&body));
    assert_eq!(ask().await.is(204).header("idempotent-replayed"), "true");
    // An earlier release has stored the plain hash.
    sqlx::query("update shop.idempotency set fingerprint = $1")
        .bind(plain_hash(&body))
        .execute(pool)
        .await
        .expect("writable");
    assert_eq!(ask().await.is(204).header("idempotent-replayed"), "true");
    house.close().await;
}
