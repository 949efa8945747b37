//! Orders that are placed at the same moment share transactions, and each is answered as if it came alone.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stepwise_workflows::seed::bulk::{Crowd, CrowdCustomer, crowd};
use uuid::Uuid;

use crate::{
    cost::{listen, trips},
    house::{Answer, House, refusal, send},
    shopper::id,
};

/// This number of customers with empty carts, and of products.
async fn people(house: &House, customers: usize, products: usize) -> Crowd {
    let mut tx = house.database.pool().begin().await.expect("begin");
    let people = crowd(&house.door.shop, &mut tx, customers, products).await.expect("a crowd");
    tx.commit().await.expect("commit");
    people
}

/// Puts the product into the carts, one more into each: 1 into the first one.
async fn fill(house: &House, customers: &[CrowdCustomer], product: Uuid) {
    let ids: Vec<Uuid> = customers.iter().map(|customer| customer.customer_id).collect();
    sqlx::query(
        "insert into shop.cart_item (cart_item_id, cart_id, product_id, quantity, unit_price, added_at)
        select gen_random_uuid(), cart_id, product_id, n, price, saga.now()
        from unnest($1::uuid[]) with ordinality as who (customer_id, n)
        join shop.cart using (customer_id), shop.product where product_id = $2",
    )
    .bind(ids)
    .bind(product)
    .execute(house.database.pool())
    .await
    .expect("filled");
}

/// The body of placeOrder.
fn order(who: &CrowdCustomer) -> Value {
    json!({
        "customerId": who.customer_id, "shippingAddressId": who.shipping_address_id,
        "paymentMethodId": who.payment_method_id,
    })
}

/// A request for an order under this key.
fn place(house: &House, who: &CrowdCustomer, key: &str, body: &Value) -> RequestBuilder {
    let request = house.ask(Method::POST, "/v1/orders").bearer_auth(who.token.expose());
    request.header("idempotency-key", key).json(body)
}

/// Sends all of these at the same moment.
async fn burst(requests: impl IntoIterator<Item = RequestBuilder>) -> Vec<Answer> {
    join_all(requests.into_iter().map(send)).await
}

/// How many statements with this name were sent.
fn count(statements: &[String], name: &str) -> usize {
    statements.iter().filter(|text| text.contains(name)).count()
}

/// The number of orders in the database that belong to these answers: each is of the customer who asked, of as many things as lay in the cart, has
/// reserved them in that customer's name, and goes on in an operation of its own.
async fn placed_as_asked(house: &House, customers: &[CrowdCustomer], answers: &[Answer]) -> i64 {
    let ids: Vec<Uuid> = customers.iter().map(|customer| customer.customer_id).collect();
    let operations: Vec<Uuid> = answers.iter().map(|answer| id(&answer.json()["id"])).collect();
    let orders: Vec<Uuid> = answers.iter().map(|answer| id(&answer.json()["subject"])).collect();
    sqlx::query_scalar(
        r#"select count(distinct (o.order_id, s.saga_id))
        from unnest($1::uuid[], $2::uuid[], $3::uuid[])
            with ordinality as asked (customer_id, operation_id, order_id, n)
        join shop."order" o on o.order_id = asked.order_id
            and o.customer_id = asked.customer_id and o.item_count = asked.n
        join shop.cart c on c.checkout_order_id = o.order_id and c.customer_id = o.customer_id
        join shop.inventory_audit a on a.order_id = o.order_id and a.actor = o.customer_id
            and a.reserved_after - a.reserved_before = asked.n
        join saga.instance s on s.saga_id = asked.operation_id and s.name = 'place-order'
            and s.subject = o.order_id::text"#,
    )
    .bind(ids)
    .bind(operations)
    .bind(orders)
    .fetch_one(house.database.pool())
    .await
    .expect("a count")
}

#[tokio::test]
async fn simultaneous_orders_share_transactions_and_each_customer_gets_their_own() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 60, 1).await;
    fill(&house, &customers, product_ids[0]).await;
    let asked = || customers.iter().map(|who| place(&house, who, "the same for all", &order(who)));
    listen();
    let answers = burst(asked()).await;
    let statements = trips();
    for answer in &answers {
        assert_eq!(answer.is(202).header("idempotent-replayed"), "");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        assert_eq!(answer.header("location"), format!("/v1/operations/{id}"));
    }
    assert_eq!(placed_as_asked(&house, &customers, &answers).await, 60);
    let transactions = count(&statements, "idempotency_take");
    assert_eq!(count(&statements, "idempotency_store"), transactions);
    assert!(transactions <= 10, "{transactions} transactions for 60 orders");
    assert!(statements.len() < 60 * 7 / 2, "{} round trips for 60 orders", statements.len());
    // Each answer is stored under the key of its customer, sealed with that customer's key.
    let again = burst(asked()).await;
    for (first, again) in answers.iter().zip(&again) {
        assert_eq!(again.is(202).header("idempotent-replayed"), "true");
        assert_eq!(again.text, first.text);
    }
    house.shut().await;
}

