//! Orders over HTTP from the 202 to the end, with the sandbox gateway, a worker and a relay.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
};

async fn operation(shopper: &Shopper<'_>, accepted: &Answer) -> Value {
    let location = accepted.is(202).header("location").to_owned();
    shopper.get(&location).await.is(200).json()
}

/// Reads an operation until it has this status.
async fn until(shopper: &Shopper<'_>, accepted: &Answer, status: &str) -> Value {
    let look = async {
        loop {
            let operation = operation(shopper, accepted).await;
            if operation["status"] == status {
                return operation;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), look).await.expect("it gets there")
}

#[tokio::test]
async fn an_order_is_placed_paid_and_told_of() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 2).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let placed = shopper.place(&body, 15).await;
    let order = placed.is(201).json();
    assert_eq!(order["status"], "pending");
    assert_eq!(order["payment"]["status"], "authorized");
    assert_eq!(order["subtotal"], json!({"amount": "20.00", "currency": "USD"}));
    assert!(order["orderNumber"].as_str().is_some_and(|n| n.starts_with("ORD-") && n.len() == 19));
    let path = format!("/v1/orders/{}", id(&order["id"]));
    assert_eq!(placed.header("location"), path);
    let read = shopper.get(&path).await;
    assert_eq!(read.is(200).json(), order);
    assert!(!read.header("etag").is_empty());
    assert_eq!(shopper.get("/v1/orders").await.is(200).json()["items"][0], order);
    assert_eq!(shopper.get("/v1/customers/{me}/cart").await.json()["itemCount"], 0);

    // Subscribers get the event with the payload that the catalogue defines.
    let key = house.key("service", &["events:read"]).await;
    let mut stream = house
        .get("/v1/events/stream")
        .bearer_auth(&key)
        .send()
        .await
        .expect("a stream")
        .bytes_stream();
    let mut told = String::new();
    let placed = |told: &str| {
        let whole = told.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n"));
        whole.into_iter().find(|event| event.contains("shop.order.placed.v1")).map(str::to_owned)
    };
    while placed(&told).is_none() {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
        let chunk = next.expect("it comes soon").expect("it goes on").expect("it holds");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    let told = placed(&told).expect("it has come");
    let field = |name: &str| {
        told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    let event: Value = serde_json::from_str(field("data:")).expect("JSON");
    assert_eq!(event["type"], "shop.order.placed.v1");
    let first = json!("0000000001");
    assert_eq!((&event["subject"], &event["sequence"]), (&order["id"], &first));
    assert_eq!((&event["typesequence"], &event["sequencetype"]), (&first, &json!("Integer")));
    let schema = event["dataschema"].as_str().expect("an address");
    let path = &schema[schema.find("/schemas/").expect("of a schema")..];
    let schema = send(house.get(path)).await.is(200).json();
    let fields: Vec<_> = event["data"].as_object().expect("an object").keys().collect();
    let known: Vec<_> = schema["properties"].as_object().expect("an object").keys().collect();
    assert_eq!(fields, known);
    let unknown = send(house.get("/schemas/shop.order.placed.v9")).await;
    assert_eq!(unknown.problem(), refusal(404, "schema_not_found"));
    assert_eq!(event["data"]["orderNumber"], order["orderNumber"]);
    assert_eq!(event["data"]["itemCount"], 2);
    let again = house.get("/v1/events/stream?from=newest").bearer_auth(&key);
    let position = field("id:").to_owned();
    assert!(!position.is_empty());
    assert_eq!(again.header("last-event-id", position).send().await.expect("ok").status(), 200);
    let bad = house.get("/v1/events/stream").bearer_auth(&key).header("last-event-id", "nonsense");
    assert_eq!(send(bad).await.problem(), refusal(400, "invalid_position"));
    house.close().await;
}

#[tokio::test]
async fn a_declined_payment_ends_the_order_and_gives_everything_back() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 1).await;
    let shopper = Shopper::new(&house).await;
    let address = shopper.address().await;
    for method in ["declined", "unsupported"] {
        shopper.add(thing, 1).await;
        let body = shopper.order(address, shopper.method(method).await);
        let answer = shopper.place(&body, 15).await;
        assert_eq!(answer.problem(), refusal(402, "payment_failed"), "{method}");
        let order = shopper.get("/v1/orders").await.json()["items"][0].clone();
        assert_eq!(order["status"], "failed");
    }
    let stock = format!("/v1/products/{thing}/inventory");
    let stock = send(house.get(&stock).bearer_auth(&admin)).await.json()["items"][0].clone();
    assert_eq!((&stock["onHand"], &stock["reserved"]), (&json!(1), &json!(0)));
    house.close().await;
}

