//! Carts and reservations whose time is over, and stocks that partners are told of: the behaviour that customers, admins and partners see.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use stepwise_workflows::sagas::stock_alert;
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
};

async fn days_pass(house: &House, days: i32) {
    sqlx::query("update saga.clock set offset_by = offset_by + make_interval(days => $1)")
        .bind(days)
        .execute(house.database.pool())
        .await
        .expect("the clock moves");
}

/// The number that the query finds about this id, once it is this one.
async fn becomes(house: &House, query: &'static str, about: Uuid, wanted: i64) {
    let begun = Instant::now();
    loop {
        let is: i64 = sqlx::query_scalar(query)
            .bind(about)
            .fetch_one(house.database.pool())
            .await
            .expect(query);
        if is == wanted {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{is}, not {wanted}: {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WATCHES: &str = "select count(*) from saga.instance where name = 'cart-expiry' and subject = $1::text and ended_at is null";
const EXPIRED: &str =
    "select count(*) from shop.domain_event where aggregate_id = $1 and name = 'CartExpired'";
const CART: &str = "select count(*) from shop.cart where cart_id = $1";
const ITEMS: &str = "select count(*) from shop.cart_item where cart_id = $1 and removed_at is null";

#[tokio::test]
async fn a_guest_who_stays_away_for_a_week_loses_the_cart_and_a_customer_after_a_month_the_items() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let guest = send(house.ask(Method::POST, "/v1/guest-carts")).await.is(201).json();
    let (guests_cart, token) = (id(&guest["cartId"]), guest["token"].as_str().expect("a token"));
    let path = format!("/v1/customers/{}/cart", id(&guest["customerId"]));
    let body = json!({"productId": thing, "quantity": 1});
    send(house.post(&format!("{path}/items"), &body).bearer_auth(token)).await.is(200);
    let shopper = Shopper::unverified(&house).await;
    let customers_cart = id(&shopper.add(thing, 1).await.is(200).json()["id"]);
    for cart in [guests_cart, customers_cart] {
        becomes(&house, WATCHES, cart, 1).await;
    }

    days_pass(&house, 6).await;
    send(house.get(&path).bearer_auth(token)).await.is(200);
    days_pass(&house, 1).await;
    becomes(&house, CART, guests_cart, 0).await;
    becomes(&house, EXPIRED, guests_cart, 1).await;
    let status = send(house.get(&path).bearer_auth(token)).await.status;
    assert!(matches!(status, 401 | 404), "the token opens nothing any more: {status}");
    becomes(&house, ITEMS, customers_cart, 1).await;

    // Somebody uses the cart on the eighth day.
    sqlx::query("update shop.cart set last_activity_at = saga.now() where cart_id = $1")
        .bind(customers_cart)
        .execute(house.database.pool())
        .await
        .expect("the cart is there");
    days_pass(&house, 29).await;
    becomes(&house, ITEMS, customers_cart, 1).await;
    becomes(&house, WATCHES, customers_cart, 1).await;
    days_pass(&house, 1).await;
    becomes(&house, EXPIRED, customers_cart, 1).await;
    becomes(&house, ITEMS, customers_cart, 0).await;
    becomes(&house, WATCHES, customers_cart, 0).await;
    becomes(&house, CART, customers_cart, 1).await;

    // The next item starts the watch again.
    let again = shopper.log_in_again().await;
    again.add(thing, 1).await.is(200);
    becomes(&house, WATCHES, customers_cart, 1).await;
    house.close().await;
}

#[tokio::test]
async fn a_cart_from_which_an_order_is_being_placed_does_not_expire() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let shopper = Shopper::unverified(&house).await;
    let cart = id(&shopper.add(thing, 1).await.is(200).json()["id"]);
    let in_checkout = async |order: Option<Uuid>| {
        sqlx::query("update shop.cart set checkout_order_id = $2 where cart_id = $1")
            .bind(cart)
            .bind(order)
            .execute(house.database.pool())
            .await
            .expect("the cart is there");
    };
    in_checkout(Some(Uuid::now_v7())).await;
    days_pass(&house, 31).await;
    // The saga has looked: it sleeps until a time that is not over yet.
    becomes(
        &house,
        "select count(*) from saga.instance where name = 'cart-expiry' and subject = $1::text and wake_at > saga.now()",
        cart,
        1,
    )
    .await;
    becomes(&house, ITEMS, cart, 1).await;
    in_checkout(None).await;
    days_pass(&house, 1).await;
    becomes(&house, EXPIRED, cart, 1).await;
    becomes(&house, ITEMS, cart, 0).await;
    house.close().await;
}

/// Gives a command about the stock of a product.
async fn stock(house: &House, admin: &str, product: Uuid, what: &str, body: &Value) -> Answer {
    let path = format!("/v1/products/{product}/inventory/{what}");
    let key = Uuid::now_v7().to_string();
    send(house.post(&path, body).bearer_auth(admin).header("idempotency-key", key)).await
}

async fn reserved(house: &House, admin: &str, product: Uuid) -> Value {
    let path = format!("/v1/products/{product}/inventory");
    send(house.get(&path).bearer_auth(admin)).await.is(200).json()["items"][0]["reserved"].clone()
}

#[tokio::test]
async fn a_reservation_by_hand_ends_with_its_time_or_with_its_order() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let (thing, other) =
        (product(&house, &admin, "10.00", 50).await, product(&house, &admin, "10.00", 50).await);
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
    let reserve = |quantity: i32| json!({"quantity": quantity, "orderId": order});
    let first = stock(&house, &admin, thing, "reserve", &reserve(2)).await.is(200).json();
    assert_eq!((&first["reserved"], &first["available"]), (&json!(3), &json!(47)));
    let until: DateTime<Utc> =
        first["reservedUntil"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    assert_eq!((until - Utc::now()).num_hours(), 23, "{until}");
    stock(&house, &admin, other, "reserve", &reserve(4)).await.is(200);
    assert_eq!(reserved(&house, &admin, other).await, 4);

    sqlx::query("update shop.access_key set expires_at = null")
        .execute(house.database.pool())
        .await
        .expect("the keys outlive the day");
    days_pass(&house, 1).await;
    let by_time =
        "select count(*) from shop.inventory_audit a join shop.inventory i using (inventory_id)
        where i.product_id = $1 and a.reason = 'reservation_expired' and a.change = 'released'";
    becomes(&house, by_time, thing, 1).await;
    becomes(&house, by_time, other, 1).await;
    assert_eq!(reserved(&house, &admin, thing).await, 1, "the placement still holds its own");
    assert_eq!(reserved(&house, &admin, other).await, 0);

    // The end of the order releases all that is reserved for it at once.
    stock(&house, &admin, thing, "reserve", &reserve(2)).await.is(200);
    stock(&house, &admin, other, "reserve", &reserve(3)).await.is(200);
    shopper.log_in_again().await.cancel(order, 15).await.is(200);
    assert_eq!(reserved(&house, &admin, thing).await, 0);
    assert_eq!(reserved(&house, &admin, other).await, 0);
    let late = stock(&house, &admin, thing, "reserve", &reserve(1)).await;
    assert_eq!(late.problem(), refusal(409, "invalid_status_transition"));
    // Their sagas find nothing left, and end.
    days_pass(&house, 1).await;
    becomes(
        &house,
        "select count(*) from saga.instance where name = 'reservation-expiry' and subject = $1::text and status <> 'completed'",
        order,
        0,
    )
    .await;
    becomes(&house, by_time, thing, 1).await;
    house.close().await;
}

#[tokio::test]
async fn a_shipped_order_releases_what_people_have_reserved_for_it() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 2).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
    let reserve = json!({"quantity": 3, "orderId": order});
    stock(&house, &admin, thing, "reserve", &reserve).await.is(200);
    let path = format!("/v1/orders/{order}");
    send(house.ask(Method::POST, &format!("{path}/confirm")).bearer_auth(&admin)).await.is(200);
    let ship =
        house.post(&format!("{path}/ship"), &json!({"trackingNumber": "1Z9", "carrier": "UPS"}));
    let ship =
        ship.bearer_auth(&admin).header("idempotency-key", "ship").header("prefer", "wait=15");
    send(ship).await.is(200);
    let path = format!("/v1/products/{thing}/inventory");
    let stock = send(house.get(&path).bearer_auth(&admin)).await.is(200).json();
    let stock = &stock["items"][0];
    assert_eq!((&stock["onHand"], &stock["reserved"]), (&json!(48), &json!(0)));
    house.close().await;
}

