//! Many at once, on a real server: last items, crossed locks, cancel against placing.

use super::*;

/// Runs all at once, each on a connection of its own from the pool.
pub(super) async fn all_at_once<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(running.len());
    for task in running {
        results.push(task.await.expect("no task panics"));
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_buyers_of_the_last_item_one_gets_it() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 1).await;
    let buyers = crowd(&shop, &mut db, 100, 0).await.expect("buyers").customers;
    for buyer in &buyers {
        put(&shop, &mut db, buyer, &[(cup, 1)]).await;
    }
    let pool = database.pool().clone();
    let results = all_at_once(buyers.into_iter().map(|buyer| {
        let (shop, pool) = (shop.clone(), pool.clone());
        async move {
            let mut db = pool.acquire().await.expect("a connection");
            place(&shop, &mut db, &ordering(&buyer)).await
        }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(
            matches!(refused, PlaceOrderRefusal::OutOfStock(short) if short[0].available == 0),
            "{refused:?}"
        );
    }
    assert_eq!(stock(&mut db, cup).await, (1, 1, 1));
    let inventory = inventory_of(&mut db, cup).await;
    // One on hand is below the threshold from the start: only the crossing to nothing is told.
    assert_eq!(story(&mut db, inventory).await, ["InventoryReserved", "OutOfStock"]);
    drop(db);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_buyers_cross_each_threshold_once_and_one_alert_follows_from_each() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 10).await;
    let buyers = crowd(&shop, &mut db, 100, 0).await.expect("buyers").customers;
    for buyer in &buyers {
        put(&shop, &mut db, buyer, &[(cup, 1)]).await;
    }
    let pool = database.pool().clone();
    let results = all_at_once(buyers.into_iter().map(|buyer| {
        let (shop, pool) = (shop.clone(), pool.clone());
        async move {
            let mut db = pool.acquire().await.expect("a connection");
            place(&shop, &mut db, &ordering(&buyer)).await
        }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    assert_eq!(stock(&mut db, cup).await, (10, 10, 10));
    let inventory = inventory_of(&mut db, cup).await;
    let mut told = story(&mut db, inventory).await;
    told.retain(|name| name != "InventoryReserved");
    assert_eq!(told, ["LowStockAlert", "OutOfStock"]);
    let alerts: Vec<String> = sqlx::query_scalar(
        "select (state #> '{Waiting,crossing}')::text from saga.instance
         where name = 'stock-alert' and subject = $1 order by saga_id",
    )
    .bind(cup.to_string())
    .fetch_all(&mut *db)
    .await
    .expect("readable");
    assert_eq!(alerts, [r#"{"Low":{"available":4,"threshold":5}}"#, r#""Out""#]);
    drop(db);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_placements_of_one_cart_at_once_make_one_order() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 10).await;
    let buyer = customer(&shop, &mut db).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    let pool = database.pool().clone();
    let results = all_at_once((0..10).map(|_| {
        let (shop, pool, buyer) = (shop.clone(), pool.clone(), buyer.clone());
        async move {
            let mut db = pool.acquire().await.expect("a connection");
            place(&shop, &mut db, &ordering(&buyer)).await
        }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(refused, PlaceOrderRefusal::CheckoutInProgress { .. }), "{refused:?}");
    }
    assert_eq!(stock(&mut db, cup).await, (10, 1, 1));
    drop(db);
    database.close().await;
}

/// Two hundred pairs of orders over the same two products, put into the carts in opposite orders,
/// placed at the same moment; then half completed and half released, crossing cancellations and
/// adjustments of the same stock. Postgres ends a deadlock with 40P01, which is a `Database` error.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orders_whose_products_cross_never_deadlock() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, pan) = (product(&mut db, 1000, 1000).await, product(&mut db, 2000, 1000).await);
    let buyers = crowd(&shop, &mut db, 400, 0).await.expect("buyers").customers;
    for (n, buyer) in buyers.iter().enumerate() {
        let items = if n % 2 == 0 { [(cup, 1), (pan, 1)] } else { [(pan, 1), (cup, 1)] };
        put(&shop, &mut db, buyer, &items).await;
    }
    let pool = database.pool().clone();
    let results =
        all_at_once(
            buyers.into_iter().enumerate().map(|(n, buyer)| {
                let (shop, pool) = (shop.clone(), pool.clone());
                async move {
                    whole_life(&shop, &pool, &buyer, n, if n % 2 == 0 { cup } else { pan }).await
                }
            }),
        )
        .await;
    for result in results {
        result.expect("no deadlock");
    }
    // A quarter stays placed.
    assert_eq!(stock(&mut db, cup).await, (1000, 100, 100));
    assert_eq!(stock(&mut db, pan).await, (1000, 100, 100));
    for product in [cup, pan] {
        let inventory = inventory_of(&mut db, product).await;
        story(&mut db, inventory).await;
    }
    drop(db);
    database.close().await;
}

async fn whole_life(
    shop: &Shop,
    pool: &sqlx::PgPool,
    buyer: &CrowdCustomer,
    n: usize,
    product: Uuid,
) -> Result<(), PlaceOrderRefusal> {
    use crate::inventory::commands::{Item, adjust_inventory};
    let mut db = pool.acquire().await?;
    let placing = place(shop, &mut db, &ordering(buyer)).await?;
    drop(db);
    let order = placing.order_id;
    let mut tx = pool.begin().await?;
    if n % 4 < 2 {
        release(
            &mut ctx(shop, &mut tx),
            order,
            &Ending::Failed(PaymentFailure::ApprovalExpired),
            None,
        )
        .await?;
    } else {
        complete(&mut ctx(shop, &mut tx), order, &authorized(&placing)).await?;
    }
    tx.commit().await?;
    let mut tx = pool.begin().await?;
    match n % 4 {
        2 => {
            cancel::begin(&mut ctx(shop, &mut tx), &cancelling(order, buyer))
                .await
                .expect("cancelled");
        }
        0 => {
            let item = Item { product_id: product, variant_id: None };
            for delta in [1, -1] {
                adjust_inventory(&mut ctx(shop, &mut tx), item, delta, "counted")
                    .await
                    .expect("adjusted");
            }
        }
        _ => {}
    }
    Ok(tx.commit().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelling_and_completing_at_once_are_decided_one_after_the_other() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 1000).await;
    let buyers = crowd(&shop, &mut db, 40, 0).await.expect("buyers").customers;
    for buyer in buyers {
        put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
        let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
        let pool = database.pool().clone();
        let completing = {
            let (pool, shop) = (pool.clone(), std::sync::Arc::clone(&shop));
            tokio::spawn(async move {
                let mut tx = pool.begin().await.expect("a transaction");
                let done =
                    complete(&mut ctx(&shop, &mut tx), placing.order_id, &authorized(&placing))
                        .await;
                tx.commit().await.expect("committed");
                done
            })
        };
        let cancelled = {
            let mut tx = pool.begin().await.expect("a transaction");
            let begun =
                cancel::begin(&mut ctx(&shop, &mut tx), &cancelling(placing.order_id, &buyer))
                    .await;
            tx.commit().await.expect("committed");
            begun.expect("not refused")
        };
        let completed = completing.await.expect("no panic").expect("no deadlock");
        assert_eq!(completed, Completion::Placed);
        let status = view(&shop, &mut db, placing.order_id).await.status;
        match cancelled {
            Cancelling::SignalPlacement => assert_eq!(status, "pending"),
            Cancelling::Refund(_) => assert_eq!(status, "cancelled"),
            Cancelling::AlreadyCancelled => panic!("nobody cancelled before"),
        }
    }
    drop(db);
    database.close().await;
}
