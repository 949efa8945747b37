//! Giving money back, for each way the gateway can behave, and whoever took it. [`House::close`] compares the books row for row.

use std::time::{Duration, Instant};

use stepwise_adapters::sandbox::{
    SandboxMethod as Method,
    ledger::{self, LineResult},
};
use stepwise_engine::{Status, WaitingOn, inspect::Summary, operate::Verb};
use stepwise_tests::House;
use stepwise_workflows::{
    order::{
        outside::{self, Applied, Truth},
        refund::RefundPaymentRefusal,
    },
    payment::gateway::Reference,
    sagas::refund_payment::RefundPaymentError,
    shop::Actor,
};
use uuid::Uuid;

use crate::decisions::{hand_over, must};

const PATIENCE: Duration = Duration::from_millis(900);

/// A shipped order of 38.17.
async fn shipped(house: &House, method: Method) -> Uuid {
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, method).await;
    assert_eq!(house.end(operation).await.status, Status::Completed);
    let shipping = house.ship(order).await;
    assert_eq!(house.end(shipping).await.status, Status::Completed);
    order
}

/// State, refunded amount in cents, and the kind and state of each move after the authorization.
async fn books(house: &House, order: Uuid) -> (String, i64, Vec<String>) {
    sqlx::query_as(
        "select p.state, (p.refunded_amount * 100)::bigint,
            array_agg(t.kind || ' ' || t.state || ' ' || (t.amount * 100)::bigint order by t.transaction_id)
                filter (where t.kind <> 'authorize')
        from shop.payment p join shop.payment_transaction t using (payment_id)
        where p.order_id = $1 group by p.payment_id",
    )
    .bind(order)
    .fetch_one(house.pool())
    .await
    .expect("the payment")
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn several_refunds_at_once_give_back_what_was_taken_and_no_more() {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, Method::Ok).await;
    let (first, second, third) = tokio::join!(
        house.refund(order, 20_00),
        house.refund(order, 20_00),
        house.refund(order, 10_00)
    );
    let (accepted, refused): (Vec<_>, Vec<_>) =
        [first, second, third].into_iter().partition(Result::is_ok);
    assert_eq!((accepted.len(), refused.len()), (2, 1), "{refused:?}");
    let Some(Err(RefundPaymentError::Refused(RefundPaymentRefusal::RefundExceedsPayment(left)))) =
        refused.into_iter().next()
    else {
        panic!("another refusal")
    };
    assert!([8_17, 18_17].contains(&left.minor()), "{left}");
    for operation in accepted.into_iter().flatten() {
        assert_eq!(house.end(operation).await.status, Status::Completed);
    }
    let (state, back, _) = books(&house, order).await;
    assert_eq!((&*state, back), ("partially_refunded", 30_00));
    let rest = house.refund(order, 8_17).await.expect("it is left");
    assert_eq!(house.end(rest).await.status, Status::Completed);
    let (state, back, _) = books(&house, order).await;
    assert_eq!((&*state, back, house.live(order)), ("refunded", 38_17, 0));
    let refund = "shop.payment.refund-processed.v1";
    let expected = ["shop.order.placed.v1", "shop.order.shipped.v1", refund, refund, refund];
    assert_eq!(house.published(order).await, expected);
    house.close().await;
}

/// Refunds twice in part, while the gateway refunds in this way, and checks that each came back once.
async fn is_refunded_once(method: Method, on: Option<Method>) {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, method).await;
    if let Some(on) = on {
        house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", on.name())]).await;
    }
    for cents in [10_00, 5_00] {
        let operation = house.refund(order, cents).await.expect("accepted");
        assert_eq!(house.end(operation).await.status, Status::Completed);
        assert_eq!(house.effects(operation).await, [("refund".to_owned(), "confirmed".to_owned())]);
    }
    let (state, back, moves) = books(&house, order).await;
    let expected =
        texts(&["capture succeeded 3817", "refund succeeded 1000", "refund succeeded 500"]);
    assert_eq!((&*state, back, moves), ("partially_refunded", 15_00, expected));
    house.close().await;
}

#[tokio::test]
async fn a_refund_whose_answer_never_comes_is_made_once() {
    is_refunded_once(Method::Ok, Some(Method::TimeoutAfter)).await;
}

#[tokio::test]
async fn a_refund_that_is_made_after_the_shop_has_given_up_the_call_is_made_once() {
    is_refunded_once(Method::Ok, Some(Method::ActsLate)).await;
}

#[tokio::test]
async fn a_refund_that_the_gateway_accepts_for_later_counts_at_once() {
    is_refunded_once(Method::Pending, None).await;
}

