use std::time::{Duration, Instant};

use super::*;
use crate::{customer::session, testing};

#[tokio::test]
async fn the_demo_shop_is_ready_to_order_from_and_seeding_again_changes_nothing() {
    let (database, shop) = (testing::database().await, testing::shop());
    let mut connection = database.pool().acquire().await.expect("a connection");
    let started = Instant::now();
    let first = demo(&shop, &mut connection).await.expect("it seeds");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(first.product_ids.len() >= 20);
    assert_eq!(first.customers.len(), 50);
    for customer in &first.customers {
        let methods: Vec<&str> = customer.payment_methods.keys().map(String::as_str).collect();
        let mut wanted = DEMO_METHODS;
        wanted.sort_unstable();
        assert_eq!(methods, wanted);
        assert!(shop.keys.get(customer.customer_id).await.expect("readable").is_some());
    }
    let again = demo(&shop, &mut connection).await.expect("it seeds again");
    assert_eq!(again.product_ids, first.product_ids);
    for (before, after) in first.customers.iter().zip(&again.customers) {
        assert_eq!(before.customer_id, after.customer_id);
        assert_eq!(before.shipping_address_id, after.shipping_address_id);
        assert_eq!(before.payment_methods, after.payment_methods);
        for token in [&before.token, &after.token] {
            let of: Uuid = sqlx::query_scalar(
                "select customer_id from shop.session where token_hash = $1 and expires_at > saga.now()",
            )
            .bind(token.hash())
            .fetch_one(&mut *connection)
            .await
            .expect("it has a session");
            assert_eq!(of, before.customer_id);
        }
    }
    drop(connection);
    database.close().await;
}

#[tokio::test]
async fn a_demo_customer_logs_in_with_the_demo_password() {
    let (database, shop) = (testing::database().await, testing::shop());
    let mut connection = database.pool().acquire().await.expect("a connection");
    let demo = demo(&shop, &mut connection).await.expect("it seeds");
    let customer = &demo.customers[0];
    let account = session::look_up(&mut *connection, &customer.email, None).await.expect("asked");
    let proven = account.check(&shop, DEMO_PASSWORD).await.expect("that is the password");
    let opened = session::open(&shop, &mut connection, proven, &session::Device::default()).await;
    let opened = opened.expect("logged in");
    assert_eq!(opened.customer_id, customer.customer_id);
    drop(connection);
    database.close().await;
}

#[tokio::test]
async fn a_crowds_carts_are_refilled_only_where_they_are_empty() {
    let (database, shop) = (testing::database().await, testing::shop());
    let mut connection = database.pool().acquire().await.expect("a connection");
    let crowd = bulk::crowd(&shop, &mut connection, 1000, 1000).await.expect("it seeds");
    let ids: Vec<Uuid> = crowd.customers.iter().map(|customer| customer.customer_id).collect();
    let mut refill = async || {
        bulk::refill_carts(&mut connection, &ids, &crowd.product_ids, 3).await.expect("refilled")
    };
    assert_eq!(refill().await, 1000);
    assert_eq!(refill().await, 0);
    let cart = crate::cart::get_cart(&shop, &mut connection, ids[0])
        .await
        .expect("read")
        .expect("there is one");
    assert_eq!(cart.items.len(), 3);
    drop(connection);
    database.close().await;
}
