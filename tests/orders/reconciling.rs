//! Lost events of the gateway: the books that they leave behind, and how these are corrected.

use std::time::Duration;

use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{Saga as _, Status, inspect};
use stepwise_tests::House;
use stepwise_workflows::{
    payment::parked::parked_events,
    sagas::reconcile_payments::{EVERY_MINUTES, ReconcilePayments, put_schedule},
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(5);

async fn placed(house: &House, product: Uuid) -> Uuid {
    let (order, placement) = house.place(house.buyer().await, product, 1, Method::Ok).await;
    assert_eq!(house.end(placement).await.status, Status::Completed);
    order
}

/// The steps of an instance that took one payment after the other.
async fn asked(house: &House, id: Uuid) -> i64 {
    let asked =
        "select count(*) from saga.journal where saga_id = $1 and event::text like '%Answered%'";
    sqlx::query_scalar(asked).bind(id).fetch_one(house.pool()).await.expect("readable")
}

#[tokio::test]
async fn money_that_was_moved_outside_is_booked_once_although_no_event_came() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (voided, taken) = (placed(&house, product).await, placed(&house, product).await);
    let intent = format!("/v1/payment_intents/{}", house.reference(voided).await);
    house.outside(&format!("{intent}/cancel"), &[]).await;
    let reference = house.reference(taken).await;
    house.outside(&format!("/v1/payment_intents/{reference}/capture"), &[]).await;
    let refund = [("payment_intent", &*reference), ("amount", "400")];
    house.outside("/v1/refunds", &refund).await;
    assert_eq!(house.payment(voided).await.0, "authorized", "nothing has told the shop of it");

    for _ in 0..2 {
        assert_eq!(house.reconcile(100).await.status, Status::Completed);
        let moves = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
        assert_eq!(
            house.payment(voided).await,
            ("voided".to_owned(), moves(&["authorize", "void"]))
        );
        assert_eq!(
            house.payment(taken).await,
            ("partially_refunded".to_owned(), moves(&["authorize", "capture", "refund"]))
        );
    }
    let refunded = "shop.payment.refund-processed.v1";
    assert_eq!(house.published(taken).await, ["shop.order.placed.v1", refunded]);
    assert_eq!(parked_events(house.pool()).await.expect("readable"), 0);
    house.close().await;
}

#[tokio::test]
async fn a_tick_asks_about_so_many_payments_and_the_next_one_about_the_others() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    for _ in 0..3 {
        placed(&house, product).await;
    }
    let (first, second) = (house.reconcile(2).await, house.reconcile(1).await);
    assert_eq!((asked(&house, first.saga_id).await, asked(&house, second.saga_id).await), (2, 1));
    let never: i64 = sqlx::query_scalar("select count(*) from shop.payment where ask_at is null")
        .fetch_one(house.pool())
        .await
        .expect("readable");
    assert_eq!(never, 0, "the one that had waited longest came first");
    house.close().await;
}

#[tokio::test]
async fn a_payment_whose_money_a_saga_moves_is_left_to_it() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = house.place(buyer, product, 1, Method::Ok).await;
    house.end(placement).await;
    house.switch("down").await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    let tick = house.reconcile(100).await;
    assert_eq!((tick.status, asked(&house, tick.saga_id).await), (Status::Completed, 0));
    house.switch("up").await;
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    house.close().await;
}

#[tokio::test]
async fn a_contradiction_changes_nothing_and_is_kept_for_a_person_once() {
    let house = House::open(PATIENCE).await;
    let order = placed(&house, house.product(10).await).await;
    sqlx::query("update shop.payment set authorization_id = 'pi_of_nobody' where order_id = $1")
        .bind(order)
        .execute(house.pool())
        .await
        .expect("written");
    for _ in 0..2 {
        house.reconcile(100).await;
    }
    assert_eq!(house.payment(order).await.0, "authorized");
    let parked: Vec<(String, String, Option<Uuid>)> =
        sqlx::query_as("select kind, why, order_id from shop.parked_gateway_event")
            .fetch_all(house.pool())
            .await
            .expect("readable");
    let expected = ("reconcile".to_owned(), "contradicts_our_books".to_owned(), Some(order));
    assert_eq!(parked, [expected]);
    house.shut().await;
}

/// Fault: gateway: its event about an authorization that lapsed is lost
/// Customer: the order shows the payment as `authorized` until the shop asks; then as `voided`
/// Operator: nothing; the saga `reconcile-payments` has one instance for each tick
/// Within: six hours and the interval of `--reconcile-minutes`
/// Ends: by itself
#[tokio::test]
async fn the_schedule_finds_what_a_lost_event_has_left() {
    let house = House::open(PATIENCE).await;
    let order = placed(&house, house.product(10).await).await;
    let intent = format!("/v1/payment_intents/{}", house.reference(order).await);
    house.outside(&format!("{intent}/cancel"), &[]).await;
    let mut tx = house.engine.begin().await.expect("begin");
    put_schedule(&house.engine, &mut tx, EVERY_MINUTES).await.expect("put");
    tx.commit().await.expect("commit");
    let listed = house.engine.schedules().await.expect("readable");
    assert_eq!((&*listed[0].name, &*listed[0].cron), (ReconcilePayments::NAME, "*/15 * * * *"));

    // A tick is skipped if no worker has decided it within half a minute, and the next one comes a quarter of an hour later.
    house.later(Duration::from_secs(3_600)).await;
    let found = async {
        while house.payment(order).await.0 != "voided" {
            let next: Option<f64> = sqlx::query_scalar(
                "select extract(epoch from next_at - saga.now())::float8 from saga.schedule",
            )
            .fetch_one(house.pool())
            .await
            .expect("readable");
            if next.is_some_and(|seconds| seconds > 5.0) {
                house.later(Duration::from_secs_f64(next.unwrap_or_default() + 0.5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("it is found");
    let mut tx = house.engine.begin().await.expect("begin");
    let tick = inspect::latest_about(&mut tx, ReconcilePayments::NAME, "payments").await;
    assert!(tick.expect("readable").is_some());
    put_schedule(&house.engine, &mut tx, 0).await.expect("removed");
    tx.commit().await.expect("commit");
    assert!(house.engine.schedules().await.expect("readable").is_empty());
    house.close().await;
}
