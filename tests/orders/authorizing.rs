//! Another payment for an order whose authorization lapsed, for each way the gateway can behave.

use std::time::Duration;

use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{
    Status, WaitingOn,
    testing::{Race, Seed},
};
use stepwise_tests::{Buyer, House};
use stepwise_workflows::{
    order::{authorize::AuthorizePaymentRefusal as Refusal, confirm_order, ship::ShipOrder},
    sagas::{
        authorize_payment::AuthorizePaymentError, place_order::APPROVAL, ship_order::ship_order,
    },
    shop::{Actor, cause::KeyRole},
};
use uuid::Uuid;

use crate::trials::approval_page;

const PATIENCE: Duration = Duration::from_millis(900);
const ADMIN: Actor = Actor::Key(KeyRole::Admin, Uuid::nil());

/// A placed order whose authorization has lapsed.
async fn lapsed(house: &House, product: Uuid) -> (Buyer, Uuid) {
    let buyer = house.buyer().await;
    let (order, placement) = house.place(buyer, product, 3, Method::Ok).await;
    assert_eq!(house.end(placement).await.status, Status::Completed);
    house.lapse(order).await;
    (buyer, order)
}

async fn approve(house: &House, operation: Uuid) {
    let page = approval_page(house.pool(), operation).await.expect("it waits for an approval");
    let approved = reqwest::Client::new().post(page).body("decision=approve").send().await;
    approved.expect("the gateway answers");
}

/// Confirms and ships the order. Answers the operation.
async fn ship(house: &House, order: Uuid) -> Uuid {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, ADMIN);
    confirm_order(&mut ctx, order).await.expect("it can be confirmed");
    let (tracking_number, carrier) = ("1Z999".to_owned(), "UPS".to_owned());
    let command = ShipOrder { order_id: order, tracking_number, carrier };
    let shipment = ship_order(&mut ctx, &command).await.expect("it can be shipped");
    tx.commit().await.expect("commit");
    shipment
}

fn refusal(refused: Result<Uuid, AuthorizePaymentError>) -> Refusal {
    match refused {
        Err(AuthorizePaymentError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_order_whose_authorization_lapsed_is_paid_again_and_shipped() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (buyer, order) = lapsed(&house, product).await;
    assert_eq!((house.live(order), house.shown(order).await.as_str()), (0, "voided"));
    let operation = house.authorize(buyer, order, Method::TimeoutAfter).await.expect("accepted");
    let end = house.end(operation).await;
    assert_eq!(end.status, Status::Completed, "{end:#?}");
    assert_eq!((house.live(order), house.shown(order).await.as_str()), (1, "authorized"));
    let twice = refusal(house.authorize(buyer, order, Method::Ok).await);
    assert!(matches!(twice, Refusal::AlreadyAuthorized(_)), "{twice:?}");

    let shipment = ship(&house, order).await;
    assert_eq!(house.end(shipment).await.status, Status::Completed);
    assert_eq!(house.status(order).await, "shipped");
    assert_eq!(
        house.payment(order).await,
        ("captured".to_owned(), ["authorize", "capture"].map(str::to_owned).into())
    );
    let late = refusal(house.authorize(buyer, order, Method::Ok).await);
    assert!(matches!(late, Refusal::InvalidStatusTransition(_)), "{late:?}");
    house.close().await;
}

#[tokio::test]
async fn a_payment_that_fails_leaves_the_order_as_it_was_and_is_told() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (buyer, order) = lapsed(&house, product).await;
    for method in [Method::Declined, Method::Unsupported] {
        let operation = house.authorize(buyer, order, method).await.expect("accepted");
        assert_eq!(house.end(operation).await.status, Status::Unwound);
        assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 0));
        assert_eq!(house.shown(order).await, "voided", "the payment in force is the one before");
        assert_eq!(house.stock(product).await, (10, 3), "its stock stays reserved");
    }
    assert_eq!(
        house.published(order).await,
        ["shop.order.placed.v1", "shop.payment.failed.v1", "shop.payment.failed.v1"]
    );
    let failed: Vec<(String, String)> = sqlx::query_as(
        "select state, failure_reason from shop.payment where failure_reason is not null order by payment_id",
    )
    .fetch_all(house.pool())
    .await
    .expect("readable");
    let failed: Vec<_> = failed.iter().map(|(state, why)| (&**state, &**why)).collect();
    assert_eq!(failed[1], ("declined", "unsupported_card_type"), "{failed:?}");
    let operation = house.authorize(buyer, order, Method::Ok).await.expect("accepted");
    assert_eq!(house.end(operation).await.status, Status::Completed);
    assert_eq!(house.live(order), 1);
    house.close().await;
}