/// The parts of an answer that do not depend on when it was given.
fn told(answer: &Answer) -> (u16, String, Value) {
    let mut body = answer.json();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("requestId");
    }
    (answer.status, answer.header("retry-after").to_owned(), body)
}

#[tokio::test]
async fn refused_and_repeated_orders_in_a_burst_are_answered_as_if_they_came_alone() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 48, 2).await;
    let kinds: Vec<&[CrowdCustomer]> = customers.chunks(8).collect();
    let [good, empty, short, lost, repeated, reused] = kinds[..] else { panic!("six kinds") };
    let (things, rare) = (product_ids[0], product_ids[1]);
    for some in [good, lost, repeated, reused] {
        fill(&house, some, things).await;
    }
    fill(&house, short, rare).await;
    sqlx::query("update shop.inventory set on_hand = 0 where product_id = $1")
        .bind(rare)
        .execute(house.database.pool())
        .await
        .expect("sold out");
    let bad: Vec<RequestBuilder> = (0..8)
        .flat_map(|n| {
            let mut nowhere = order(&lost[n]);
            nowhere["shippingAddressId"] = json!(Uuid::now_v7());
            let mut another = order(&reused[n]);
            another["paymentMethodId"] = json!(Uuid::now_v7());
            [
                place(&house, &empty[n], "k", &order(&empty[n])),
                place(&house, &short[n], "k", &order(&short[n])),
                place(&house, &lost[n], "k", &nowhere),
                place(&house, &repeated[n], "k", &order(&repeated[n])),
                place(&house, &reused[n], "k", &another),
            ]
        })
        .collect();
    let again = || bad.iter().map(|request| request.try_clone().expect("a body of bytes"));
    for who in repeated.iter().chain(reused) {
        send(place(&house, who, "k", &order(who))).await.is(202);
    }
    let mut alone = Vec::new();
    for request in again() {
        alone.push(send(request).await);
    }
    let good_ones = good.iter().map(|who| place(&house, who, "k", &order(who)));
    listen();
    let mut together = burst(again().chain(good_ones)).await;
    let transactions = count(&trips(), "idempotency_take");
    assert!(transactions <= 10, "{transactions} transactions: the refused ones went alone");
    let placed = together.split_off(bad.len());
    assert_eq!(placed_as_asked(&house, good, &placed).await, 8);
    let codes = ["cart_empty", "out_of_stock", "address_not_found", "", "idempotency_key_reused"];
    let statuses = [409, 409, 404, 202, 422];
    for (n, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(told(together), told(alone));
        if codes[n % 5].is_empty() {
            assert_eq!(together.is(202).header("idempotent-replayed"), "true");
        } else {
            assert_eq!(together.problem(), refusal(statuses[n % 5], codes[n % 5]));
        }
    }
    let count = r#"select count(*) from shop."order""#;
    let orders: i64 = sqlx::query_scalar(count).fetch_one(house.database.pool()).await.expect("ok");
    assert_eq!(orders, 24, "of the good ones, and of those that were sent before");
    house.shut().await;
}

#[tokio::test]
async fn an_order_whose_rows_are_locked_delays_no_other_order() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 30, 1).await;
    fill(&house, &customers, product_ids[0]).await;
    let (held, customer) = (10, customers[10].customer_id);
    let mut holding = house.database.pool().begin().await.expect("begin");
    sqlx::query("select from shop.customer where customer_id = $1 for update")
        .bind(customer)
        .execute(&mut *holding)
        .await
        .expect("locked");
    listen();
    let asked = customers.iter().map(|who| place(&house, who, "k", &order(who)));
    let mut sent: Vec<_> = asked.map(|request| tokio::spawn(send(request))).collect();
    let waits = sent.remove(held);
    for answer in join_all(sent).await {
        answer.expect("it ends").is(202);
    }
    let transactions = count(&trips(), "idempotency_take");
    assert!(
        transactions <= 10,
        "{transactions} transactions: they waited for the lock, and failed"
    );
    holding.rollback().await.expect("released");
    // It may have given up to wait, which it does after a second. Nothing of that is left.
    let waited = waits.await.expect("it ends");
    assert!(waited.status == 202 || waited.problem() == refusal(503, "busy"), "{waited:?}");
    let who = &customers[held];
    send(place(&house, who, "k", &order(who))).await.is(202);
    let orders: (i64, i64) = sqlx::query_as(
        r#"select count(*), count(*) filter (where customer_id = $1) from shop."order""#,
    )
    .bind(customer)
    .fetch_one(house.database.pool())
    .await
    .expect("readable");
    assert_eq!(orders, (30, 1));
    house.shut().await;
}

