//! Streams of integration events: their start positions, and the events that they leave out.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use stepwise_engine::outbox::{self, Message};
use uuid::Uuid;

use reqwest::Method;
use stepwise::door::limits::Rates;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
};

fn message(subject: &str, sequence: i64) -> Message {
    Message::new("shop.order.placed.v1", "/stepwise/order", subject, sequence, json!({}))
}

async fn publish(house: &House, messages: &[Message]) {
    let mut tx = house.database.pool().begin().await.expect("begin");
    outbox::publish_all(&mut tx, messages).await.expect("written");
    tx.commit().await.expect("commit");
    outbox::hint();
}

/// Reads a stream until it contains this text. Fails after a time limit.
async fn read(
    house: &House,
    role: &str,
    path: &str,
    last_event_id: &str,
    until: impl Fn(&str) -> bool,
    patience: Duration,
) -> String {
    let scopes: &[&str] = if role == "service" { &["events:read"] } else { &[] };
    let key = house.key(role, scopes).await;
    let asked = house.get(path).bearer_auth(&key).header("last-event-id", last_event_id).send();
    let answer = asked.await.expect("a stream");
    assert_eq!(answer.status(), 200);
    let mut stream = answer.bytes_stream();
    let mut said = String::new();
    let reading = async {
        while !until(&said) {
            let chunk = stream.next().await.expect("it goes on").expect("it holds");
            said.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    assert!(tokio::time::timeout(patience, reading).await.is_ok(), "{path} said only {said:?}");
    said
}

#[tokio::test]
async fn a_stream_says_at_once_where_it_begins_so_that_a_reconnect_misses_nothing() {
    let house = House::open_working().await;
    publish(&house, &[message("order-1", 1)]).await;
    let soon = Duration::from_secs(10);
    let newest = "/v1/events/stream?from=newest";
    read(&house, "service", "/v1/events/stream", "", |said| said.contains("order-1"), soon).await;
    let at_once = Duration::from_secs(1);
    let said = read(&house, "service", newest, "", |said| said.contains("\n\n"), at_once).await;
    assert!(!said.contains("data:"), "an id and nothing else: {said}");
    let id = said.lines().find_map(|line| line.strip_prefix("id:")).expect("an id").trim();
    // This event is published while no client reads.
    publish(&house, &[message("order-1", 2)]).await;
    let said = read(&house, "service", newest, id, |said| said.contains("data:"), soon).await;
    assert!(said.contains("\"sequence\":\"0000000002\""), "{said}");
    house.close().await;
}

/// Fault: outside: a published event does not open under its customer's key
/// Customer: nothing
/// Operator: one line in the log, `stepwise_feed_unreadable_total`, a row in saga.feed_trouble
/// Within: when the first subscriber comes to it
/// Ends: it is set aside; every subscriber gets all others
#[tokio::test]
async fn an_event_that_cannot_be_opened_is_set_aside_and_the_stream_goes_on() {
    let house = House::open_working().await;
    let customer = Uuid::now_v7();
    house.door.shop.keys.create_many(&[customer]).await.expect("a key");
    let sealed = json!({ "reason": { "sealed": "damaged" } });
    let damaged = Message { data: sealed, ..message("order-1", 1) }.sealed_for(customer);
    publish(&house, &[damaged, message("order-1", 2), message("order-2", 1)]).await;
    let has_both = |said: &str| said.matches("data:").count() == 2;
    for _ in 0..2 {
        let soon = Duration::from_secs(10);
        let said = read(&house, "admin", "/v1/events/stream", "", has_both, soon).await;
        assert!(said.contains("\"sequence\":\"0000000002\"") && said.contains("order-2"), "{said}");
    }
    let troubles = outbox::feed_troubles(house.database.pool()).await.expect("readable");
    assert_eq!(troubles.unreadable, 1, "set aside once: {troubles:?}");
    house.close().await;
}

/// Opens a stream with this token, and reads its beginning.
async fn open(house: &House, token: &str, path: &str) -> reqwest::Response {
    let mut answer = house.get(path).bearer_auth(token).send().await.expect("a stream");
    assert_eq!(answer.status(), 200);
    answer.chunk().await.expect("it holds").expect("it begins");
    answer
}

/// Reads the stream to its end, and returns how long that took.
async fn ended(mut answer: reqwest::Response) -> Duration {
    let began = Instant::now();
    let reading = async { while answer.chunk().await.expect("it ends cleanly").is_some() {} };
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(read.is_ok(), "the stream goes on");
    began.elapsed()
}

#[tokio::test]
async fn a_stream_ends_within_two_seconds_of_the_end_of_its_key_or_session() {
    let house = House::open().await;
    let key = house.key("service", &["events:read"]).await;
    let other = house.key("admin", &[]).await;
    let mut kept = open(&house, &other, "/v1/events/stream").await;
    let stream = open(&house, &key, "/v1/events/stream").await;
    sqlx::query("update shop.access_key set revoked_at = saga.now() where role = 'service'")
        .execute(house.database.pool())
        .await
        .expect("revoked");
    let took = ended(stream).await;
    assert!(took < Duration::from_secs(2), "{took:?} after the key was revoked");

    let shopper = Shopper::new(&house).await;
    shopper.add(product(&house, &other, "20.00", 5).await, 1).await.is(200);
    let order = shopper.order(shopper.address().await, shopper.method("ok").await);
    let operation = id(&shopper.place(&order, 0).await.is(202).json()["id"]);
    let stream = open(&house, &shopper.token, &format!("/v1/operations/{operation}/events")).await;
    send(shopper.ask(Method::DELETE, "/v1/sessions/current")).await.is(204);
    let took = ended(stream).await;
    assert!(took < Duration::from_secs(2), "{took:?} after the customer logged out");

    // The stream of a caller whose key is valid goes on.
    let more = tokio::time::timeout(Duration::from_millis(100), kept.chunk()).await;
    assert!(!matches!(more, Ok(Ok(None) | Err(_))), "{more:?}");
    house.close().await;
}

#[tokio::test]
async fn a_caller_has_a_limited_number_of_streams_open() {
    let house = House::open_with(Rates { streams_per_caller: 2, ..Rates::OFF }).await;
    let (one, other) = (house.key("admin", &[]).await, house.key("admin", &[]).await);
    let path = "/v1/events/stream";
    let first = open(&house, &one, path).await;
    let _second = open(&house, &one, path).await;
    let asked = || send(house.get(path).bearer_auth(&one));
    let refused: Answer = asked().await;
    assert_eq!(refused.problem(), refusal(429, "too_many_streams"));
    assert_eq!(refused.header("retry-after"), "5");
    let _others = open(&house, &other, path).await;
    drop(first);
    let began = Instant::now();
    let admitted = async || {
        let answer = house.get(path).bearer_auth(&one).send().await.expect("an answer");
        answer.status() == 200
    };
    while !admitted().await {
        assert!(began.elapsed() < Duration::from_secs(10), "its place is never free again");
    }
    house.close().await;
}
