//! Lost events of the gateway: the books that they leave behind, and how these are corrected.

use std::time::Duration;

use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{Saga as _, Start, Status, inspect, operate::Verb};
use stepwise_tests::House;
use stepwise_workflows::{
    payment::parked::parked_events,
    sagas::reconcile_payments::{AT_MOST, EVERY_MINUTES, PAGE, ReconcilePayments, put_schedule},
};
use uuid::Uuid;

use crate::decisions::{hand_over, must};

const PATIENCE: Duration = Duration::from_secs(5);

async fn placed(house: &House, product: Uuid) -> Uuid {
    let (order, placement) = house.place(house.buyer().await, product, 1, Method::Ok).await;
    assert_eq!(house.end(placement).await.status, Status::Completed);
    order
}

/// How many payments were asked about since their last change.
async fn asked(house: &House) -> i64 {
    sqlx::query_scalar("select count(*) from shop.payment where ask_at is not null")
        .fetch_one(house.pool())
        .await
        .expect("readable")
}

/// In how many seconds the order's payment is asked about.
async fn pause(house: &House, order: Uuid) -> f64 {
    sqlx::query_scalar(
        "select extract(epoch from ask_at - saga.now())::float8 from shop.payment where order_id = $1",
    )
    .bind(order)
    .fetch_one(house.pool())
    .await
    .expect("readable")
}

/// Changes the reference of the order's authorization, as the shop has it.
async fn refer(house: &House, order: Uuid, reference: &str) {
    sqlx::query("update shop.payment set authorization_id = $2 where order_id = $1")
        .bind(order)
        .bind(reference)
        .execute(house.pool())
        .await
        .expect("written");
}

/// The events that wait for a person: (kind, reason, order).
async fn parked(house: &House) -> Vec<(String, String, Option<Uuid>)> {
    sqlx::query_as("select kind, why, order_id from shop.parked_gateway_event")
        .fetch_all(house.pool())
        .await
        .expect("readable")
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
    house.reconcile(2).await;
    assert_eq!(asked(&house).await, 2);
    house.reconcile(1).await;
    assert_eq!(asked(&house).await, 3, "the one that had waited longest came first");
    house.close().await;
}

#[tokio::test]
async fn a_tick_asks_page_by_page_until_none_is_due() {
    let house = House::open(PATIENCE).await;
    let product = house.product(100).await;
    let payments = i64::from(PAGE) * 2 + 1;
    for _ in 0..payments {
        placed(&house, product).await;
    }
    let tick = house.reconcile(AT_MOST).await;
    assert_eq!((tick.status, asked(&house).await), (Status::Completed, payments));
    house.close().await;
}

#[tokio::test]
async fn a_change_brings_the_next_question_forward() {
    let house = House::open(PATIENCE).await;
    let order = placed(&house, house.product(10).await).await;
    assert_eq!(house.end(house.ship(order).await).await.status, Status::Completed);
    house.later(Duration::from_secs(10 * 86_400)).await;
    house.reconcile(100).await;
    assert_eq!(asked(&house).await, 1, "the next question is ten days away");
    let refund = house.refund(order, 300).await.expect("accepted");
    assert_eq!(house.end(refund).await.status, Status::Completed);
    let reference = house.reference(order).await;
    house.outside("/v1/refunds", &[("payment_intent", &*reference), ("amount", "400")]).await;
    house.reconcile(100).await;
    let (_, moves) = house.payment(order).await;
    assert_eq!(moves, ["authorize", "capture", "refund", "refund"], "the second one was found");
    house.close().await;
}

#[tokio::test]
async fn only_an_answer_sets_the_long_pause() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (held, differs) = (placed(&house, product).await, placed(&house, product).await);
    refer(&house, differs, "pi_of_nobody").await;
    house.later(Duration::from_secs(7 * 3_600)).await;
    house.switch("down").await;
    let mut tx = house.engine.begin().await.expect("begin");
    let start = Start::new("payments", 100);
    let tick = house.engine.start::<ReconcilePayments>(&mut tx, start).await.expect("it starts").id;
    tx.commit().await.expect("commit");
    let chosen = async {
        while asked(&house).await < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), chosen).await.expect("they are chosen");
    for order in [held, differs] {
        let next = pause(&house, order).await;
        assert!((3_000.0..3_601.0).contains(&next), "nothing was answered: {next} s");
    }
    must(&house, tick, Verb::Cancel).await;
    assert_eq!(house.end(tick).await.status, Status::Unwound);
    house.switch("up").await;

    assert_eq!(house.reconcile(100).await.status, Status::Completed);
    for order in [held, differs] {
        let next = pause(&house, order).await;
        assert!((21_000.0..21_601.0).contains(&next), "answered: six hours, not {next} s");
    }
    house.shut().await;
}