#[tokio::test]
async fn an_order_that_cannot_be_is_refused_at_once_with_nothing_left_behind() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 2).await;
    let shopper = Shopper::new(&house).await;
    let (address, method) = (shopper.address().await, shopper.method("ok").await);
    let fine = shopper.order(address, method);
    assert_eq!(shopper.place(&fine, 0).await.problem(), refusal(409, "cart_empty"));
    shopper.add(thing, 2).await.is(200);
    for (field, code) in [
        ("shippingAddressId", "address_not_found"),
        ("paymentMethodId", "payment_method_not_found"),
        ("customerId", "customer_not_found"),
    ] {
        let mut body = fine.clone();
        body[field] = json!(Uuid::now_v7());
        assert_eq!(shopper.place(&body, 0).await.problem(), refusal(404, code));
    }
    let other = Shopper::new(&house).await;
    other.add(thing, 2).await.is(200);
    let theirs = other.order(address, other.method("ok").await);
    assert_eq!(other.place(&theirs, 0).await.problem(), refusal(404, "address_not_found"));
    other.place(&other.order(other.address().await, other.method("ok").await), 0).await.is(202);
    let short = shopper.place(&fine, 0).await;
    assert_eq!(short.problem(), refusal(409, "out_of_stock"));
    assert_eq!(short.json()["errors"][0]["pointer"], "/items/0");

    let unverified = Shopper::unverified(&house).await;
    let body = unverified.order(unverified.address().await, unverified.method("ok").await);
    assert_eq!(unverified.place(&body, 0).await.problem(), refusal(403, "email_not_verified"));
    let without_key = shopper.ask(Method::POST, "/v1/orders").json(&fine);
    assert_eq!(send(without_key).await.problem(), refusal(400, "idempotency_key_required"));
    assert_eq!(shopper.get("/v1/orders").await.json()["items"], json!([]));
    house.close().await;
}

#[tokio::test]
async fn a_price_that_rose_must_be_accepted_by_who_has_seen_the_cart() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 2).await;
    let shopper = Shopper::new(&house).await;
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    shopper.add(thing, 1).await.is(200);
    let dearer = json!({"price": {"amount": "12.00", "currency": "USD"}});
    let change = house.ask(Method::PATCH, &format!("/v1/products/{thing}")).bearer_auth(&admin);
    send(change.json(&dearer)).await.is(200);
    let answer = shopper.place(&body, 0).await;
    assert_eq!(answer.problem(), refusal(409, "price_changed"));
    assert!(answer.json()["errors"][0]["detail"].as_str().is_some_and(|d| d.contains("12.00")));
    let cart = shopper.get("/v1/customers/{me}/cart").await;
    let request = shopper.ask(Method::POST, "/v1/orders").json(&body);
    let request = request.header("idempotency-key", "k").header("if-match", cart.header("etag"));
    send(request).await.is(202);
    house.close().await;
}

#[tokio::test]
async fn a_cart_that_is_not_the_one_that_was_seen_is_not_ordered() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let seen = async || shopper.get("/v1/customers/{me}/cart").await.header("etag").to_owned();
    let place = |tag: String| {
        let request = shopper.ask(Method::POST, "/v1/orders").json(&body);
        send(request.header("idempotency-key", "k").header("if-match", tag))
    };
    shopper.add(thing, 1).await.is(200);
    let before = seen().await;
    shopper.add(thing, 1).await.is(200);
    assert_eq!(place(before).await.problem(), refusal(412, "precondition_failed"));
    place(seen().await).await.is(202);
    house.close().await;
}

