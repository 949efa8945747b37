//! A customer's accepted decision is never lost, whatever the placement is at: paused, stuck, handed over or faster.

use std::time::Duration;

use chrono::Utc;
use sqlx::Row as _;
use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{
    Start, Status, WaitingOn,
    inspect::Summary,
    operate::{Instruction, Operated, Verb},
};
use stepwise_tests::{Buyer, House};
use stepwise_workflows::{
    cart::{AddItem, add_item},
    gateway_events::{self, Look, Reception},
    order::cancel::{self, CancelOrderRefusal, Cancelling},
    payment::gateway::{
        Authorization, AuthorizationStatus, GatewayEvent, GatewayEventKind, News, Reference,
    },
    sagas::{
        cancel_order::{self, CancelOrder, CancelOrderError},
        place_order::APPROVAL,
    },
    shop::Actor,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_millis(900);

async fn operate(house: &House, id: Uuid, verb: Verb) -> Operated {
    let instruction = Instruction {
        id: Uuid::now_v7().to_string(),
        by: "ann".to_owned(),
        reason: "the customer called".to_owned(),
        verb,
        undo: None,
        seq: None,
    };
    let mut tx = house.pool().begin().await.expect("begin");
    let operated = house.engine.operate(&mut tx, id, &instruction).await.expect("the database");
    tx.commit().await.expect("commit");
    operated
}

pub(crate) async fn must(house: &House, id: Uuid, verb: Verb) {
    let operated = operate(house, id, verb).await;
    assert!(matches!(operated, Operated::Applied(_)), "{operated:?}");
}

pub(crate) fn hand_over() -> Verb {
    Verb::HandOver { to: "finance".to_owned() }
}

/// An order that waits for its customer's approval: (order, its placement).
async fn awaiting_approval(house: &House, buyer: Buyer, product: Uuid) -> (Uuid, Uuid) {
    let (order, placement) = house.place(buyer, product, 3, Method::Challenge).await;
    let waits = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Signal);
    house.until(placement, "awaiting approval", waits).await;
    (order, placement)
}

/// The customer approves at the gateway, which reserves the money under the reference that is answered.
async fn approve(house: &House, placement: Uuid) -> Reference {
    let state = sqlx::query(
        "select state->'AwaitingApproval'->>'url', state->'AwaitingApproval'->>'reference'
        from saga.instance where saga_id = $1",
    )
    .bind(placement)
    .fetch_one(house.pool())
    .await
    .expect("the placement");
    let (page, reference): (String, String) = (state.get(0), state.get(1));
    let approved = reqwest::Client::new().post(page).body("decision=approve").send().await;
    approved.expect("the gateway answers");
    Reference(reference)
}

/// The gateway tells the shop of it.
async fn report(house: &House, reference: &Reference) -> Reception {
    let found = house.shop.gateway.find(reference).await.expect("it answers").expect("it is known");
    receive(house, &format!("evt_{}", reference.0), found).await
}

/// An event of the gateway about this authorization comes.
async fn receive(house: &House, id: &str, found: Authorization) -> Reception {
    let event = authorized(id, found);
    let mut tx = house.pool().begin().await.expect("begin");
    let looked =
        gateway_events::look(&house.engine, &mut tx, &event).await.expect("it can be received");
    tx.commit().await.expect("commit");
    match looked {
        Look::Done(received) => received,
        Look::Ask(question) => panic!("the books say something else: {question:?}"),
    }
}

/// The event that money is reserved under this authorization.
fn authorized(id: &str, found: Authorization) -> GatewayEvent {
    GatewayEvent {
        id: id.to_owned(),
        name: "payment_intent.amount_capturable_updated".to_owned(),
        at: Some(Utc::now()),
        news: News::Authorization(GatewayEventKind::Authorized, found),
    }
}

/// The buyer's cart can be changed again.
async fn cart_is_open(house: &House, buyer: Buyer, product: Uuid) -> bool {
    let mut tx = house.engine.begin().await.expect("begin");
    let item =
        AddItem { customer_id: buyer.id, product_id: product, variant_id: None, quantity: 1 };
    let mut ctx = house.context(&mut tx, Actor::Customer(buyer.id));
    let added = add_item(&mut ctx, &item).await.is_ok();
    tx.rollback().await.expect("rollback");
    added
}

/// The order has ended, and holds neither stock nor cart.
async fn must_end(house: &House, (buyer, product, order): (Buyer, Uuid, Uuid), status: &str) {
    assert_eq!(house.status(order).await, status);
    assert_eq!(house.stock(product).await, (10, 0), "the stock is back");
    assert!(cart_is_open(house, buyer, product).await, "the cart is open");
}

