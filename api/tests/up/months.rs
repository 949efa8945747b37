//! Months in the life of a shop, whose business clock a test moves: a cart is abandoned, stock runs low, a customer leaves.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::testing::Clock;

use crate::site::{Site, Up, eventually};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

/// How many domain events have this name.
async fn happened(db: &PgPool, name: &str) -> i64 {
    let count = sqlx::query_scalar("select count(*) from shop.domain_event where name = $1");
    count.bind(name).fetch_one(db).await.expect("it can be read")
}

/// How many messages of this type partners can read.
async fn told(db: &PgPool, kind: &str) -> i64 {
    let count = sqlx::query_scalar("select count(*) from saga.feed where kind = $1");
    count.bind(kind).fetch_one(db).await.expect("it can be read")
}

/// The second customer wants to be erased while an order of theirs is being placed, and is erased once that has ended.
async fn a_customer_leaves(site: &Site, up: &Up, db: &PgPool) {
    let (order, operation, token) = up.order_as(1, "slow").await;
    let customer = text(&up.demo["customers"][1]["customerId"]);
    let (erasure, yes) =
        (format!("/v1/customers/{customer}/erasure"), json!({ "confirmation": true }));
    let (status, refused) = up.post(&token, &erasure, &yes).await;
    assert_eq!((status, &refused["code"]), (409, &json!("pending_orders_exist")), "{refused}");
    up.succeeded(&token, &operation).await;
    let why = json!({ "reason": "moving away" });
    let (status, begun) = up.post(&token, &format!("/v1/orders/{order}/cancel"), &why).await;
    assert_eq!(status, 202, "{begun}");
    up.succeeded(&token, &text(&begun["id"])).await;
    let (status, begun) = up.post(&token, &erasure, &yes).await;
    assert_eq!(status, 202, "{begun}");
    up.succeeded(&up.token("operator"), &text(&begun["id"])).await;
    assert_eq!(happened(db, "CustomerDataErased").await, 1);
    eventually("partners to be told", async || told(db, "shop.customer.erased.v1").await == 1)
        .await;
    let log: Vec<String> = sqlx::query_scalar("select certificate from shop.erasure_certificate")
        .fetch_all(db)
        .await
        .expect("it can be read");
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(!log[0].contains(&customer), "a certificate names nobody: {}", log[0]);
    let checked = site.command(&["erasure", "check"]).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains('1'), "{said}");
}

#[tokio::test]
async fn months_pass_in_which_a_cart_expires_stock_runs_low_and_a_customer_leaves() {
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0"]).await;
    let db = PgPool::connect(&text(&up.demo["databaseUrl"])).await.expect("connected");
    a_customer_leaves(&site, &up, &db).await;

    let (admin, product) = (up.token("admin"), text(&up.demo["productIds"][2]));
    let path = format!("/v1/products/{product}/inventory");
    let (status, stock) = up.get(&admin, &path).await;
    assert_eq!(status, 200, "{stock}");
    let fewer = 3 - stock["items"][0]["available"].as_i64().expect("a number");
    let change = json!({ "adjustment": fewer, "reason": "counted" });
    for body in [change, json!({ "adjustment": -1, "reason": "broken" })] {
        let (status, stock) = up.post(&admin, &format!("{path}/adjust"), &body).await;
        assert_eq!(status, 200, "{stock}");
    }
    eventually("low stock to be told", async || told(&db, "shop.inventory.low-stock.v1").await > 0)
        .await;
    assert_eq!(happened(&db, "LowStockAlert").await, 1, "once a crossing");

    let customer = &up.demo["customers"][0];
    let items = format!("/v1/customers/{}/cart/items", text(&customer["customerId"]));
    let item = json!({ "productId": up.demo["productIds"][0], "quantity": 1 });
    let (status, cart) = up.post(&text(&customer["token"]), &items, &item).await;
    assert_eq!(status, 200, "{cart}");
    let clock = Clock::of(&db);
    clock.advance(29 * DAY).await;
    assert_eq!(happened(&db, "CartExpired").await, 0, "it may be left alone for 30 days");
    clock.advance(2 * DAY).await;
    eventually("the cart to expire", async || happened(&db, "CartExpired").await == 1).await;
    db.close().await;
    assert!(up.stop("TERM").await.success());
}
