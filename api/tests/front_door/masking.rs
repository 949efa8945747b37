//! Personal data and approval links: only some callers see them.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{
    house::{House, send},
    shopper::{Shopper, id, product},
};

/// The texts in personal fields. They occur nowhere else.
const RECIPIENT: &str = "Quetzalcoatlus";
const STREET: &str = "Yggdrasil";
const REASON: &str = "Xylophonist";
const CANARIES: [&str; 3] = [RECIPIENT, STREET, REASON];

/// Reads an address as this caller. Of a stream it reads until nothing comes for a moment.
async fn read(house: &House, token: &str, path: &str) -> (u16, String) {
    let asked = house.get(path).bearer_auth(token).send().await.expect("the server answers");
    let status = asked.status().as_u16();
    let (mut text, mut chunks) = (String::new(), asked.bytes_stream());
    while let Ok(Some(Ok(chunk))) = timeout(Duration::from_millis(700), chunks.next()).await {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    (status, text)
}

/// All GET addresses of the document, with these ids in them.
fn readable(ids: &[(&str, Uuid)]) -> Vec<String> {
    let document: Value =
        serde_json::from_str(&stepwise::routes::document()).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let readable = paths.filter(|(_, methods)| methods.get("get").is_some());
    readable
        .flat_map(|(path, _)| {
            let path = path.replace("{type}", "shop.order.placed.v1");
            let mut filled = vec![path.replace("{code}", "out-of-stock")];
            for (name, id) in ids {
                let with =
                    |path: &String| path.replacen(&format!("{{{name}}}"), &id.to_string(), 1);
                let more: Vec<String> = filled.iter().map(with).collect();
                filled.extend(more);
            }
            filled.retain(|path| !path.contains('{'));
            filled.sort_unstable();
            filled.dedup();
            assert!(!filled.is_empty(), "no id for {path}");
            filled
        })
        .collect()
}

/// All GET addresses of the document, with these ids and with those of these orders and their operations.
fn readable_with(own: &[(&str, Uuid)], operations: &[(Uuid, Uuid)]) -> Vec<String> {
    let mut paths = Vec::new();
    for (order, operation) in operations {
        let ids = [("orderId", *order), ("operationId", *operation), ("sagaId", *operation)];
        paths.extend(readable(&[own, &ids].concat()));
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Places an order that waits for its customer's approval. Returns the order, the operation and the link.
async fn waiting(shopper: &Shopper<'_>, address: Uuid) -> (Uuid, Uuid, String) {
    let challenged = shopper.order(address, shopper.method("challenge").await);
    let begun = shopper.place(&challenged, 15).await.is(202).json();
    assert_eq!(begun["action"]["type"], "approve_payment", "{begun}");
    let url = begun["action"]["url"].as_str().expect("its customer sees the link").to_owned();
    (id(&begun["subject"]), id(&begun["id"]), url)
}

/// A parked event that an operator has dismissed, with a reason that names a person: its id and address.
async fn parked(house: &House) -> (Uuid, String) {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into shop.parked_gateway_event
            (event_id, why, kind, parked_at, ended_at, verb, verb_by, verb_reason, verb_at)
        values ($1, 'unreadable', 'new', now(), now(), 'dismiss', 'system', $2, now())",
    )
    .bind(id.to_string())
    .bind(REASON)
    .execute(house.database.pool())
    .await
    .expect("written");
    (id, format!("/v1/admin/parked-events/{id}"))
}

/// Waits until a stream of events contains the reason of the cancellation.
async fn cancellation_is_published(house: &House, admin: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !read(house, admin, "/v1/events/stream").await.1.contains(REASON) {
        assert!(Instant::now() < deadline, "the event is not published");
    }
}

async fn sagas_about(house: &House, admin: &str, subject: Uuid) -> Vec<Uuid> {
    let path = format!("/v1/admin/sagas?subject={subject}");
    let sagas = send(house.get(&path).bearer_auth(admin)).await.is(200).json();
    sagas["items"].as_array().expect("a list").iter().map(|saga| id(&saga["id"])).collect()
}

#[tokio::test]
async fn no_address_of_the_document_shows_staff_or_services_what_is_personal() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let shopper = Shopper::new(&house).await;
    let home = json!({
        "recipientName": RECIPIENT, "street": STREET, "city": "San Francisco", "state": "CA",
        "postalCode": "94103", "country": "US",
    });
    let home = shopper.post("/v1/customers/{me}/addresses", &home).await.is(201).json();
    let home = id(&home["id"]);

    shopper.add(thing, 1).await.is(200);
    let method = shopper.method("ok").await;
    let paid = shopper.order(home, method);
    let placed = shopper.place(&paid, 15).await.is(201).json();
    let (placed, payment) = (id(&placed["id"]), id(&placed["payment"]["id"]));
    let cancel = shopper.ask(Method::POST, &format!("/v1/orders/{placed}/cancel"));
    let cancel = cancel.header("idempotency-key", "cancel").header("prefer", "wait=15");
    send(cancel.json(&json!({ "reason": REASON }))).await.is(200);
    let sagas = sagas_about(&house, &admin, placed).await;
    assert_eq!(sagas.len(), 2, "it was placed and cancelled");
    shopper.add(thing, 1).await.is(200);
    let (order, operation, link) = waiting(&shopper, home).await;

    cancellation_is_published(&house, &admin).await;
    let (event, dismissed) = parked(&house).await;
    let own = [
        ("customerId", shopper.id),
        ("addressId", home),
        ("paymentMethodId", method),
        ("productId", thing),
        ("paymentId", payment),
        ("eventId", event),
    ];
    let operations = [(order, operation), (placed, sagas[0]), (placed, sagas[1])];
    let paths = readable_with(&own, &operations);
    let scopes =
        ["operations:read", "payments:read", "inventory:read", "inventory:write", "events:read"];
    for (role, scopes) in [("viewer", &[][..]), ("operator", &[][..]), ("service", &scopes[..])] {
        let token = house.key(role, scopes).await;
        let mut seen = Vec::new();
        for path in &paths {
            let (status, text) = read(&house, &token, path).await;
            for secret in CANARIES.iter().chain([&link.as_str(), &shopper.email.as_str()]) {
                assert!(!text.contains(secret), "{role} reads {secret} at {path}: {text}");
            }
            if status == 200 {
                seen.push(path.as_str());
            }
        }
        // Nothing is hidden merely because every request was refused.
        assert!(seen.contains(&format!("/v1/operations/{operation}").as_str()), "{role}: {seen:?}");
        let expected = if role == "service" { "/v1/events/stream" } else { "/v1/admin/sagas" };
        assert!(seen.contains(&expected), "{role}: {seen:?}");
    }

    // An admin sees personal data but no link; the customer sees both.
    let result = format!("/v1/operations/{}", sagas.iter().max().expect("there are two"));
    let waits = format!("/v1/operations/{operation}");
    assert!(read(&house, &admin, &result).await.1.contains(STREET));
    assert!(!read(&house, &admin, &waits).await.1.contains(&link));
    assert!(read(&house, &shopper.token, &result).await.1.contains(STREET));
    assert!(read(&house, &admin, &dismissed).await.1.contains(REASON));
    for path in [waits.clone(), format!("{waits}/events")] {
        let (_, text) = read(&house, &shopper.token, &path).await;
        assert!(text.contains(&link), "the customer does not see the link at {path}: {text}");
    }
    house.close().await;
}
