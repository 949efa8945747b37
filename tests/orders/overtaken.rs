//! Money that somebody at the provider takes while it is being reserved, for an authorization that is taken back.

use std::time::Duration;

use stepwise_adapters::sandbox::{
    SandboxMethod as Method,
    ledger::{self, Op},
};
use stepwise_engine::{Start, Status, operate::Verb};
use stepwise_tests::{Buyer, House};
use stepwise_workflows::{
    gateway_events::{self, Look, Reception},
    money::{Currency, Money},
    order::authorize::AuthorizePaymentRefusal as Refusal,
    payment::{
        gateway::{DisputeStatus, GatewayEvent, News, Reference},
        parked::Misfit,
    },
    sagas::{authorize_payment::AuthorizePaymentError, reconcile_payments::ReconcilePayments},
    shop::Actor,
};
use uuid::Uuid;

use crate::decisions::must;

const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until the gateway has reserved the order's money so many times, and answers the last reference. The shop has not heard of it.
async fn reserved(house: &House, order: Uuid, times: usize) -> String {
    let look = async {
        loop {
            let lines = ledger::read(&house.ledger()).expect("readable");
            let order = order.to_string();
            let is_it = |line: &&ledger::Line| line.op == Op::Confirm && line.order_id == order;
            let found: Vec<_> = lines.iter().filter(is_it).collect();
            if found.len() == times {
                return found[times - 1].reference.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("it is reserved")
}

/// Somebody at the provider takes the money, and may give some of it back.
async fn take(house: &House, reference: &str, given_back: Option<&str>) {
    house.outside(&format!("/v1/payment_intents/{reference}/capture"), &[]).await;
    if let Some(amount) = given_back {
        house.outside("/v1/refunds", &[("payment_intent", reference), ("amount", amount)]).await;
    }
}

/// The shop asks the gateway about the payments that are due now.
async fn reconcile_now(house: &House) {
    let mut tx = house.engine.begin().await.expect("begin");
    let start = Start::new("payments", 100);
    let started = house.engine.start::<ReconcilePayments>(&mut tx, start).await;
    tx.commit().await.expect("commit");
    assert_eq!(house.end(started.expect("it starts").id).await.status, Status::Completed);
}

/// A placed order whose authorization has lapsed, and the saga that authorizes another payment.
async fn paying_again(house: &House, product: Uuid) -> (Buyer, Uuid, Uuid) {
    let buyer = house.buyer().await;
    let (order, placement) = house.place(buyer, product, 3, Method::Ok).await;
    assert_eq!(house.end(placement).await.status, Status::Completed);
    house.lapse(order).await;
    let operation = house.authorize(buyer, order, Method::Slow).await.expect("accepted");
    (buyer, order, operation)
}

/// The states of the order's payments, in the order in which they were made.
async fn states(house: &House, order: Uuid) -> Vec<String> {
    sqlx::query_scalar("select state from shop.payment where order_id = $1 order by payment_id")
        .bind(order)
        .fetch_all(house.pool())
        .await
        .expect("readable")
}

#[tokio::test]
async fn money_that_was_taken_at_the_provider_is_given_back_when_the_placement_is_cancelled() {
    let house = House::open(PATIENCE).await;
    for (method, given_back, moves) in [
        (Method::Slow, None, &["authorize", "capture", "refund"][..]),
        (Method::Slow, Some("400"), &["authorize", "capture", "refund", "refund"]),
        (Method::TimeoutAfter, None, &["authorize", "capture", "refund"]),
    ] {
        let (product, buyer) = (house.product(10).await, house.buyer().await);
        let (order, placement) = house.place(buyer, product, 3, method).await;
        let reference = reserved(&house, order, 1).await;
        take(&house, &reference, given_back).await;
        let cancelling = house.cancel(buyer, order).await.expect("accepted");
        assert_eq!(house.end(placement).await.status, Status::Unwound);
        assert_eq!(house.end(cancelling).await.status, Status::Completed);
        assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
        assert_eq!(house.stock(product).await, (10, 0));

        reconcile_now(&house).await;
        let moves = moves.iter().map(|kind| (*kind).to_owned()).collect();
        assert_eq!(house.payment(order).await, ("refunded".to_owned(), moves));
    }
    house.close().await;
}

#[tokio::test]
async fn money_that_was_taken_at_the_provider_is_given_back_when_the_order_is_cancelled_meanwhile()
{
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (buyer, order, operation) = paying_again(&house, product).await;
    let reference = reserved(&house, order, 2).await;
    take(&house, &reference, None).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("cancelled", 0));
    reconcile_now(&house).await;
    assert_eq!(states(&house, order).await, ["voided", "refunded"]);
    house.close().await;
}

#[tokio::test]
async fn an_order_is_paid_again_after_taken_money_was_given_back() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (buyer, order, operation) = paying_again(&house, product).await;
    let reference = reserved(&house, order, 2).await;
    take(&house, &reference, None).await;
    must(&house, operation, Verb::Cancel).await;
    assert_eq!(house.end(operation).await.status, Status::Unwound);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 0));
    let early = house.authorize(buyer, order, Method::Ok).await;
    assert!(matches!(early, Err(AuthorizePaymentError::Refused(Refusal::Busy))), "{early:?}");
    reconcile_now(&house).await;
    assert_eq!(states(&house, order).await, ["voided", "refunded"]);
    let again = house.authorize(buyer, order, Method::Ok).await.expect("accepted");
    assert_eq!(house.end(again).await.status, Status::Completed);
    assert_eq!((house.live(order), house.shown(order).await.as_str()), (1, "authorized"));
    house.close().await;
}

