//! Erasing customers over HTTP, with the sandbox gateway, a worker and a relay.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use stepwise::door::{DoorSettings, limits::Rates};
use stepwise_engine::testing::Clock;
use stepwise_workflows::erasure::{
    certificate::{Certificate, Checked, check},
    tax,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    cli::run,
    house::{Answer, GATEWAY_KEY, House, refusal, send},
    paypal::Checkout,
    shopper::{Shopper, id, product},
};

/// The texts in personal fields. They occur nowhere else.
const RECIPIENT: &str = "Quetzalcoatlus";
const STREET: &str = "Yggdrasil";
const REASON: &str = "Xylophonist";

/// Asks to be erased, waiting `wait` seconds for the end.
async fn erase(shopper: &Shopper<'_>, wait: u8) -> Answer {
    let request = shopper.ask(Method::POST, "/v1/customers/{me}/erasure");
    let request = request.header("prefer", format!("wait={wait}"));
    send(request.json(&json!({ "confirmation": true }))).await
}

/// Does something with an order, as an admin.
async fn command(house: &House, admin: &str, order: Uuid, what: &str, body: &Value) -> Answer {
    let request = house.ask(Method::POST, &format!("/v1/orders/{order}/{what}"));
    let request = request.bearer_auth(admin).header("idempotency-key", Uuid::now_v7().to_string());
    let request = request.header("prefer", "wait=15");
    send(if body.is_null() { request } else { request.json(body) }).await
}

/// A placed order of somebody who lives at an address that occurs nowhere else.
async fn placed(shopper: &Shopper<'_>, thing: Uuid) -> Uuid {
    let home = json!({
        "recipientName": RECIPIENT, "street": STREET, "city": "San Francisco", "state": "CA",
        "postalCode": "94103", "country": "US",
    });
    // The answer is stored under the key.
    let request = shopper.ask(Method::POST, "/v1/customers/{me}/addresses").json(&home);
    let request = request.header("idempotency-key", Uuid::now_v7().to_string());
    let home = send(request).await.is(201).json();
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(id(&home["id"]), shopper.method("ok").await);
    id(&shopper.place(&body, 15).await.is(201).json()["id"])
}

async fn delivered(shopper: &Shopper<'_>, admin: &str, thing: Uuid) -> Uuid {
    let (house, order) = (shopper.house, placed(shopper, thing).await);
    command(house, admin, order, "confirm", &Value::Null).await.is(200);
    let parcel = json!({ "trackingNumber": "1Z999", "carrier": "UPS" });
    command(house, admin, order, "ship", &parcel).await.is(200);
    command(house, admin, order, "deliver", &Value::Null).await.is(200);
    order
}