#[tokio::test]
async fn while_an_order_is_placed_its_cart_is_closed_and_a_repetition_is_the_same_operation() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let place = |key: &str| {
        let request = shopper.ask(Method::POST, "/v1/orders").json(&body);
        send(request.header("idempotency-key", key.to_owned()))
    };
    let first = place("k").await;
    let began = operation(&shopper, &first).await;
    assert_eq!((&began["status"], &began["kind"]), (&json!("running"), &json!("place-order")));
    assert_eq!(began["createdAt"], first.json()["createdAt"]);
    let again = place("k").await;
    assert_eq!(
        (again.is(202).text.as_str(), again.header("location")),
        (first.text.as_str(), first.header("location"))
    );
    assert_eq!(place("other").await.problem(), refusal(409, "checkout_in_progress"));
    assert_eq!(shopper.add(thing, 1).await.problem(), refusal(409, "checkout_in_progress"));

    // Another customer sees neither the operation nor the order; staff see both.
    let other = Shopper::unverified(&house).await;
    let answer = other.get(first.header("location")).await;
    assert_eq!(answer.problem(), refusal(404, "operation_not_found"));
    let order = format!("/v1/orders/{}", id(&began["subject"]));
    assert_eq!(other.get(&order).await.problem(), refusal(404, "order_not_found"));
    let cancel = other.cancel(id(&began["subject"]), 0).await;
    assert_eq!(cancel.problem(), refusal(404, "order_not_found"));
    let viewer = house.key("viewer", &[]).await;
    let saga = format!("/v1/admin/sagas/{}", id(&began["id"]));
    let saga = send(house.get(&saga).bearer_auth(&viewer)).await.is(200).json();
    assert_eq!((&saga["kind"], &saga["subject"]), (&json!("place-order"), &began["subject"]));
    assert_eq!(saga["journal"][0]["kind"], "start");
    assert!(saga["next"].as_str().is_some_and(|next| !next.is_empty()));
    house.close().await;
}

#[tokio::test]
async fn operators_find_sagas_by_tag_priority_and_parent_and_see_the_family_and_what_was_recorded()
{
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let began = until(&shopper, &shopper.place(&body, 0).await, "succeeded").await;
    let (parent, order) = (id(&began["id"]), id(&began["subject"]));
    // No saga of the shop has children or tags, so this test gives one both.
    let child = stepwise_engine::new_id(stepwise_engine::shard_in(parent));
    sqlx::query(
        "-- name: test adopt
        with parent as (
            update saga.instance set tags = '{\"shop\": \"5\", \"region\": \"eu\"}', priority = 0 where saga_id = $1
            returning *
        )
        insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq,
            parent_id, parent_step, created_at, updated_at)
        select shard, $2, 'part', 1, 'a part', 'running', 'signal', '1', '\"nothing\"', '[]', 1, 1, saga_id, 1, now(), now()
        from parent",
    )
    .bind(parent)
    .bind(child)
    .execute(house.database.pool())
    .await
    .expect("the parent is there");
    let viewer = house.key("viewer", &[]).await;
    let ask = async |what: &str| {
        send(house.get(&format!("/v1/admin/sagas{what}")).bearer_auth(&viewer)).await
    };
    let besides = ["register-customer", "cart-expiry", "stock-alert", "keep-payment-method"];
    let listed = async |query: &str| {
        let page = ask(query).await.is(200).json();
        // The sagas that follow from the mail, the cart, the card and the stock are left out.
        page["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter(|saga| !besides.contains(&saga["kind"].as_str().unwrap_or_default()))
            .map(|saga| id(&saga["id"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("?tag=shop%3D5").await, [parent]);
    assert_eq!(listed("?tag=shop%3D5&tag=region%3Deu").await, [parent]);
    assert!(listed("?tag=shop%3D5&tag=region%3Dus").await.is_empty());
    assert_eq!(listed("?priority=high").await, [parent]);
    assert_eq!(listed("?priority=normal").await, [child]);
    assert_eq!(listed(&format!("?parent={parent}")).await, [child]);
    for wrong in ["?tag=shop", "?tag=%3D5", "?tag=", "?tag=shop%3D5&tag=region"] {
        assert_eq!(ask(wrong).await.problem(), refusal(400, "invalid_parameter"), "{wrong}");
    }
    let saga = ask(&format!("/{parent}")).await.is(200).json();
    assert_eq!(saga["tags"], json!(["region=eu", "shop=5"]));
    assert_eq!((&saga["priority"], &saga["queued"]), (&json!("high"), &json!(false)));
    let events = saga["events"].as_array().expect("events");
    assert_eq!(events.first().map(|event| &event["sequence"]), Some(&json!(1)), "{saga}");
    assert_eq!(events[0]["data"]["orderId"], json!(order), "{saga}");
    assert_eq!((&saga["children"], &saga["openChildren"]), (&json!([child]), &json!(1)));
    let adopted = ask(&format!("/{child}")).await.is(200).json();
    assert_eq!(adopted["parent"], json!(parent));
    house.close().await;
}

#[tokio::test]
async fn a_placed_order_is_cancelled_once_and_its_money_given_back() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 5).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
    let cancelled = shopper.cancel(order, 15).await.is(200).json();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["payment"]["status"], "voided");
    let again = shopper.cancel(order, 0).await;
    let once_more = shopper.cancel(order, 0).await;
    assert_eq!(again.is(202).header("location"), once_more.is(202).header("location"));
    assert_eq!(operation(&shopper, &again).await["status"], "succeeded");
    shopper.add(thing, 5).await.is(200);
    let reasonless = shopper.ask(Method::POST, &format!("/v1/orders/{order}/cancel"));
    let reasonless = reasonless.header("idempotency-key", "k").json(&json!({"reason": " "}));
    assert_eq!(send(reasonless).await.problem(), refusal(422, "missing_field"));
    let unknown = shopper.cancel(Uuid::now_v7(), 0).await;
    assert_eq!(unknown.problem(), refusal(404, "order_not_found"));
    sqlx::query(
        r#"update shop."order" set status = 'shipped', tracking_number = 'x', carrier = 'y'"#,
    )
    .execute(house.database.pool())
    .await
    .expect("it is on its way");
    let late = shopper.cancel(order, 0).await;
    assert_eq!(late.problem(), refusal(409, "already_shipped"));
    house.close().await;
}

