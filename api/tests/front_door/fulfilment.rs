//! Orders over HTTP from the confirmation to the delivery, with the sandbox gateway and a worker.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{Answer, House, refusal, send},
    shopper::{Shopper, id, product},
};

async fn command(house: &House, by: &str, order: Uuid, what: &str, body: &Value) -> Answer {
    let request = house
        .ask(Method::POST, &format!("/v1/orders/{order}/{what}"))
        .bearer_auth(by)
        .header("idempotency-key", Uuid::now_v7().to_string())
        .header("prefer", "wait=15");
    send(if body.is_null() { request } else { request.json(body) }).await
}

#[tokio::test]
async fn an_order_is_confirmed_shipped_and_delivered() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 2).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
    let parcel = json!({ "trackingNumber": "1Z999", "carrier": "UPS" });

    let early = command(&house, &admin, order, "ship", &parcel).await;
    assert_eq!(early.problem(), refusal(409, "invalid_status_transition"));
    let unknown = command(&house, &admin, Uuid::now_v7(), "confirm", &Value::Null).await;
    assert_eq!(unknown.problem(), refusal(404, "order_not_found"));
    let confirmed = command(&house, &admin, order, "confirm", &Value::Null).await;
    assert_eq!(confirmed.is(200).json()["status"], "confirmed");
    let blank = json!({ "trackingNumber": " ", "carrier": "UPS" });
    let blank = command(&house, &admin, order, "ship", &blank).await;
    assert_eq!(blank.problem(), refusal(422, "missing_tracking"));
    let absent = command(&house, &admin, order, "ship", &json!({ "carrier": "UPS" })).await;
    assert_eq!(absent.problem(), refusal(422, "missing_field"));

    let shipped = command(&house, &admin, order, "ship", &parcel).await.is(200).json();
    assert_eq!(shipped["status"], "shipped");
    assert_eq!(shipped["payment"]["status"], "captured");
    assert_eq!((&shipped["trackingNumber"], &shipped["carrier"]), (&json!("1Z999"), &json!("UPS")));
    let stock = house.get(&format!("/v1/products/{thing}/inventory")).bearer_auth(&admin);
    let stock = send(stock).await.is(200).json();
    assert_eq!(
        (&stock["items"][0]["onHand"], &stock["items"][0]["reserved"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(shopper.cancel(order, 0).await.problem(), refusal(409, "already_shipped"));
    let delivered = command(&house, &admin, order, "deliver", &Value::Null).await;
    assert_eq!(delivered.is(200).json()["status"], "delivered");
    let seen = shopper.get(&format!("/v1/orders/{order}")).await.is(200).json();
    assert_eq!(seen["status"], "delivered");

    let timeline = format!("/v1/orders/{order}/timeline");
    let items = shopper.get(&timeline).await.is(200).json()["items"].clone();
    let told = |name: &str| -> Vec<String> {
        let items = items.as_array().expect("items").iter();
        items.map(|item| item[name].as_str().expect("a text").to_owned()).collect()
    };
    let events =
        ["PaymentAuthorized", "OrderPlaced", "OrderConfirmed", "OrderShipped", "OrderDelivered"];
    assert_eq!(told("event"), events);
    assert_eq!(told("actor"), ["customer", "customer", "admin", "admin", "admin"]);
    let other = Shopper::new(&house).await;
    assert_eq!(other.get(&timeline).await.problem(), refusal(404, "order_not_found"));
    house.close().await;
}

#[tokio::test]
async fn only_admins_confirm_ship_and_deliver() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let operator = house.key("operator", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 2).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = id(&shopper.place(&body, 15).await.is(201).json()["id"]);
    let parcel = json!({ "trackingNumber": "1Z999", "carrier": "UPS" });
    for (what, body) in [("confirm", &Value::Null), ("ship", &parcel), ("deliver", &Value::Null)] {
        for by in [&operator, &shopper.token] {
            let refused = command(&house, by, order, what, body).await;
            assert_eq!(refused.problem().0, 403, "{what}");
        }
    }
    house.close().await;
}