/// Fault: saga: a customer cancels while an operator has paused the placement
/// Customer: 202 with an operation, which runs until the placement is resumed; then the order ends `cancelled`
/// Operator: the placement is `paused` with the notice of its pause; its journal has the kept signal
/// Within: at once
/// Ends: when the placement is resumed, whatever it was at
#[tokio::test]
async fn a_cancellation_of_a_paused_placement_is_done_when_it_is_resumed_whatever_it_was_at() {
    let house = House::open(PATIENCE).await;
    for method in [Method::TimeoutAfter, Method::Challenge] {
        let (product, buyer) = (house.product(10).await, house.buyer().await);
        let (order, placement) = house.place(buyer, product, 3, method).await;
        let is_at = |seen: &Summary| match method {
            Method::Challenge => seen.waiting_on == Some(WaitingOn::Signal),
            _ => seen.pending.to_string().contains("Confirm"),
        };
        house.until(placement, "where it is to be paused", is_at).await;
        must(&house, placement, Verb::Pause).await;
        let cancelling = house.cancel(buyer, order).await.expect("accepted");
        assert_eq!(house.cancel(buyer, order).await.expect("the same answer"), cancelling);
        must(&house, placement, Verb::Resume).await;
        assert_eq!(house.end(placement).await.status, Status::Unwound, "{method:?}");
        assert_eq!(house.end(cancelling).await.status, Status::Completed, "{method:?}");
        must_end(&house, (buyer, product, order), "cancelled").await;
        assert_eq!(house.live(order), 0);
        assert_eq!(house.cancel(buyer, order).await.expect("the same answer again"), cancelling);
    }
    house.close().await;
}

/// Fault: saga: a customer approves a payment while an operator has paused the placement
/// Customer: the order is placed once the placement is resumed, also after the time to approve is over
/// Operator: the placement is `paused`; its journal has the kept signal
/// Within: at once
/// Ends: when the placement is resumed
#[tokio::test]
async fn an_approval_that_comes_while_the_placement_is_paused_places_the_order_when_it_is_resumed()
{
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = awaiting_approval(&house, buyer, product).await;
    must(&house, placement, Verb::Pause).await;
    let reference = approve(&house, placement).await;
    assert_eq!(report(&house, &reference).await, Reception::Signalled);
    assert_eq!(report(&house, &reference).await, Reception::Nothing, "once");
    house.later(APPROVAL * 2).await;
    must(&house, placement, Verb::Resume).await;
    assert_eq!(house.end(placement).await.status, Status::Completed);
    assert_eq!((house.status(order).await.as_str(), house.live(order)), ("pending", 1));
    house.close().await;
}

#[tokio::test]
async fn an_event_that_comes_while_the_placement_asks_the_gateway_makes_it_ask_once_more() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = awaiting_approval(&house, buyer, product).await;
    let reference: String = sqlx::query_scalar(
        "select state->'AwaitingApproval'->>'reference' from saga.instance where saga_id = $1",
    )
    .bind(placement)
    .fetch_one(house.pool())
    .await
    .expect("the placement");
    let found = house.shop.gateway.find(&Reference(reference)).await.expect("it answers");
    let found = found.expect("it is known");
    let is_echo = async |found: &Authorization| {
        let event = authorized("evt_0", found.clone());
        gateway_events::echo::is_echo(house.pool(), &event).await.expect("readable")
    };
    assert!(!is_echo(&found).await, "the placement waits for it");
    house.switch("down").await;
    assert_eq!(receive(&house, "evt_1", found.clone()).await, Reception::Signalled);
    let asks = |seen: &Summary| seen.pending.to_string().contains("Ask");
    house.until(placement, "asking", asks).await;
    assert!(!is_echo(&found).await, "the answer on its way may be older");
    assert_eq!(receive(&house, "evt_2", found).await, Reception::Signalled);
    let other = house.buyer().await;
    let (trying, confirming) = house.place(other, product, 3, Method::Ok).await;
    house.until(confirming, "trying", |seen| seen.attempt > 0).await;
    let (reference, order_id) = (Reference("pi_new".to_owned()), Some(trying));
    let amount = house.amount(trying).await;
    let status = AuthorizationStatus::Authorized;
    let echo = Authorization { reference, order_id, amount, status };
    assert!(is_echo(&echo).await, "the placement learns it from its own call");
    house.switch("up").await;
    let waits = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Signal);
    house.until(placement, "awaiting approval again", waits).await;
    let answers: i64 = sqlx::query_scalar(
        "select count(*) from saga.journal where saga_id = $1 and kind = 'outcome' and event::text like '%ApprovalRequired%'",
    )
    .bind(placement)
    .fetch_one(house.pool())
    .await
    .expect("the journal");
    assert_eq!(answers, 3, "of the confirm, and of both questions");
    house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(placement).await.status, Status::Unwound);
    assert_eq!(house.end(confirming).await.status, Status::Completed);
    house.close().await;
}