/// The tables of the shop and of the engine in which some row, as text, contains this.
async fn tables_with(house: &House, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('shop', 'saga') and c.relkind in ('r', 'p') order by 1",
    )
    .fetch_all(house.database.pool())
    .await
    .expect("readable");
    let mut found = Vec::new();
    for table in tables {
        let query =
            format!("select exists (select from {table} t where t::text ilike '%' || $1 || '%')");
        let has: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(text)
            .fetch_one(house.database.pool())
            .await
            .expect("readable");
        if has {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn an_erasure_must_be_confirmed_by_the_customer_whose_orders_are_over() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let (shopper, other) = (Shopper::new(&house).await, Shopper::new(&house).await);
    let path = "/v1/customers/{me}/erasure";
    let unconfirmed = shopper.post(path, &json!({ "confirmation": false })).await;
    assert_eq!(unconfirmed.problem(), refusal(422, "confirmation_required"));
    assert_eq!(unconfirmed.json()["errors"][0]["pointer"], "/confirmation");
    let nothing = shopper.post(path, &json!({})).await;
    assert_eq!(nothing.problem(), refusal(422, "missing_field"));
    let yes = json!({ "confirmation": true });
    let theirs = format!("/v1/customers/{}/erasure", other.id);
    let unknown = format!("/v1/customers/{}/erasure", Uuid::now_v7());
    for path in [theirs, unknown] {
        assert_eq!(shopper.post(&path, &yes).await.problem(), refusal(404, "customer_not_found"));
    }
    let order = placed(&shopper, thing).await;
    let open = shopper.post(path, &yes).await;
    assert_eq!(open.problem(), refusal(409, "pending_orders_exist"));
    command(&house, &admin, order, "confirm", &Value::Null).await.is(200);
    assert_eq!(shopper.post(path, &yes).await.problem(), refusal(409, "pending_orders_exist"));
    for shopper in [shopper, other] {
        shopper.get("/v1/me").await.is(200);
    }
    house.close().await;
}

#[tokio::test]
async fn nothing_personal_is_left_of_an_erased_customer_but_the_tax_record() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let (shopper, other) = (Shopper::new(&house).await, Shopper::new(&house).await);
    let cancelled = placed(&shopper, thing).await;
    let cancel = shopper.ask(Method::POST, &format!("/v1/orders/{cancelled}/cancel"));
    let cancel = cancel.header("idempotency-key", "cancel").header("prefer", "wait=15");
    send(cancel.json(&json!({ "reason": REASON }))).await.is(200);
    let order = delivered(&shopper, &admin, thing).await;
    shopper.add(thing, 1).await.is(200);
    for (text, table) in [
        (shopper.email.as_str(), "shop.customer"),
        (STREET, "shop.shipping_address"),
        (RECIPIENT, "shop.shipping_address"),
    ] {
        assert_eq!(tables_with(&house, text).await, [table], "{text} is plain there only");
    }
    assert_eq!(tables_with(&house, REASON).await, Vec::<String>::new(), "it is sealed everywhere");

    let ended = erase(&shopper, 30).await.is(200).json();
    let anonymized = id(&ended["anonymizedId"]);
    assert!(ended["erasedAt"].is_string(), "{ended}");
    for text in [shopper.email.as_str(), STREET, RECIPIENT, REASON] {
        assert_eq!(tables_with(&house, text).await, Vec::<String>::new(), "{text}");
    }
    assert_eq!(shopper.get("/v1/me").await.problem(), refusal(401, "token_invalid"));
    let log_in = json!({ "email": shopper.email, "password": crate::shopper::PASSWORD });
    let refused = send(house.post("/v1/sessions", &log_in)).await;
    assert_eq!(refused.problem(), refusal(401, "invalid_credentials"));
    assert!(house.mail.last_to(&shopper.email).is_none(), "mails are deleted");
    let link = format!("/v1/orders/{order}");
    assert_eq!(other.get(&link).await.problem(), refusal(404, "order_not_found"));
    let shown = send(house.get(&link).bearer_auth(&admin)).await.is(200).json();
    assert_eq!(shown["customerId"], json!(anonymized));
    assert_eq!(shown["totalAmount"]["currency"], "USD");
    assert!(shown.get("shippingAddress").is_none(), "{shown}");

    let (db, keys) = (house.database.pool(), &house.door.shop.keys);
    let record = tax::read_record(db, &**keys, order).await.expect("it is there");
    assert_eq!(record.expect("readable").street, STREET);
    let none = tax::read_record(db, &**keys, cancelled).await;
    assert!(none.is_err(), "an order that was not paid has no tax record: {none:?}");
    assert!(matches!(check(db).await.expect("readable"), Checked::Sound { certificates: 1, .. }));
    let text: String = sqlx::query_scalar("select certificate from shop.erasure_certificate")
        .fetch_one(db)
        .await
        .expect("one certificate");
    assert!(!text.contains(&shopper.id.to_string()), "{text}");
    let certificate: Certificate = serde_json::from_str(&text).expect("as it was written");
    let count = |store: &str| certificate.stores.iter().find(|count| count.store == store);
    let addresses = count("shop.shipping_address").expect("counted");
    assert_eq!((addresses.found, addresses.deleted, addresses.kept), (2, 2, 0));
    assert_eq!(count("shop.order").expect("counted").kept, 2);
    assert_eq!(certificate.unpublished_messages, 0);

    Clock::of(db).advance(Duration::from_secs(3_660 * 24 * 3_600)).await;
    tax::end_retention(db, &**keys).await.expect("destroyed");
    let record = tax::read_record(db, &**keys, order).await.expect("it is there");
    assert_eq!(record, None, "the statutory time is over");
    house.close().await;
}