#[tokio::test]
async fn no_money_stays_reserved_for_an_order_that_is_cancelled_while_its_payment_waits_for_an_approval()
 {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (buyer, order) = lapsed(&house, product).await;
    let operation = house.authorize(buyer, order, Method::Challenge).await.expect("accepted");
    house.until(operation, "awaiting", |s| s.waiting_on == Some(WaitingOn::Signal)).await;
    let busy = refusal(house.authorize(buyer, order, Method::Ok).await);
    assert!(matches!(busy, Refusal::Busy), "{busy:?}");
    approve(&house, operation).await;
    assert_eq!(house.live(order), 1, "the customer has approved, and the shop has not heard of it");
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.status(order).await, "cancelled", "at once");
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    let end = house.end(operation).await;
    assert_eq!((end.status, end.reason), (Status::Unwound, Some("OrderCancelled".into())));
    assert_eq!((house.live(order), house.stock(product).await), (0, (10, 0)));
    assert_eq!(
        house.published(order).await,
        ["shop.order.placed.v1", "shop.order.cancelled.v1"],
        "no payment has failed, and no money was given back"
    );
    house.close().await;
}

/// A cancellation and the authorization race. Whoever is first under the lock of the order's row wins; no money stays reserved.
#[tokio::test(flavor = "multi_thread")]
async fn authorizing_and_cancelling_are_one_decision() {
    let house = House::open(Duration::from_secs(5)).await;
    let product = house.product(1_000).await;
    let mut race = Race::new(Seed::new().rng());
    for round in 0..40 {
        let (buyer, order) = lapsed(&house, product).await;
        let operation = house.authorize(buyer, order, Method::Ok).await.expect("accepted");
        tokio::time::sleep(race.head_start()).await;
        let cancelling =
            house.cancel(buyer, order).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let (authorization, cancellation) =
            (house.end(operation).await, house.end(cancelling).await);
        assert_eq!(cancellation.status, Status::Completed, "round {round}: {cancellation:#?}");
        assert_eq!(house.status(order).await, "cancelled", "round {round}");
        assert_eq!(house.live(order), 0, "round {round}: money is still reserved");
        let authorized = authorization.status == Status::Completed;
        assert!(
            authorized || authorization.status == Status::Unwound,
            "round {round}: {authorization:#?}"
        );
        race.ended(authorized);
    }
    assert_eq!(house.stock(product).await, (1_000, 0), "everything came back");
    let (authorized, cancelled) = race.close();
    println!("{authorized} authorized first, {cancelled} cancelled first");
    house.close().await;
}

#[tokio::test]
async fn an_approval_whose_event_was_lost_places_the_order_when_its_time_is_over() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Challenge).await;
    approve(&house, operation).await;
    house.later(APPROVAL).await;
    assert_eq!(house.end(operation).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 1));
    assert_eq!(house.shown(order).await, "authorized");

    house.lapse(order).await;
    let again = house.authorize(buyer, order, Method::Challenge).await.expect("accepted");
    approve(&house, again).await;
    house.later(APPROVAL).await;
    assert_eq!(house.end(again).await.status, Status::Completed);
    assert_eq!((house.live(order), house.shown(order).await.as_str()), (1, "authorized"));

    house.lapse(order).await;
    let never = house.authorize(buyer, order, Method::Challenge).await.expect("accepted");
    house.until(never, "awaiting", |s| s.waiting_on == Some(WaitingOn::Signal)).await;
    house.later(APPROVAL).await;
    let end = house.end(never).await;
    assert_eq!((end.status, end.reason), (Status::Unwound, Some("ApprovalExpired".into())));
    assert_eq!((house.live(order), house.shown(order).await.as_str()), (0, "voided"));
    house.close().await;
}

#[tokio::test]
async fn a_payment_is_unknown_while_its_capture_is_in_doubt() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = house.place(buyer, product, 3, Method::Ok).await;
    house.end(placement).await;
    house.outside("/sandbox/misbehave", &[("on", "capture"), ("method", "timeoutAfter")]).await;
    let shipment = ship(&house, order).await;
    let seen = async {
        while house.shown(order).await != "unknown" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it is in doubt");
    house.outside("/sandbox/misbehave", &[("on", "capture"), ("method", "ok")]).await;
    assert_eq!(house.end(shipment).await.status, Status::Completed);
    assert_eq!(house.shown(order).await, "captured");
    house.close().await;
}