#[tokio::test]
async fn a_refund_that_the_gateway_refuses_lowers_no_balance_and_may_be_asked_for_again() {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, Method::Ok).await;
    house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", "declined")]).await;
    let refused = house.refund(order, 38_17).await.expect("accepted");
    assert_eq!(house.end(refused).await.status, Status::Unwound);
    let (state, back, moves) = books(&house, order).await;
    let expected = texts(&["capture succeeded 3817", "refund failed 3817"]);
    assert_eq!((&*state, back, moves), ("captured", 0, expected));
    house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", "ok")]).await;
    let again = house.refund(order, 38_17).await.expect("it is left");
    assert_eq!(house.end(again).await.status, Status::Completed);
    assert_eq!((&*books(&house, order).await.0, house.live(order)), ("refunded", 0));
    house.close().await;
}

#[tokio::test]
async fn a_refund_outlasts_a_gateway_that_is_away_for_less_than_a_day_and_fails_after_that() {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, Method::Ok).await;
    house.outside("/sandbox/down", &[]).await;
    let operation = house.refund(order, 10_00).await.expect("accepted");
    let retries = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Retry);
    house.until(operation, "a failed attempt", retries).await;
    let late = house.refund(order, 30_00).await;
    assert!(late.is_err(), "the money in flight is asked for: {late:?}");
    house.outside("/sandbox/up", &[]).await;
    assert_eq!(house.end(operation).await.status, Status::Completed);

    house.outside("/sandbox/down", &[]).await;
    let operation = house.refund(order, 10_00).await.expect("accepted");
    house.until(operation, "a failed attempt", retries).await;
    house.later(Duration::from_secs(25 * 3_600)).await;
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    house.outside("/sandbox/up", &[]).await;
    let (state, back, moves) = books(&house, order).await;
    let expected =
        texts(&["capture succeeded 3817", "refund succeeded 1000", "refund failed 1000"]);
    assert_eq!((&*state, back, moves), ("partially_refunded", 10_00, expected));
    house.close().await;
}

/// Fault: gateway: it refunds, and is away for more than a day before it could say so
/// Customer: the payment stays `captured`; the operation needs attention
/// Operator: the refund is `stuck`, which a notice says; other refunds cannot ask for its money
/// Within: 24 h
/// Ends: by `saga retry`, which finds the refund at the gateway and makes none
#[tokio::test]
async fn a_refund_that_may_have_been_made_is_never_called_failed_and_is_made_once() {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, Method::Ok).await;
    house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", "timeoutAfter")]).await;
    let operation = house.refund(order, 10_00).await.expect("accepted");
    let is_made = || {
        let lines = ledger::read(&house.ledger()).expect("the ledger can be read");
        lines.iter().any(|line| line.result == LineResult::Refunded)
    };
    let patience = Instant::now() + Duration::from_secs(10);
    while !is_made() {
        assert!(Instant::now() < patience, "the gateway does not refund");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It is made, and the gateway is away before it could say so, for more than a day.
    house.outside("/sandbox/down", &[]).await;
    let retries = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Retry) && seen.attempt > 1;
    house.until(operation, "a failed attempt", retries).await;
    house.later(Duration::from_secs(25 * 3_600)).await;
    house.until(operation, "stuck", |seen| seen.status == Status::Stuck).await;
    let (state, back, moves) = books(&house, order).await;
    let expected = texts(&["capture succeeded 3817", "refund requested 1000"]);
    assert_eq!((&*state, back, moves), ("captured", 0, expected));
    house.outside("/sandbox/up", &[]).await;
    must(&house, operation, Verb::Retry).await;
    assert_eq!(house.end(operation).await.status, Status::Completed);
    let (state, back, moves) = books(&house, order).await;
    let expected = texts(&["capture succeeded 3817", "refund succeeded 1000"]);
    assert_eq!((&*state, back, moves), ("partially_refunded", 10_00, expected));
    house.close().await;
}

#[tokio::test]
async fn a_refund_that_was_handed_over_to_a_person_keeps_no_money_from_the_next_one() {
    let house = House::open(PATIENCE).await;
    let order = shipped(&house, Method::Ok).await;
    house.outside("/sandbox/down", &[]).await;
    let retries = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Retry);
    let handed_over = house.refund(order, 30_00).await.expect("accepted");
    house.until(handed_over, "a failed attempt", retries).await;
    let running = house.refund(order, 5_00).await.expect("accepted");
    must(&house, handed_over, Verb::Pause).await;
    must(&house, handed_over, hand_over()).await;
    assert_eq!(house.end(handed_over).await.status, Status::Abandoned);
    let late = house.refund(order, 38_17).await;
    assert!(late.is_err(), "another refund runs: {late:?}");
    let next = house.refund(order, 33_17).await.expect("nobody asks for the rest");
    house.outside("/sandbox/up", &[]).await;
    for operation in [running, next] {
        assert_eq!(house.end(operation).await.status, Status::Completed);
    }
    let (state, back, moves) = books(&house, order).await;
    assert_eq!((&*state, back), ("refunded", 38_17));
    assert_eq!(moves[1], "refund failed 3000");
    house.shut().await;
}