#[tokio::test]
async fn partners_are_told_once_that_a_stock_is_low_and_once_that_it_is_used_up() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 6).await;
    let engine = &house.door.engine;
    let mut tx = engine.begin().await.expect("begin");
    stock_alert::put_quota(engine, &mut tx).await.expect("a quota");
    tx.commit().await.expect("commit");
    for adjustment in [-2, -1, -3, 6, -2] {
        let body = json!({"adjustment": adjustment, "reason": "sold"});
        stock(&house, &admin, thing, "adjust", &body).await.is(200);
    }
    let key = house.key("service", &["events:read"]).await;
    let answer = house.get("/v1/events/stream").bearer_auth(&key).send().await.expect("a stream");
    let (mut stream, mut said) = (answer.bytes_stream(), String::new());
    let reading = async {
        while said.matches("data:").count() < 3 {
            let chunk = stream.next().await.expect("it goes on").expect("it holds");
            said.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), reading).await.is_ok(), "{said}");
    let told: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
        .collect();
    let low = |n: &str| ("shop.inventory.low-stock.v1".to_owned(), n.to_owned(), json!(4));
    let out = ("shop.inventory.out-of-stock.v1".to_owned(), "0000000002".to_owned(), Value::Null);
    let is: Vec<_> = told
        .iter()
        .map(|event| {
            assert_eq!(event["subject"], json!(thing), "{event}");
            assert_eq!(event["data"]["productName"], "Thing", "{event}");
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            (text("type"), text("sequence"), event["data"]["currentStock"].clone())
        })
        .collect();
    assert_eq!(is, [low("0000000001"), out, low("0000000003")]);
    house.close().await;
}
