//! Cancelling at every moment: one decision, under the order row's lock.

use std::time::Duration;

use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{
    Status, WaitingOn,
    testing::{Race, Seed},
};
use stepwise_tests::House;
use stepwise_workflows::{
    order::cancel::CancelOrderRefusal, sagas::cancel_order::CancelOrderError,
};

const PATIENCE: Duration = Duration::from_millis(900);

#[tokio::test]
async fn a_placed_order_is_cancelled_and_its_money_given_back_once() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Ok).await;
    house.end(operation).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.stock(product).await, (10, 0), "its stock is free at once");
    assert_eq!(house.cancel(buyer, order).await.expect("the same answer"), cancelling);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    assert_eq!(house.cancel(buyer, order).await.expect("the same answer again"), cancelling);
    assert_eq!(
        house.published(order).await,
        ["shop.order.placed.v1", "shop.order.cancelled.v1", "shop.payment.refund-processed.v1"]
    );
    house.close().await;
}

#[tokio::test]
async fn an_order_that_awaits_approval_is_cancelled_by_its_placement() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Challenge).await;
    house.until(operation, "awaiting approval", |s| s.waiting_on == Some(WaitingOn::Signal)).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.cancel(buyer, order).await.expect("the same answer"), cancelling);
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    assert_eq!(house.stock(product).await, (10, 0));
    assert!(
        house.published(order).await.is_empty(),
        "there was no OrderPlaced, so there is no OrderCancelled"
    );
    house.close().await;
}

#[tokio::test]
async fn a_cancellation_while_the_gateway_is_silent_waits_for_what_it_did() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::TimeoutAfter).await;
    house.until(operation, "confirming", |s| s.pending.to_string().contains("Confirm")).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    let effects = house.effects(operation).await;
    assert!(
        effects.iter().all(|(_, status)| status == "undone" || status == "refuted"),
        "{effects:?}"
    );
    assert_eq!(
        house.payment(order).await,
        ("voided".to_owned(), ["authorize", "void"].map(str::to_owned).into())
    );
    house.close().await;
}

/// Fault: gateway: it releases reserved money, and its answers to that are lost
/// Customer: the order ends `cancelled`, and its money is released once
/// Operator: nothing
/// Within: the time-out of one call
/// Ends: by itself, because the gateway is asked after an answer that was lost
#[tokio::test]
async fn a_void_whose_answers_are_lost_is_found_by_asking() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let lost = [("on", "void"), ("method", "timeoutAfter")];

    // Nothing is reserved yet: the authorization is closed.
    let (order, placement) = house.place(buyer, product, 3, Method::Challenge).await;
    house.until(placement, "awaiting approval", |s| s.waiting_on == Some(WaitingOn::Signal)).await;
    house.outside("/sandbox/misbehave", &lost).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(placement).await.status, Status::Unwound);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    let closed = [("authorization-reference", "undone"), ("authorization", "refuted")];
    assert_eq!(house.effects(placement).await, closed.map(|(a, b)| (a.to_owned(), b.to_owned())));

    // The money is reserved: it is released.
    let (order, placement) = house.place(buyer, product, 3, Method::TimeoutAfter).await;
    house.until(placement, "confirming", |s| s.pending.to_string().contains("Confirm")).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(placement).await.status, Status::Unwound);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    let undone = ["authorization-reference", "authorization"]
        .map(|kind| (kind.to_owned(), "undone".to_owned()));
    assert_eq!(house.effects(placement).await, undone);
    assert_eq!(house.stock(product).await, (10, 0));
    house.close().await;
}

#[tokio::test]
async fn a_failed_order_cannot_be_cancelled() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Declined).await;
    house.end(operation).await;
    let refused = house.cancel(buyer, order).await;
    assert!(
        matches!(
            &refused,
            Err(CancelOrderError::Refused(CancelOrderRefusal::InvalidStatusTransition(_)))
        ),
        "{refused:?}"
    );
    house.close().await;
}

/// A cancellation and the placement race 100 times. Whoever is first under the order row's lock wins; the other one knows.
#[tokio::test(flavor = "multi_thread")]
async fn placing_and_cancelling_are_one_decision() {
    let house = House::open(Duration::from_secs(5)).await;
    let product = house.product(1_000).await;
    let mut race = Race::new(Seed::new().rng());
    for round in 0..100 {
        let buyer = house.buyer().await;
        let (order, operation) = house.place(buyer, product, 1, Method::Ok).await;
        let head_start = race.head_start();
        tokio::time::sleep(head_start).await;
        let cancelling =
            house.cancel(buyer, order).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let (placement, cancellation) = (house.end(operation).await, house.end(cancelling).await);
        assert_eq!(
            cancellation.status,
            Status::Completed,
            "round {round}, {head_start:?}: {cancellation:#?}"
        );
        assert_eq!(house.status(order).await, "cancelled", "round {round}");
        assert_eq!(house.live(order), 0, "round {round}: money is still reserved");
        let published = house.published(order).await;
        race.ended(placement.status == Status::Completed);
        if placement.status == Status::Completed {
            assert_eq!(published.len(), 3, "round {round}: {published:?}");
        } else {
            assert_eq!(placement.status, Status::Unwound, "round {round}");
            assert!(published.is_empty(), "round {round}: {published:?}");
        }
    }
    assert_eq!(house.stock(product).await, (1_000, 0), "everything came back");
    let (placed, cancelled) = race.close();
    println!("{placed} placed first, {cancelled} cancelled first");
    house.close().await;
}