#[tokio::test]
async fn attempts_to_log_in_are_exported_and_erased_with_the_customer() {
    let rates = Rates { attempts_per_minute: 10_000, ..Rates::OFF };
    let house = House::open_working_as(DoorSettings { rates, ..DoorSettings::default() }).await;
    let (shopper, other) = (Shopper::new(&house).await, Shopper::new(&house).await);
    let wrong = json!({ "email": shopper.email, "password": "a guess that is wrong" });
    send(house.post("/v1/sessions", &wrong)).await.is(401);
    let change =
        json!({ "currentPassword": "a wrong guess", "newPassword": "harbour lanterns drift" });
    let change = shopper.ask(Method::POST, "/v1/customers/{me}/password").json(&change);
    send(change).await.is(422);
    let path = format!("/v1/customers/{}/export", shopper.id);
    let export = shopper.get(&path).await.is(200).json();
    let attempts = export["logInAttempts"].as_array().expect("a list");
    let succeeded = attempts.iter().filter(|attempt| attempt["succeededAt"].is_string()).count();
    assert_eq!((attempts.len(), succeeded), (4, 1), "{export}");

    let rows = async || -> i64 {
        let count = "select count(*) from shop.log_in_attempt";
        sqlx::query_scalar(count).fetch_one(house.database.pool()).await.expect("readable")
    };
    let before = rows().await;
    erase(&shopper, 30).await.is(200);
    assert_eq!(rows().await, before - 4);
    other.get("/v1/me").await.is(200);
    let text: String = sqlx::query_scalar("select certificate from shop.erasure_certificate")
        .fetch_one(house.database.pool())
        .await
        .expect("one certificate");
    let certificate: Certificate = serde_json::from_str(&text).expect("as it was written");
    let counted = certificate.stores.iter().find(|count| count.store == "shop.log_in_attempt");
    assert_eq!(counted.map(|count| (count.found, count.deleted)), Some((4, 4)));
    house.close().await;
}