#[tokio::test]
async fn orders_of_a_stock_that_is_locked_wait_for_it_together_and_no_other_order_waits() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 30, 2).await;
    let (of_held, of_free) = customers.split_at(20);
    fill(&house, of_held, product_ids[0]).await;
    fill(&house, of_free, product_ids[1]).await;
    let mut holding = house.database.pool().begin().await.expect("begin");
    sqlx::query("select from shop.inventory where product_id = $1 for update")
        .bind(product_ids[0])
        .execute(&mut *holding)
        .await
        .expect("locked");
    listen();
    let asked = customers.iter().map(|who| place(&house, who, "k", &order(who)));
    let mut wait: Vec<_> = asked.map(|request| tokio::spawn(send(request))).collect();
    for answer in join_all(wait.split_off(20)).await {
        answer.expect("it ends").is(202);
    }
    holding.rollback().await.expect("released");
    let waited = join_all(wait).await;
    // On a slow machine some may have given up to wait, which they do after a second.
    let gave_up = |answer: &Answer| answer.status != 202;
    let waited: Vec<Answer> = waited.into_iter().map(|answer| answer.expect("it ends")).collect();
    for answer in waited.iter().filter(|answer| gave_up(answer)) {
        assert_eq!(answer.problem(), refusal(503, "busy"));
    }
    let transactions = count(&trips(), "place: lock the stock of the cart's lines");
    assert!(
        waited.iter().any(gave_up) || transactions <= 10,
        "{transactions} transactions for 20 orders that waited for one stock"
    );
    house.shut().await;
}

#[tokio::test]
async fn of_two_simultaneous_orders_of_one_customer_one_is_placed_and_a_key_has_one_effect() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 20, 1).await;
    fill(&house, &customers, product_ids[0]).await;
    let [impatient, twins, mine, yours, others @ ..] = &customers[..] else { panic!("20") };
    let admin = house.key("admin", &[]).await;
    let for_them = |who: &CrowdCustomer| {
        let request = house.ask(Method::POST, "/v1/orders").bearer_auth(&admin);
        request.header("idempotency-key", "k").json(&order(who))
    };
    let pairs = [
        place(&house, impatient, "one", &order(impatient)),
        place(&house, impatient, "other", &order(impatient)),
        place(&house, twins, "k", &order(twins)),
        place(&house, twins, "k", &order(twins)),
        for_them(mine),
        for_them(yours),
    ];
    let others = others.iter().map(|who| place(&house, who, "k", &order(who)));
    let mut answers = burst(pairs.into_iter().chain(others)).await;
    for answer in answers.split_off(6) {
        answer.is(202);
    }
    let [one, other, twin, its_twin, for_me, for_you] = &mut answers[..] else { panic!("six") };
    // Either may come first.
    if one.status != 202 {
        std::mem::swap(one, other);
    }
    one.is(202);
    assert_eq!(other.problem(), refusal(409, "checkout_in_progress"));
    assert_eq!(twin.is(202).text, its_twin.is(202).text);
    let replayed = [twin, its_twin].map(|twin| twin.header("idempotent-replayed") == "true");
    assert!(replayed[0] != replayed[1], "one of them is the first");
    if for_me.status != 202 {
        std::mem::swap(for_me, for_you);
    }
    for_me.is(202);
    assert_eq!(for_you.problem(), refusal(422, "idempotency_key_reused"));
    let statement = r#"select count(*), count(distinct customer_id) from shop."order""#;
    let orders: (i64, i64) =
        sqlx::query_as(statement).fetch_one(house.database.pool()).await.expect("readable");
    assert_eq!(orders, (19, 19));
    house.shut().await;
}

/// Makes every transaction fail with this SQLSTATE that writes more than one order.
async fn refuse_to_share(house: &House, sqlstate: &str) {
    for statement in [
        format!(
            "create or replace function shop.refuse_to_share() returns trigger language plpgsql as $$ begin
                if current_setting('test.wrote', true) = 'yes' then
                    raise exception 'a second one' using errcode = '{sqlstate}';
                end if;
                perform set_config('test.wrote', 'yes', true);
                return new;
            end $$"
        ),
        "create or replace trigger refuses before insert on shop.\"order\" for each row execute function shop.refuse_to_share()".to_owned(),
    ] {
        let written = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(house.database.pool());
        written.await.expect("written");
    }
}

#[tokio::test]
async fn if_a_shared_transaction_fails_each_of_its_orders_is_placed_in_one_of_its_own() {
    let house = House::open().await;
    let Crowd { customers, product_ids } = people(&house, 20, 1).await;
    fill(&house, &customers, product_ids[0]).await;
    listen();
    let mut operations = HashSet::new();
    // A lost race, and an error that nobody expects.
    for (sqlstate, some) in [("40P01", &customers[..10]), ("XX000", &customers[10..])] {
        refuse_to_share(&house, sqlstate).await;
        trips();
        let answers = burst(some.iter().map(|who| place(&house, who, "k", &order(who)))).await;
        let transactions = count(&trips(), "idempotency_take");
        assert!(transactions > 10, "no transaction was shared: {transactions}");
        operations.extend(answers.iter().map(|answer| id(&answer.is(202).json()["id"])));
    }
    let left: (i64, i64) = sqlx::query_as(
        r#"select (select count(*) from shop."order"), (select count(*) from saga.instance where name = 'place-order')"#,
    )
    .fetch_one(house.database.pool())
    .await
    .expect("readable");
    assert_eq!((operations.len(), left), (20, (20, 20)), "nothing is left of what failed");
    house.shut().await;
}