/// Fault: gateway: its answer about one payment cannot be read
/// Customer: nothing
/// Operator: a warning in the log each time; at the third time an event of the kind `reconcile` is parked as `unreadable`
/// Within: two hours
/// Ends: when the gateway's answer can be read; all other payments are asked about as usual
#[tokio::test]
async fn a_payment_that_cannot_be_asked_about_delays_no_other_and_is_told() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (unasked, other) = (placed(&house, product).await, placed(&house, product).await);
    let reference = house.reference(unasked).await;
    // The address of this one is that of all payments, which answers no question about one.
    refer(&house, unasked, "..").await;
    let intent = format!("/v1/payment_intents/{}", house.reference(other).await);
    house.outside(&format!("{intent}/cancel"), &[]).await;
    for time in 1..=3 {
        assert!(parked(&house).await.is_empty(), "{time}");
        assert_eq!(house.reconcile(100).await.status, Status::Completed);
        assert_eq!(house.payment(other).await.0, "voided");
    }
    let told = ("reconcile".to_owned(), "unreadable".to_owned(), Some(unasked));
    assert_eq!(parked(&house).await, [told]);
    let next = pause(&house, unasked).await;
    assert!((7_000.0..7_201.0).contains(&next), "after a growing pause: {next} s");

    refer(&house, unasked, &reference).await;
    house.reconcile(100).await;
    let unanswered: i16 = sqlx::query_scalar("select max(unanswered) from shop.payment")
        .fetch_one(house.pool())
        .await
        .expect("readable");
    assert_eq!(unanswered, 0);
    house.close().await;
}

/// Fault: saga: an operator hands over the saga that gives a cancelled order's money back
/// Customer: the order is `cancelled`; its payment shows what the gateway knows, once the shop has asked
/// Operator: the saga is `abandoned`, a notice says to whom
/// Within: an hour and the interval of `--reconcile-minutes`
/// Ends: by itself: what was asked for is withdrawn, and what the person does at the gateway is booked
#[tokio::test]
async fn a_void_that_was_handed_over_is_withdrawn_and_what_a_person_did_is_booked() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = house.place(buyer, product, 1, Method::Ok).await;
    house.end(placement).await;
    house.switch("down").await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    must(&house, cancelling, Verb::Pause).await;
    house.switch("up").await;
    house.reconcile(100).await;
    let open = "select count(*) from shop.payment_transaction where settled_at is null";
    let open = || sqlx::query_scalar::<_, i64>(open).fetch_one(house.pool());
    assert_eq!(open().await.expect("readable"), 1, "its saga may go on");
    must(&house, cancelling, hand_over()).await;
    let intent = format!("/v1/payment_intents/{}", house.reference(order).await);
    house.outside(&format!("{intent}/cancel"), &[]).await;
    house.later(Duration::from_secs(3_600)).await;
    house.reconcile(100).await;
    assert_eq!(open().await.expect("readable"), 0);
    let moves = ["authorize", "void"].map(str::to_owned);
    assert_eq!(house.payment(order).await, ("voided".to_owned(), moves.into()));
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
    let answers: i64 = sqlx::query_scalar(
        "select count(*) from saga.journal where saga_id = $1 and event::text like '%Answered%'",
    )
    .bind(tick.saga_id)
    .fetch_one(house.pool())
    .await
    .expect("readable");
    assert_eq!((tick.status, answers), (Status::Completed, 0), "it is not asked about");
    house.switch("up").await;
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    house.close().await;
}

#[tokio::test]
async fn a_contradiction_changes_nothing_and_is_kept_for_a_person_once() {
    let house = House::open(PATIENCE).await;
    let order = placed(&house, house.product(10).await).await;
    refer(&house, order, "pi_of_nobody").await;
    for _ in 0..2 {
        house.reconcile(100).await;
    }
    assert_eq!(house.payment(order).await.0, "authorized");
    let expected = ("reconcile".to_owned(), "contradicts_our_books".to_owned(), Some(order));
    assert_eq!(parked(&house).await, [expected]);
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
