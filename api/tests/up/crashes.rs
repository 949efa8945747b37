//! Killed without warning, it goes on where it was.

use std::sync::Arc;

use serde_json::{Value, json};
use stepwise_adapters::{
    gateway::{GatewayConfig, StripeGateway},
    keystore::FileKeyStore,
    mail::FileMailer,
};
use stepwise_workflows::{
    Config, Shop,
    cart::{AddItem, add_item},
};
use uuid::Uuid;

use crate::site::{Site, Up, eventually, kill};

#[tokio::test]
async fn an_order_in_flight_survives_a_kill_of_the_whole_group() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let (order, operation, token) = order(&site, &up, "timeoutAfter").await;
    // The gateway acts and never answers: whether money moved is unknown at the kill.
    let confirmed = || {
        site.ledger()
            .iter()
            .filter(|line| line["orderId"] == order && line["op"] == "confirm")
            .count()
    };
    eventually("the gateway to be asked", async || confirmed() == 1).await;
    up.kill_group().await;

    let up = site.up(&[]).await;
    let path = format!("/v1/operations/{operation}");
    eventually("the order to be settled", async || {
        let (status, operation) = up.get(&token, &path).await;
        assert_eq!(status, 200, "{operation}");
        assert_ne!(operation["status"], "failed", "{operation}");
        operation["status"] == "succeeded"
    })
    .await;
    let (_, settled) = up.get(&token, &format!("/v1/orders/{order}")).await;
    assert_eq!(settled["status"], "pending", "{settled}");
    assert_eq!(confirmed(), 1, "charged once: {:?}", site.ledger());
    assert!(up.stop("TERM").await.success());
}

#[tokio::test]
async fn killed_at_any_moment_of_its_start_it_starts_again() {
    let site = Site::new();
    for moment_ms in [5_u64, 40, 150, 400, 900, 1_500] {
        let mut child = site.command(&["up", "--port", "0", "--no-demo"]);
        let log = std::fs::File::create(site.data.with_extension("killed")).expect("writable");
        let mut child = child.stderr(log).spawn().expect("the binary starts");
        tokio::time::sleep(std::time::Duration::from_millis(moment_ms)).await;
        kill("KILL", &format!("-{}", child.id().expect("not waited for")));
        child.wait().await.expect("it was ours");
    }
    let up = site.up(&[]).await;
    assert_eq!(up.get("", "/readyz").await.0, 200);
    assert!(up.stop("TERM").await.success());
    assert_eq!(site.processes(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_gateway_that_dies_is_replaced_with_its_book() {
    let site = Site::new();
    let up = site.up(&[]).await;
    let (_, operation, token) = order(&site, &up, "ok").await;
    let path = format!("/v1/operations/{operation}");
    let succeeded = async || up.get(&token, &path).await.1["status"] == "succeeded";
    eventually("the first order", succeeded).await;
    let (pid, booked) = (site.gateway_pid(), site.ledger());
    kill("KILL", &pid.to_string());
    eventually("another gateway", async || site.gateway_pid() != pid).await;
    assert_eq!(site.ledger(), booked);

    let (_, operation, token) = order(&site, &up, "ok").await;
    let path = format!("/v1/operations/{operation}");
    let succeeded = async || up.get(&token, &path).await.1["status"] == "succeeded";
    eventually("the second order", succeeded).await;
    assert!(up.stop("TERM").await.success());
}

/// Places an order of one thing. Answers the order, the operation and the customer's token.
async fn order(site: &Site, up: &Up, method: &str) -> (String, String, String) {
    let customer = &up.demo["customers"][0];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let id = |value: &Value| text(value).parse::<Uuid>().expect("an id");
    let token = text(&customer["token"]);
    put_into_cart(site, up, id(&customer["customerId"]), id(&up.demo["productIds"][0])).await;
    let body = json!({
        "customerId": customer["customerId"],
        "shippingAddressId": customer["shippingAddressId"],
        "paymentMethodId": customer["paymentMethods"][method],
    });
    let (status, begun) = up.post(&token, "/v1/orders", &body).await;
    assert_eq!(status, 202, "{begun}");
    (text(&begun["subject"]), text(&begun["id"]), token)
}

async fn put_into_cart(site: &Site, up: &Up, customer_id: Uuid, product_id: Uuid) {
    let keys = FileKeyStore::open(&site.data.join("keys")).expect("the same keys");
    let mailer = FileMailer::new(&site.data.join("mail")).expect("writable");
    let nowhere = "http://127.0.0.1:9".parse().expect("an address");
    let gateway = StripeGateway::new(GatewayConfig::new(nowhere, "none".into())).expect("a client");
    let shop = Shop::new(Config::default(), Arc::new(keys), Arc::new(gateway), Arc::new(mailer));
    let url = up.demo["databaseUrl"].as_str().expect("a text");
    let pool = sqlx::PgPool::connect(url).await.expect("the address in the file is right");
    let mut tx = pool.begin().await.expect("a transaction");
    let item = AddItem { customer_id, product_id, variant_id: None, quantity: 1 };
    add_item(&shop, &mut tx, &item).await.expect("it is in stock");
    tx.commit().await.expect("committed");
    pool.close().await;
}