/// Cancels an order whose money somebody has taken by hand, and perhaps given back in part, before the shop heard of it.
async fn is_cancelled(taken: &str, given_back: Option<&str>, state: &str, moves: &[&str]) -> House {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Ok).await;
    house.end(operation).await;
    let reference = house.reference(order).await;
    let capture = format!("/v1/payment_intents/{reference}/capture");
    house.outside(&capture, &[("amount_to_capture", taken)]).await;
    if let Some(amount) = given_back {
        let form = [("payment_intent", &*reference), ("amount", amount)];
        house.outside("/v1/refunds", &form).await;
    }
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    let (is, _, booked) = books(&house, order).await;
    assert_eq!((&*is, booked), (state, texts(moves)));
    house
}

#[tokio::test]
async fn a_cancelled_order_gives_back_what_somebody_took_in_part_by_hand() {
    let moves = ["refund succeeded 2000", "capture succeeded 2000"];
    is_cancelled("2000", None, "refunded", &moves).await.close().await;
}

#[tokio::test]
async fn a_cancelled_order_gives_back_what_somebody_took_and_has_not_given_back_by_hand() {
    // The refund by hand comes into the books by its webhook.
    let moves = ["refund succeeded 1500", "capture succeeded 2000"];
    is_cancelled("2000", Some("500"), "partially_refunded", &moves).await.shut().await;
}

#[tokio::test]
async fn a_cancellation_ends_although_somebody_took_all_and_gave_it_back_by_hand() {
    is_cancelled("3817", Some("3817"), "authorized", &["void failed 3817"]).await.shut().await;
}

#[tokio::test]
async fn an_order_of_which_somebody_took_a_part_by_hand_is_not_shipped_and_can_be_cancelled() {
    for method in [Method::Ok, Method::TimeoutAfter] {
        let house = House::open(PATIENCE).await;
        let (product, buyer) = (house.product(10).await, house.buyer().await);
        let (order, operation) = house.place(buyer, product, 3, method).await;
        house.end(operation).await;
        let reference = house.reference(order).await;
        let capture = format!("/v1/payment_intents/{reference}/capture");
        // The shop does not hear of it.
        house.outside(&capture, &[("amount_to_capture", "1000")]).await;
        let shipping = house.ship(order).await;
        let ended = house.end(shipping).await;
        assert_eq!(ended.status, Status::Unwound, "{ended:#?}");
        let reason = serde_json::json!({"CaptureFailed": "other_amount_captured"});
        assert_eq!(ended.reason, Some(reason));
        assert_eq!(house.status(order).await, "confirmed");
        let cancelling = house.cancel(buyer, order).await.expect("accepted");
        assert_eq!(house.end(cancelling).await.status, Status::Completed);
        let moves = ["capture failed 3817", "refund succeeded 1000", "capture succeeded 1000"];
        let (is, _, booked) = books(&house, order).await;
        assert_eq!((&*is, booked), ("refunded", texts(&moves)));
        house.close().await;
    }
}

#[tokio::test]
async fn a_cancellation_refunds_what_is_left_if_more_is_back_than_the_books_say() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, operation) = house.place(buyer, product, 3, Method::Ok).await;
    house.end(operation).await;
    let reference = house.reference(order).await;
    house.outside(&format!("/v1/payment_intents/{reference}/capture"), &[]).await;
    // The shop hears of the capture, and not of the refund.
    let found = house.shop.gateway.find(&Reference(reference.clone())).await.expect("it answers");
    let mut tx = house.engine.begin().await.expect("begin");
    let truth = Truth { authorization: found, refunds: Vec::new() };
    let mut ctx = house.context(&mut tx, Actor::Anyone);
    let applied = outside::apply(&mut ctx, order, &truth).await.expect("applied");
    assert_eq!(applied, Some(Applied::Corrected));
    tx.commit().await.expect("commit");
    let form = [("payment_intent", &*reference), ("amount", "500")];
    house.outside("/v1/refunds", &form).await;

    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    let (state, back, moves) = books(&house, order).await;
    let expected = texts(&["capture succeeded 3817", "refund succeeded 3317"]);
    assert_eq!((&*state, back, moves), ("partially_refunded", 33_17, expected));
    house.shut().await;
}