#[tokio::test]
async fn partners_are_told_that_a_customer_is_erased_and_the_session_ends_at_once() {
    let house = House::open_working().await;
    let service = house.key("service", &["events:read"]).await;
    let shopper = Shopper::unverified(&house).await;
    shopper.get("/v1/me").await.is(200);
    let accepted = erase(&shopper, 0).await.is(202).json();
    assert_eq!(
        (&accepted["kind"], &accepted["subject"]),
        (&json!("gdpr-erasure"), &json!(shopper.id))
    );
    let since = Instant::now();
    while shopper.get("/v1/me").await.status != 401 {
        assert!(since.elapsed() < Duration::from_secs(2), "the token is still valid");
        sleep(Duration::from_millis(20)).await;
    }
    let mut stream =
        house.get("/v1/events/stream").bearer_auth(&service).send().await.expect("it answers");
    let mut text = String::new();
    let told = async {
        while !text.contains("shop.customer.erased.v1") || !text.contains("erasedAt") {
            let chunk = stream.chunk().await.expect("it goes on").expect("it goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("partners are told");
    assert!(text.contains(&format!("\"subject\":\"{}\"", shopper.id)), "{text}");
    house.close().await;
}

#[tokio::test]
async fn asking_twice_at_once_is_one_erasure() {
    let house = House::open_working().await;
    let shopper = Shopper::new(&house).await;
    let (one, two) = tokio::join!(erase(&shopper, 0), erase(&shopper, 0));
    let ids: Vec<Value> = [one, two]
        .iter()
        .filter(|answer| answer.status != 401)
        .map(|answer| answer.is(202).json()["id"].clone())
        .collect();
    assert!(!ids.is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let erasures: i64 =
        sqlx::query_scalar("select count(*) from saga.instance where name = 'gdpr-erasure'")
            .fetch_one(house.database.pool())
            .await
            .expect("readable");
    assert_eq!(erasures, 1);
    house.close().await;
}

/// Either the order is being placed and the erasure is refused, or the account is frozen and the order is refused.
#[tokio::test]
async fn an_order_and_an_erasure_at_the_same_moment_are_decided_by_the_customers_lock() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let (mut ordered, mut erased) = (0, 0);
    for _ in 0..8 {
        let shopper = Shopper::new(&house).await;
        let (address, method) = (shopper.address().await, shopper.method("ok").await);
        shopper.add(thing, 1).await.is(200);
        let body = shopper.order(address, method);
        let (order, erasure) = tokio::join!(shopper.place(&body, 0), erase(&shopper, 0));
        match (order.status, erasure.status) {
            (202, 409) => ordered += 1,
            (401 | 404, 202) => erased += 1,
            other => panic!("{other:?}: {} {}", order.text, erasure.text),
        }
    }
    assert_eq!(ordered + erased, 8);
    house.close().await;
}

#[tokio::test]
async fn a_customer_exports_everything_the_shop_holds_of_them_and_each_export_is_noted() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 9).await;
    let (shopper, other) = (Shopper::new(&house).await, Shopper::new(&house).await);
    let order = placed(&shopper, thing).await;
    shopper.add(thing, 1).await.is(200);
    let path = format!("/v1/customers/{}/export", shopper.id);
    assert_eq!(other.get(&path).await.problem(), refusal(404, "customer_not_found"));
    let export = shopper.get(&path).await.is(200).json();
    assert_eq!(export["customer"]["email"], json!(shopper.email));
    assert_eq!(export["addresses"][0]["street"], STREET);
    assert_eq!(export["paymentMethods"][0]["last4"], "4242");
    assert_eq!(export["carts"][0]["items"][0]["quantity"], 1);
    assert_eq!((&export["orders"][0]["id"], &export["isComplete"]), (&json!(order), &json!(true)));
    assert_eq!(export["orders"][0]["shippingAddress"]["recipientName"], RECIPIENT);
    let events = export["events"].as_array().expect("a list");
    let registered = events.iter().find(|event| event["event"] == "CustomerRegistered");
    assert_eq!(registered.expect("it happened")["payload"]["email"], json!(shopper.email));
    let text = export.to_string();
    for secret in ["pm_sandbox", "argon2", "sealed", other.email.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(export["exports"], json!([]));
    let again = shopper.get(&path).await.is(200).json();
    assert_eq!(again["exports"].as_array().map(Vec::len), Some(1));
    house.close().await;
}

/// The rows of a customer in one table as a backup has them, as JSON.
async fn backup(house: &House, table: &str, customer: Uuid) -> Value {
    let query =
        format!("select coalesce(jsonb_agg(t), '[]') from {table} t where customer_id = $1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .bind(customer)
        .fetch_one(house.database.pool())
        .await
        .expect("readable")
}

async fn restore(house: &House, table: &str, rows: &Value) {
    let query =
        format!("insert into {table} select * from jsonb_populate_recordset(null::{table}, $1)");
    sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(rows)
        .execute(house.database.pool())
        .await
        .expect("restored");
}

/// Fault: outside: the database is restored from a backup that is older than an erasure
/// Customer: stays erased: the account is frozen and unreadable before the shop goes live
/// Operator: `stepwise erasure replay` names each customer that it erases again
/// Within: at once
/// Ends: when the workers have deleted the rows
#[tokio::test]
async fn whoever_an_older_backup_brings_back_is_erased_again_before_the_shop_goes_live() {
    let house = House::open_working().await;
    let shopper = Shopper::new(&house).await;
    shopper.address().await;
    let tables = ["shop.customer", "shop.shipping_address"];
    let mut rows = Vec::new();
    for table in tables {
        rows.push(backup(&house, table, shopper.id).await);
    }
    erase(&shopper, 30).await.is(200);
    for statement in [
        "delete from shop.erasure where customer_id = $1",
        "delete from shop.customer where customer_id = $1",
    ] {
        let deleted = sqlx::query(statement).bind(shopper.id).execute(house.database.pool()).await;
        deleted.expect("the backup knows nothing of the erasure");
    }
    for (table, rows) in tables.iter().zip(&rows) {
        restore(&house, table, rows).await;
    }
    assert_eq!(tables_with(&house, &shopper.email).await, ["shop.customer"], "it is back");

    let url = house.database.url();
    let environment = [
        ("STEPWISE_DATABASE_URL", url.as_str()),
        ("STEPWISE_GATEWAY_URL", &house.gateway),
        ("STEPWISE_GATEWAY_KEY", GATEWAY_KEY),
    ];
    let (code, out, err) = run(&house.folder, &["erasure", "replay"], &environment).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains(&shopper.id.to_string()) && out.contains("1 erased again"), "{out}");
    let since = Instant::now();
    while !tables_with(&house, &shopper.email).await.is_empty() {
        assert!(since.elapsed() < Duration::from_secs(30), "the rows are there still");
        sleep(Duration::from_millis(50)).await;
    }
    let (code, out, err) = run(&house.folder, &["erasure", "replay"], &environment).await;
    assert_eq!((code, out.contains("0 erased again")), (0, true), "{out}{err}");
    let (code, out, err) = run(&house.folder, &["erasure", "check"], &environment).await;
    assert_eq!((code, out.starts_with("2 certificates")), (0, true), "{out}{err}");
    let (_, out, _) = run(&house.folder, &["erasure", "log"], &environment).await;
    assert_eq!((out.lines().count(), out.contains(&shopper.id.to_string())), (1, true), "{out}");

    // Somebody with the rights of the database's owner changes a certificate.
    for statement in [
        "alter table shop.erasure_certificate disable trigger all",
        "update shop.erasure_certificate set certificate = certificate || ' ' where n = 1",
    ] {
        sqlx::query(statement).execute(house.database.pool()).await.expect("forged");
    }
    let (code, _, err) = run(&house.folder, &["erasure", "check"], &environment).await;
    assert_eq!((code, err.contains("certificate 1 does not follow")), (1, true), "{err}");
    house.shut().await;
}

/// Fault: gateway: it is away while a customer with a running refund is erased
/// Customer: the account is frozen at once; the operation of the erasure goes on running
/// Operator: the saga `gdpr-erasure` waits in `AwaitingOthers`
/// Within: 1 s
/// Ends: by itself, when the refund has ended
#[tokio::test]
async fn an_erasure_waits_for_money_that_is_being_given_back() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let order = delivered(&shopper, &admin, thing).await;
    house.outside("/sandbox/down", &[]).await.is(204);
    let refund = json!({ "orderId": order, "amount": { "amount": "1.00", "currency": "USD" } });
    let request = house.post("/v1/payments/refunds", &refund).bearer_auth(&admin);
    send(request.header("idempotency-key", "refund")).await.is(202);
    let operation = id(&erase(&shopper, 0).await.is(202).json()["id"]);
    let state = async || -> String {
        sqlx::query_scalar("select state::text from saga.instance where saga_id = $1")
            .bind(operation)
            .fetch_one(house.database.pool())
            .await
            .expect("it is there")
    };
    let since = Instant::now();
    while !state().await.contains("AwaitingOthers") {
        assert!(since.elapsed() < Duration::from_secs(10), "{}", state().await);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!tables_with(&house, &shopper.email).await.is_empty(), "nothing is deleted yet");
    house.outside("/sandbox/up", &[]).await.is(204);
    let since = Instant::now();
    while !state().await.contains("Erased") {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", state().await);
        sleep(Duration::from_millis(50)).await;
    }
    let refunded: String =
        sqlx::query_scalar("select refunded_amount::text from shop.payment where order_id = $1")
            .bind(order)
            .fetch_one(house.database.pool())
            .await
            .expect("the payment");
    assert_eq!(refunded, "1.000");
    house.close().await;
}

#[tokio::test]
async fn an_approval_that_sleeps_for_an_erased_customer_is_called_off() {
    let house = House::open_working().await;
    let checkout = Checkout::new(&house).await;
    let opened = checkout.opened().await;
    erase(&checkout.shopper, 30).await.is(200);
    let (status, methods): (String, i64) = sqlx::query_as(
        "select status, (select count(*) from shop.payment_method where customer_id = $2)
         from saga.instance where saga_id = $1",
    )
    .bind(opened.operation)
    .bind(checkout.shopper.id)
    .fetch_one(house.database.pool())
    .await
    .expect("it is there");
    assert_eq!((status.as_str(), methods), ("unwound", 0));
    house.close().await;
}
