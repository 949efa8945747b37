//! Counts the SQL statements of the hot path.

use std::{cell::RefCell, time::Duration};

use stepwise::door::{limits::Rates, tokens::Callers};
use stepwise_engine::testing::Statements;

use crate::{
    house::{House, send},
    shopper::{Shopper, product},
};

thread_local! {
    /// The statements that the driver has reported on this thread. The server of this test runs on it, too.
    static STATEMENTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes the statements that are sent from now on.
pub(crate) fn listen() {
    let listener =
        Statements(|text: &str| STATEMENTS.with_borrow_mut(|sent| sent.push(text.to_owned())));
    tracing::subscriber::set_global_default(listener).expect("no other test listens");
}

/// The statements since the last call that are round trips of their own.
pub(crate) fn trips() -> Vec<String> {
    // Each connection queries the name of a composite type once, and prepares each statement once.
    let is_frame = |text: &String| {
        let text = text.trim().to_ascii_lowercase();
        ["begin", "commit", "-- name: commit\n", "select pg_type.oid"]
            .iter()
            .any(|frame| text.starts_with(frame))
    };
    STATEMENTS.take().into_iter().filter(|text| !is_frame(text)).collect()
}

#[tokio::test]
async fn placing_an_order_takes_seven_round_trips_besides_begin_and_commit() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let shopper = Shopper::new(&house).await;
    for _ in 0..3 {
        let thing = product(&house, &admin, "10.00", 50).await;
        shopper.add(thing, 1).await.is(200);
    }
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    listen();
    // The caller was looked up a moment ago, so the lookup is cached.
    shopper.get("/v1/me").await.is(200);
    STATEMENTS.take();
    shopper.place(&body, 0).await.is(202);
    let placing = trips();
    assert_eq!(placing.len(), 7, "{placing:#?}");
    house.close().await;
}

#[tokio::test]
async fn adding_to_a_cart_takes_three_round_trips_besides_begin_and_commit_and_reading_it_one() {
    let house = House::open().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 50).await;
    let shopper = Shopper::new(&house).await;
    listen();
    shopper.add(thing, 1).await.is(200);
    STATEMENTS.take();
    shopper.add(thing, 1).await.is(200);
    let adding = trips();
    assert_eq!(adding.len(), 3, "{adding:#?}");
    shopper.get("/v1/customers/{me}/cart").await.is(200);
    let reading = trips();
    assert_eq!(reading.len(), 1, "{reading:#?}");
    house.close().await;
}

#[tokio::test]
async fn an_unknown_token_beyond_the_limit_of_its_address_is_not_looked_up() {
    let house = House::open_with(Rates { per_address_s: 1, ..Rates::OFF }).await;
    listen();
    let mut statuses = Vec::new();
    for n in 0..30 {
        statuses.push(send(house.get("/v1/me").bearer_auth(format!("guess-{n}"))).await.status);
    }
    let lookups = trips().iter().filter(|text| text.contains("callers_by_tokens")).count();
    let count = |status| statuses.iter().filter(|answered| **answered == status).count();
    assert_eq!((count(401), count(401) + count(429)), (lookups, 30), "{statuses:?}");
    assert!(lookups < 30, "the limit was not reached");
    house.close().await;
}

/// Planning takes seven times as long as the look-up itself.
#[tokio::test]
async fn the_look_up_of_a_token_is_planned_once_for_each_connection() {
    let house = House::open().await;
    let pool = stepwise::server::pool(house.database.options(), 1);
    let callers = Callers::new(pool.clone(), "test", Duration::from_secs(60));
    for n in 0..50 {
        callers.look_up(&format!("guess-{n}")).await.expect_err("nobody has it");
    }
    // Postgres plans five times for the values, to compare, and then once for all.
    let (planned, ran): (i64, i64) = sqlx::query_as(
        "select custom_plans, custom_plans + generic_plans from pg_prepared_statements
        where statement like '-- callers_by_tokens%'",
    )
    .fetch_one(&pool)
    .await
    .expect("one statement");
    assert_eq!((planned, ran), (5, 50));
    pool.close().await;
    house.close().await;
}
