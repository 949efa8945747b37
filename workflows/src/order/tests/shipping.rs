//! Confirming, shipping and delivering.

use super::{
    ship::{self, ShipOrder, ShipOrderRefusal},
    *,
};
use crate::testing::ctx_by;

fn shipping(order_id: Uuid) -> ShipOrder {
    let (tracking_number, carrier) = ("1Z 999".to_owned(), "UPS".to_owned());
    ShipOrder { order_id, tracking_number, carrier }
}

/// Three cups of ten are ordered. The order is pending.
async fn ordered(shop: &Shop, db: &mut PgConnection) -> (Uuid, CrowdCustomer, Placing) {
    let buyer = customer(shop, db).await;
    let cup = product(db, 1000, 10).await;
    put(shop, db, &buyer, &[(cup, 3)]).await;
    let placing = place(shop, db, &ordering(&buyer)).await.expect("it begins");
    complete(&mut ctx(shop, db), placing.order_id, &authorized(&placing)).await.expect("placed");
    (cup, buyer, placing)
}

#[tokio::test]
async fn an_order_is_confirmed_shipped_and_delivered_in_this_order_only() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, buyer, placing) = ordered(&shop, &mut db).await;
    let (order, admin) = (placing.order_id, Uuid::now_v7());

    let early = ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await;
    let pending = OrderStatus::Pending;
    assert!(matches!(early, Err(ShipOrderRefusal::InvalidStatusTransition(is)) if is == pending));
    let early = deliver_order(&mut ctx(&shop, &mut db), order).await;
    assert!(
        matches!(early, Err(DeliverOrderRefusal::InvalidStatusTransition(is)) if is == pending)
    );
    let unknown = confirm_order(&mut ctx(&shop, &mut db), Uuid::now_v7()).await;
    assert!(matches!(unknown, Err(ConfirmOrderRefusal::OrderNotFound)), "{unknown:?}");
    confirm_order(&mut ctx_by(&shop, &mut db, admin), order).await.expect("confirmed");
    let again = confirm_order(&mut ctx(&shop, &mut db), order).await;
    assert!(matches!(again, Err(ConfirmOrderRefusal::InvalidStatusTransition(_))), "{again:?}");

    let begun = ship::begin(&mut ctx_by(&shop, &mut db, admin), &shipping(order)).await;
    let begun = begun.expect("it begins");
    assert_eq!(begun.amount, placing.total_amount);
    let being_shipped = view(&shop, &mut db, order).await;
    assert_eq!((being_shipped.status.as_str(), being_shipped.tracking_number), ("confirmed", None));
    let twice = ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await;
    assert!(matches!(twice, Err(ShipOrderRefusal::BeingShipped)), "{twice:?}");
    let late = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    assert!(matches!(late, Err(CancelOrderRefusal::AlreadyShipped)), "{late:?}");
    let seen = cancel::after_placement(&mut ctx(&shop, &mut db), order, None).await.expect("seen");
    assert_eq!(seen, Some(cancel::AfterPlacement::Shipped));

    let shipped = ship::complete(&mut ctx_by(&shop, &mut db, admin), order, "instance-1").await;
    assert!(shipped.expect("shipped"));
    let again = ship::complete(&mut ctx(&shop, &mut db), order, "instance-1").await;
    assert!(!again.expect("asked"), "it is shipped once");
    assert_eq!(stock(&mut db, cup).await, (7, 0, 0), "the stock is deducted");
    let shipped = view(&shop, &mut db, order).await;
    assert_eq!(shipped.status, "shipped");
    assert_eq!(shipped.payment.status, "captured");
    assert_eq!(shipped.tracking_number.as_deref(), Some("1Z 999"));
    deliver_order(&mut ctx_by(&shop, &mut db, admin), order).await.expect("delivered");
    assert_eq!(view(&shop, &mut db, order).await.status, "delivered");

    let events = ["OrderPlaced", "OrderConfirmed", "OrderShipped", "OrderDelivered"];
    assert_eq!(story(&mut db, order).await, events);
    let recorded = crate::events::of_aggregate(&mut db, order).await.expect("read");
    assert_eq!(recorded[1].payload["confirmedBy"], admin.to_string());
    assert_eq!(recorded[2].payload.as_object().map(|fields| fields.len()), Some(5));
    let wanted = kinds(&[("shop.order.placed.v1", 1), ("shop.order.shipped.v1", 2)]);
    assert_eq!(told(&mut db, order).await, wanted);
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    let moves: Vec<_> = moves.iter().map(|m| (m.kind.as_str(), m.state.as_str())).collect();
    assert_eq!(moves, [("authorize", "succeeded"), ("capture", "succeeded")]);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_whose_money_is_refused_stays_confirmed_and_may_be_shipped_or_cancelled_later() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, buyer, placing) = ordered(&shop, &mut db).await;
    let order = placing.order_id;
    confirm_order(&mut ctx(&shop, &mut db), order).await.expect("confirmed");
    for _ in 0..2 {
        ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await.expect("it begins");
        ship::withdraw(&mut ctx(&shop, &mut db), order, "expired").await.expect("withdrawn");
    }
    ship::withdraw(&mut ctx(&shop, &mut db), order, "expired")
        .await
        .expect("nothing is left to do");
    assert_eq!(view(&shop, &mut db, order).await.status, "confirmed");
    assert_eq!(stock(&mut db, cup).await, (10, 3, 3));
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    let failed =
        moves.iter().filter(|m| (m.kind.as_str(), m.state.as_str()) == ("capture", "failed"));
    assert_eq!(failed.count(), 2);
    assert_eq!(moves[1].reason.as_deref(), Some("expired"));
    let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    assert!(matches!(begun, Ok(Cancelling::Refund(_))), "{begun:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_of_which_another_amount_was_taken_by_hand_is_not_shipped_and_can_be_cancelled() {
    use super::outside::{applied, paid, usd};
    use crate::payment::gateway::{AuthorizationStatus, RefundStatus};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    for is_taken_in_part in [true, false] {
        let (paid, buyer) = paid(&shop, &mut db).await;
        let order = paid.order;
        confirm_order(&mut ctx(&shop, &mut db), order).await.expect("confirmed");
        let mut truth = paid.captured(&[("re_1", 1_00, RefundStatus::Succeeded)]);
        if is_taken_in_part {
            let (captured, refunded) = (usd(10_00), usd(0));
            let found = truth.authorization.as_mut().expect("there is one");
            found.status = AuthorizationStatus::Captured { captured, refunded };
            truth.refunds.clear();
        }
        applied(&shop, &mut db, &paid, &truth).await;
        let kept = if is_taken_in_part { usd(10_00) } else { usd(37_17) };
        let refused = ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await;
        let Err(ShipOrderRefusal::OtherAmountTaken(is)) = refused else { panic!("{refused:?}") };
        assert_eq!(is, kept);
        let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
        let Ok(Cancelling::Refund(back)) = begun else { panic!("{begun:?}") };
        assert_eq!(back.amount, kept);
    }
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_whose_shipment_was_ended_by_a_person_is_shipped_anew_and_one_under_way_is_not() {
    use crate::sagas::ship_order::{ShipOrderError, ship_order};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (_, _, placing) = ordered(&shop, &mut db).await;
    let order = placing.order_id;
    confirm_order(&mut ctx(&shop, &mut db), order).await.expect("confirmed");
    // The mark of a shipment that does not run any more.
    ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await.expect("it begins");
    ship_order(&mut ctx(&shop, &mut db), &shipping(order)).await.expect("a new one runs");
    let twice = ship_order(&mut ctx(&shop, &mut db), &shipping(order)).await;
    let refused = matches!(twice, Err(ShipOrderError::Refused(ShipOrderRefusal::BeingShipped)));
    assert!(refused, "{twice:?}");
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    let moves: Vec<_> = moves.iter().map(|m| (m.kind.as_str(), m.state.as_str())).collect();
    let expected = [("authorize", "succeeded"), ("capture", "failed"), ("capture", "requested")];
    assert_eq!(moves, expected);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_goes_only_with_a_tracking_number_a_carrier_and_reserved_money() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (_, _, placing) = ordered(&shop, &mut db).await;
    let order = placing.order_id;
    confirm_order(&mut ctx(&shop, &mut db), order).await.expect("confirmed");
    for (tracking_number, carrier) in [(" ", "UPS"), ("1Z", ""), ("1\u{0}Z", "UPS")] {
        let command = ShipOrder {
            order_id: order,
            tracking_number: tracking_number.to_owned(),
            carrier: carrier.to_owned(),
        };
        let refused = ship::begin(&mut ctx(&shop, &mut db), &command).await;
        match refused {
            Err(ShipOrderRefusal::MissingTracking) => assert_eq!(tracking_number, " "),
            Err(ShipOrderRefusal::InvalidText(_)) => assert_ne!(tracking_number, " "),
            other => panic!("{command:?}: {other:?}"),
        }
    }
    let long = ShipOrder { carrier: "x".repeat(101), ..shipping(order) };
    let refused = ship::begin(&mut ctx(&shop, &mut db), &long).await;
    assert!(matches!(refused, Err(ShipOrderRefusal::InvalidText(_))), "{refused:?}");
    sqlx::query("update shop.payment set state = 'voided'").execute(&mut *db).await.expect("void");
    let refused = ship::begin(&mut ctx(&shop, &mut db), &shipping(order)).await;
    assert!(matches!(refused, Err(ShipOrderRefusal::NothingReserved)), "{refused:?}");
    drop(db);
    database.close().await;
}
