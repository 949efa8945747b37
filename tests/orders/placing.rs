//! Placing an order, for each way the gateway can behave.

use std::time::Duration;

use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{Status, Transaction, WaitingOn, inspect};
use stepwise_tests::House;
use stepwise_workflows::{sagas::place_order::place_order, shop::Actor};

/// Of the gateway's client.
const PATIENCE: Duration = Duration::from_millis(900);

/// A placement whose gateway does not answer is given up after so long.
const GIVEN_UP: Duration = Duration::from_secs(30 * 60);

/// Places an order that is to succeed, and checks all books.
async fn is_placed(method: Method) {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, method).await;
    let end = house.end(operation).await;
    assert_eq!(end.status, Status::Completed, "{end:#?}");
    assert_eq!(house.status(order).await, "pending");
    assert_eq!(house.live(order), 1, "exactly one live authorization");
    assert_eq!(house.stock(product).await, (10, 3), "the stock stays reserved until it is shipped");
    assert_eq!(house.published(order).await, ["shop.order.placed.v1"]);
    let effects = house.effects(operation).await;
    assert!(effects.iter().all(|(_, status)| status == "confirmed"), "{effects:?}");
    house.close().await;
}

/// Places an order that is to fail, and checks that nothing remains.
async fn is_taken_back(method: Method) {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, method).await;
    if method == Method::TimeoutBefore {
        let retries = |s: &inspect::Summary| s.waiting_on == Some(WaitingOn::Retry);
        house.until(operation, "a failed attempt", retries).await;
        assert_eq!(
            house.stock(product).await,
            (10, 3),
            "the stock is held while the gateway is tried"
        );
        house.later(GIVEN_UP).await;
    }
    let end = house.end(operation).await;
    assert_eq!(end.status, Status::Unwound, "{end:#?}");
    assert_eq!(house.status(order).await, "failed");
    assert_eq!(house.live(order), 0, "no live authorization");
    assert_eq!(house.stock(product).await, (10, 0), "the stock is free again");
    assert_eq!(house.published(order).await, ["shop.payment.failed.v1"]);
    let effects = house.effects(operation).await;
    assert!(
        effects.iter().all(|(_, status)| status == "undone" || status == "refuted"),
        "{effects:?}"
    );
    // The cart is open again: the customer can pay otherwise.
    let (_, again) = house.place(buyer, product, 1, Method::Ok).await;
    assert_eq!(house.end(again).await.status, Status::Completed);
    house.close().await;
}

#[tokio::test]
async fn an_order_paid_at_once_is_placed() {
    is_placed(Method::Ok).await;
}

#[tokio::test]
async fn an_order_paid_slowly_is_placed() {
    is_placed(Method::Slow).await;
}

#[tokio::test]
async fn an_order_whose_gateway_acts_but_never_answers_is_placed_with_one_authorization() {
    is_placed(Method::TimeoutAfter).await;
}

#[tokio::test]
async fn an_order_whose_gateway_tells_it_twice_is_placed_once() {
    is_placed(Method::Twice).await;
}

#[tokio::test]
async fn a_declined_order_gives_its_stock_back() {
    is_taken_back(Method::Declined).await;
}

#[tokio::test]
async fn an_unsupported_card_gives_the_stock_back() {
    is_taken_back(Method::Unsupported).await;
}

#[tokio::test]
async fn an_order_whose_gateway_never_acts_is_given_up_and_taken_back() {
    is_taken_back(Method::TimeoutBefore).await;
}

#[tokio::test]
async fn a_payment_is_unknown_while_the_silent_gateway_is_asked_and_until_it_is_void() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::TimeoutBefore).await;
    let mut seen = vec![house.shown(order).await];
    while inspect::summary(house.pool(), operation)
        .await
        .is_ok_and(|s| s.is_some_and(|s| !s.is_final()))
    {
        let now = house.shown(order).await;
        if seen.last() != Some(&now) {
            if now == "unknown" {
                house.later(GIVEN_UP).await;
            }
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen.push(house.shown(order).await);
    seen.dedup();
    // Between the answer (nothing is reserved) and the end of the order it may be seen `authorizing` once more.
    assert_eq!(
        (&seen[..2], seen.last()),
        (&["authorizing", "unknown"].map(str::to_owned)[..], Some(&"voided".to_owned())),
        "{seen:?}"
    );
    house.close().await;
}

#[tokio::test]
async fn an_order_whose_gateway_acts_late_ends_with_its_books_balanced() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::ActsLate).await;
    let end = house.end(operation).await;
    // A confirm that the gateway refuses for another reason meanwhile ends otherwise; the books balance in any case.
    match end.status {
        Status::Completed => {
            assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 1))
        }
        Status::Unwound => {
            assert_eq!((house.status(order).await.as_str(), house.live(order)), ("failed", 0))
        }
        other => panic!("ended {other}: {end:#?}"),
    }
    house.close().await;
}

#[tokio::test]
async fn an_order_that_needs_approval_waits_for_it_and_is_taken_back_when_the_time_is_over() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Challenge).await;
    let waiting = house
        .until(operation, "awaiting approval", |s| s.waiting_on == Some(WaitingOn::Signal))
        .await;
    assert!(waiting.wake_at.is_some(), "it knows until when");
    assert_eq!(house.stock(product).await, (10, 3));
    house.later(Duration::from_secs(31 * 60)).await;
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("failed", 0));
    assert_eq!(house.stock(product).await, (10, 0));
    house.close().await;
}

#[tokio::test]
async fn a_gateway_that_is_away_delays_an_order_and_loses_none() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let post = |what: &str| {
        reqwest::Client::new().post(format!("{}/sandbox/{what}", house.gateway_url)).send()
    };
    post("down").await.expect("it listens").error_for_status().expect("down");
    let (order, operation) = house.place(buyer, product, 3, Method::Ok).await;
    let retrying = house
        .until(operation, "retrying", |s| s.waiting_on == Some(WaitingOn::Retry) && s.attempt >= 2)
        .await;
    assert!(
        retrying.last_error.is_some() && retrying.wake_at.is_some(),
        "retrying is visible: {retrying:#?}"
    );
    assert_eq!(house.status(order).await, "placing");
    post("up").await.expect("it listens").error_for_status().expect("up");
    assert_eq!(house.end(operation).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 1));
    house.close().await;
}

#[tokio::test]
async fn a_placement_that_is_rolled_back_leaves_nothing_behind() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let command = house.ordering(buyer, product, 2, Method::Ok).await;
    let place = async |tx: &mut Transaction| {
        let placed = place_order(&mut house.context(tx, Actor::Customer(buyer.id)), &command).await;
        placed.expect("it can be placed")
    };
    let mut tx = house.engine.begin().await.expect("begin");
    let never = place(&mut tx).await;
    tx.rollback().await.expect("rolled back");
    assert_eq!(house.stock(product).await, (10, 0));
    let mut tx = house.engine.begin().await.expect("begin");
    let placed = place(&mut tx).await;
    tx.commit().await.expect("commit");
    assert_eq!(house.end(placed.operation_id).await.status, Status::Completed);
    assert_eq!(house.status(placed.order.order_id).await, "pending");
    assert_eq!(house.live(never.order.order_id), 0, "nobody was asked for its money");
    let never = inspect::summary(house.pool(), never.operation_id).await.expect("readable");
    assert!(never.is_none(), "{never:?}");
    house.close().await;
}
