//! Orders of the same products at the same time. A command that loses a race against other transactions is run again, and the client
//! does not notice.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, future::join_all, stream};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use stepwise_workflows::seed::bulk::{Crowd, CrowdCustomer, crowd};

use crate::{
    house::{House, refusal, send},
    shopper::{Shopper, product},
};

/// The number of pairs of customers, unless `STEPWISE_PAIRS` is set. Both order the same two products, with the lines in opposite
/// sequence.
const PAIRS: usize = 100;

/// The number of requests at the same time: as many as the front door has connections.
const ABREAST: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_of_orders_whose_products_cross_are_all_accepted_without_a_deadlock() {
    let pairs =
        std::env::var("STEPWISE_PAIRS").map_or(PAIRS, |text| text.parse().expect("a number"));
    let house = House::open_working().await;
    let pool = house.database.pool();
    let mut tx = pool.begin().await.expect("begin");
    let crowd = crowd(&house.door.shop, &mut tx, 2 * pairs, 2).await;
    let Crowd { customers, product_ids } = crowd.expect("a crowd");
    let crossed = [product_ids.clone(), product_ids.iter().rev().copied().collect()];
    for (half, products) in customers.chunks(pairs).zip(crossed) {
        fill(&mut tx, half, &products).await;
    }
    tx.commit().await.expect("commit");
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    // Pair the first with the last, so that neighbours have opposite sequences.
    let (one, other) = customers.split_at(pairs);
    let asked = stream::iter(one.iter().zip(other).flat_map(|(one, other)| [one, other]));
    let answers: Vec<String> =
        asked.map(|who| order(&house, who)).buffered(ABREAST).collect().await;
    let refused: Vec<&String> = answers.iter().filter(|answer| !answer.is_empty()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let open =
        "select count(*) from saga.instance where status <> 'completed' and name <> 'cart-expiry'";
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while sqlx::query_scalar::<_, i64>(open).fetch_one(pool).await.expect("readable") > 0 {
        assert!(tokio::time::Instant::now() < patience, "not every order was placed in time");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let stock: Vec<(i32, i32)> =
        sqlx::query_as("select 1000000 - on_hand, reserved from shop.inventory")
            .fetch_all(pool)
            .await
            .expect("readable");
    let reserved = i32::try_from(2 * pairs).expect("a small number");
    assert_eq!(stock, [(0, reserved); 2]);
    // A backend reports its deadlocks when it ends.
    house.door.db.close().await;
    let deadlocks: i64 = sqlx::query_scalar(deadlocks).fetch_one(pool).await.expect("readable");
    assert_eq!(deadlocks, 0, "retried, but they happened");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_buyers_of_the_last_item_at_once_one_orders_it_and_the_others_are_told() {
    let house = House::open_working().await;
    let pool = house.database.pool();
    let mut tx = pool.begin().await.expect("begin");
    let crowd = crowd(&house.door.shop, &mut tx, 100, 1).await;
    let Crowd { customers, product_ids } = crowd.expect("a crowd");
    fill(&mut tx, &customers, &product_ids).await;
    let one = "update shop.inventory set on_hand = 1";
    sqlx::query(one).execute(&mut *tx).await.expect("the last item");
    tx.commit().await.expect("commit");
    let asked = customers.iter().map(async |who| {
        let since = Instant::now();
        (order(&house, who).await, since.elapsed())
    });
    let answers: Vec<(String, Duration)> = join_all(asked).await;
    let (placed, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(answer, _)| answer.is_empty());
    assert_eq!((placed.len(), refused.len()), (1, 99));
    for (answer, _) in refused {
        assert!(answer.contains("\"code\":\"out_of_stock\""), "{answer}");
    }
    let slowest = answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
    println!("the slowest of 100 answers came after {slowest:?}");
    let patience = if cfg!(debug_assertions) { 20 } else { 2 };
    assert!(slowest < Duration::from_secs(patience), "{slowest:?}");
    let (available, orders): (i32, i64) = sqlx::query_as(
        r#"select on_hand - reserved, (select count(*) from shop."order") from shop.inventory"#,
    )
    .fetch_one(pool)
    .await
    .expect("readable");
    assert_eq!((available, orders), (0, 1));
    house.shut().await;
}

/// Puts one of each product into the carts, in this sequence.
async fn fill(tx: &mut sqlx::PgConnection, customers: &[CrowdCustomer], products: &[uuid::Uuid]) {
    let ids: Vec<_> = customers.iter().map(|customer| customer.customer_id).collect();
    for product in products {
        sqlx::query(
            "insert into shop.cart_item (cart_item_id, cart_id, product_id, quantity, unit_price, added_at)
            select gen_random_uuid(), cart_id, $2, 1, price, saga.now()
            from shop.cart, shop.product where customer_id = any($1) and product_id = $2",
        )
        .bind(&ids)
        .bind(product)
        .execute(&mut *tx)
        .await
        .expect("filled");
    }
}

/// Places the order. Returns an empty text if it was accepted, otherwise the answer.
async fn order(house: &House, who: &CrowdCustomer) -> String {
    let body = json!({
        "customerId": who.customer_id, "shippingAddressId": who.shipping_address_id,
        "paymentMethodId": who.payment_method_id,
    });
    let request = house.ask(Method::POST, "/v1/orders").bearer_auth(who.token.expose()).json(&body);
    let answer = send(request.header("idempotency-key", "the only one")).await;
    if answer.status == 202 { String::new() } else { answer.text }
}

/// Makes the next writes of orders fail with this SQLSTATE. A sequence counts them, because it does not roll back.
async fn lose(pool: &PgPool, times: i32, sqlstate: &str) {
    for statement in [
        "drop trigger if exists races on shop.\"order\"".to_owned(),
        "drop sequence if exists shop.races".to_owned(),
        "create sequence shop.races".to_owned(),
        format!(
            "create or replace function shop.lose() returns trigger language plpgsql as $$ begin
                if nextval('shop.races') <= {times} then
                    raise exception 'lost' using errcode = '{sqlstate}';
                end if;
                return new;
            end $$"
        ),
        "create trigger races before insert on shop.\"order\" for each row execute function shop.lose()".to_owned(),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(pool).await.expect("written");
    }
}

async fn tries(pool: &PgPool) -> i64 {
    let statement = "select last_value from shop.races";
    sqlx::query_scalar(statement).fetch_one(pool).await.expect("readable")
}

#[tokio::test]
async fn a_command_that_lost_a_race_is_run_again_three_times_and_leaves_nothing_of_the_lost_ones() {
    let house = House::open().await;
    let pool = house.database.pool();
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    shopper.add(thing, 1).await.is(200);

    lose(pool, 4, "40001").await;
    let refused = shopper.place(&body, 0).await;
    assert_eq!(refused.problem(), refusal(503, "try_again"));
    assert_eq!(tries(pool).await, 4, "once, and three times more");

    lose(pool, 3, "40P01").await;
    shopper.place(&body, 0).await.is(202);
    assert_eq!(tries(pool).await, 4);
    let left: (i64, i64, i64) = sqlx::query_as(
        r#"select (select count(*) from shop."order"), (select count(*) from saga.instance where name = 'place-order'),
            (select sum(reserved) from shop.inventory)::bigint"#,
    )
    .fetch_one(pool)
    .await
    .expect("readable");
    assert_eq!(left, (1, 1, 1), "one order, one saga, one reservation");
    house.close().await;
}