/// Fault: saga: a customer cancels while the placement is stuck unwinding for a failed payment
/// Customer: 202 with an operation, which fails with 409 `invalid_status_transition` when the order has ended `failed`
/// Operator: the placement is `stuck`, with a notice
/// Within: at once
/// Ends: when an operator has dealt with what is stuck (`skip`, `done`, `retry`)
#[tokio::test]
async fn a_cancellation_of_a_placement_that_is_stuck_unwinding_for_another_reason_ends_with_it() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = awaiting_approval(&house, buyer, product).await;
    // Approved unheard, taken by somebody else, and expired while the gateway is away: the money can no longer be voided, and is not refunded.
    let reference = approve(&house, placement).await;
    let amount = house.shop.gateway.find(&reference).await.expect("it answers");
    let amount = amount.expect("it is known").amount;
    house.shop.gateway.capture("by hand", &reference, amount).await.expect("it can be taken");
    house.outside("/sandbox/misbehave", &[("on", "refund"), ("method", "declined")]).await;
    house.switch("down").await;
    house.later(APPROVAL).await;
    let asks = |seen: &Summary| seen.waiting_on == Some(WaitingOn::Retry);
    house.until(placement, "asking a last time", asks).await;
    house.later(APPROVAL).await;
    house.until(placement, "unwinding", |seen| seen.status == Status::Unwinding).await;
    house.switch("up").await;
    let stuck = |seen: &Summary| seen.status == Status::Stuck;
    house.until(placement, "stuck", stuck).await;
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.cancel(buyer, order).await.expect("the same answer"), cancelling);
    // The void and the closing of the authorization, one after the other.
    while !house.until(placement, "settled", |s| s.is_final() || stuck(s)).await.is_final() {
        must(&house, placement, Verb::Skip).await;
        let moved = |seen: &Summary| !stuck(seen) || seen.last_error.is_some();
        house.until(placement, "going on", moved).await;
    }
    assert_eq!(house.end(placement).await.status, Status::Unwound);
    let cancellation = house.end(cancelling).await;
    assert_eq!(cancellation.status, Status::Unwound, "it is not cancelled: it has failed");
    assert_eq!(cancellation.reason, Some(serde_json::json!("OrderFailed")));
    must_end(&house, (buyer, product, order), "failed").await;
    let again = house.cancel(buyer, order).await;
    let Err(CancelOrderError::Refused(again)) = again else { panic!("{again:?}") };
    assert!(matches!(again, CancelOrderRefusal::InvalidStatusTransition(_)), "{again:?}");
    house.shut().await;
}

/// Fault: saga: an operator hands a placement over
/// Customer: the order is `failed`, or `cancelled` if they had cancelled; stock and cart are free; the operation fails with 409 `operation_abandoned`
/// Operator: the placement is `abandoned`, a notice says to whom, its journal lists what stands outside
/// Within: at once
/// Ends: with the verb
#[tokio::test]
async fn a_placement_that_is_handed_over_ends_its_order_as_the_customer_has_asked_for() {
    let house = House::open(PATIENCE).await;
    for (asks, status, ends) in
        [(false, "failed", None), (true, "cancelled", Some(Status::Completed))]
    {
        let (product, buyer) = (house.product(10).await, house.buyer().await);
        let (order, placement) = awaiting_approval(&house, buyer, product).await;
        must(&house, placement, Verb::Pause).await;
        let cancelling = match asks {
            true => Some(house.cancel(buyer, order).await.expect("accepted")),
            false => None,
        };
        must(&house, placement, hand_over()).await;
        assert_eq!(house.end(placement).await.status, Status::Abandoned);
        must_end(&house, (buyer, product, order), status).await;
        if let Some(cancelling) = cancelling {
            assert_eq!(Some(house.end(cancelling).await.status), ends);
        }
    }
    house.shut().await;
}

#[tokio::test]
async fn an_order_that_was_placed_although_a_cancellation_was_accepted_is_cancelled_then() {
    let house = House::open(PATIENCE).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (order, placement) = awaiting_approval(&house, buyer, product).await;
    // The cancellation is accepted, and its signal never reaches the placement.
    let mut tx = house.engine.begin().await.expect("begin");
    let command = cancel::CancelOrder {
        order_id: order,
        reason: "changed my mind".to_owned(),
        customer_id: Some(buyer.id),
    };
    let mut ctx = house.context(&mut tx, Actor::Customer(buyer.id));
    let begun = cancel::begin(&mut ctx, &command).await.expect("accepted");
    assert_eq!(begun, Cancelling::SignalPlacement);
    let input = cancel_order::Input::PlacementUnwinds(order);
    let start = Start::new(order.to_string(), input);
    let saga = house.engine.start::<CancelOrder>(&mut tx, start).await.expect("started");
    let ended = cancel_order::Signal::PlacementEnded;
    house
        .engine
        .signal_at_end::<CancelOrder>(&mut tx, placement, saga.id, "placement-ended", &ended)
        .await
        .expect("written");
    tx.commit().await.expect("commit");
    let cancelling = saga.id;
    let reference = approve(&house, placement).await;
    assert_eq!(report(&house, &reference).await, Reception::Signalled);
    assert_eq!(house.end(placement).await.status, Status::Completed);
    assert_eq!(house.end(cancelling).await.status, Status::Completed);
    must_end(&house, (buyer, product, order), "cancelled").await;
    assert_eq!(house.live(order), 0, "the money is given back");
    house.close().await;
}