#[tokio::test]
async fn a_payment_that_needs_approval_says_where_and_goes_on_when_it_is_given() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let address = shopper.address().await;
    let method = shopper.method("challenge").await;
    shopper.add(thing, 1).await.is(200);
    let accepted = shopper.place(&shopper.order(address, method), 15).await;
    let waiting = accepted.is(202).json();
    assert_eq!(waiting["action"]["type"], "approve_payment");
    let url = waiting["action"]["url"].as_str().expect("an address");
    // This is the request that the page's form sends from the customer's browser.
    house
        .client
        .post(url)
        .form(&[("decision", "approve")])
        .send()
        .await
        .expect("the gateway answers");
    let done = until(&shopper, &accepted, "succeeded").await;
    assert_eq!(done["result"]["status"], "pending");

    // The order is cancelled while it waits: the placement fails and the cancellation succeeds.
    shopper.add(thing, 1).await.is(200);
    let placing = shopper.place(&shopper.order(address, method), 15).await;
    let cancelled = shopper.cancel(id(&placing.is(202).json()["subject"]), 15).await;
    assert_eq!(cancelled.is(200).json()["status"], "cancelled");
    let failed = until(&shopper, &placing, "failed").await;
    assert_eq!(
        (&failed["problem"]["code"], &failed["problem"]["status"]),
        (&json!("order_cancelled"), &json!(409))
    );
    house.close().await;
}

#[tokio::test]
async fn an_operation_s_stream_ends_with_its_end() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("slow").await);
    let accepted = shopper.place(&body, 0).await;
    let path = format!("{}/events", accepted.is(202).header("location"));
    let stream = send(shopper.ask(Method::GET, &path)).await;
    assert_eq!(stream.is(200).header("content-type"), "text/event-stream");
    let states: Vec<Value> = stream
        .text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
        .collect();
    assert_eq!(states.first().map(|s| &s["status"]), Some(&json!("running")));
    let last = states.last().expect("it began");
    assert_eq!(
        (&last["status"], &last["result"]["status"]),
        (&json!("succeeded"), &json!("pending"))
    );
    house.close().await;
}

#[tokio::test]
async fn the_last_item_goes_to_one_of_twenty_buyers() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 1).await;
    let mut ready = Vec::new();
    for _ in 0..20 {
        let shopper = Shopper::new(&house).await;
        shopper.add(thing, 1).await.is(200);
        let body = shopper.order(shopper.address().await, shopper.method("ok").await);
        ready.push((shopper, body));
    }
    let answers = join_all(ready.iter().map(|(shopper, body)| shopper.place(body, 0))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(answer.problem(), refusal(409, "out_of_stock"));
    }
    house.close().await;
}