/// An event of the gateway comes, and is taken in as the front door does.
async fn hear(house: &House, id: &str, news: News) -> Reception {
    let event = GatewayEvent { id: id.to_owned(), name: id.to_owned(), at: None, news };
    let mut tx = house.engine.begin().await.expect("begin");
    let looked = gateway_events::look(&house.engine, &mut tx, &event).await.expect("looked");
    let reception = match looked {
        Look::Done(reception) => reception,
        Look::Ask(question) => {
            let truth = gateway_events::ask(&*house.shop.gateway, &question).await;
            let mut ctx = house.context(&mut tx, Actor::System);
            let truth = truth.expect("it answers");
            let concluded = gateway_events::conclude(&mut ctx, &event, &question, &truth).await;
            concluded.expect("concluded")
        }
    };
    tx.commit().await.expect("commit");
    reception
}

#[tokio::test]
async fn a_refund_and_a_dispute_that_overtake_the_authorization_are_heard_when_they_come_again() {
    let house = House::open(PATIENCE).await;
    let product = house.product(10).await;
    let (_, order, operation) = paying_again(&house, product).await;
    let reference = reserved(&house, order, 2).await;
    take(&house, &reference, Some("400")).await;
    let authorization = Reference(reference);
    let made = house.shop.gateway.refunds(&authorization).await.expect("it answers");
    let [refund] = made.try_into().expect("one refund");
    let refunded = News::Refund { authorization: authorization.clone(), refund };
    let amount = Money::from_minor(7_00, Currency::USD).expect("small");
    let (dispute, status) = (Reference("dp_1".to_owned()), DisputeStatus::Open);
    let disputed = News::Dispute { authorization, reference: dispute, amount, status };
    assert_eq!(hear(&house, "evt_refund", refunded.clone()).await, Reception::Later);
    assert_eq!(hear(&house, "evt_dispute", disputed.clone()).await, Reception::Later);

    assert_eq!(house.end(operation).await.status, Status::Completed);
    assert_eq!(hear(&house, "evt_refund", refunded.clone()).await, Reception::Applied);
    assert_eq!(states(&house, order).await, ["voided", "partially_refunded"]);
    let parked = Reception::Parked(Misfit::Dispute);
    assert_eq!(hear(&house, "evt_dispute", disputed.clone()).await, parked);
    for (id, news) in [("evt_refund", refunded), ("evt_dispute", disputed)] {
        assert_eq!(hear(&house, id, news).await, Reception::Nothing, "{id}");
    }
    // The sandbox's book knows no disputes.
    house.shut().await;
}
