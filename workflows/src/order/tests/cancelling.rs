//! Cancelling, and what follows once the money is back.

use super::*;

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_back_at_once_and_its_money_after() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (buyer, other) = (customer(&shop, &mut db).await, customer(&shop, &mut db).await);
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 3)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let order = placing.order_id;
    complete(&mut ctx(&shop, &mut db), order, &authorized(&placing)).await.expect("done");

    let foreign = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &other)).await;
    assert!(matches!(foreign, Err(CancelOrderRefusal::OrderNotFound)), "{foreign:?}");
    let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    let Ok(Cancelling::Refund(back)) = begun else { panic!("{begun:?}") };
    assert_eq!(back.amount, placing.total_amount);
    assert!(matches!(&back.how, HowBack::Void(by) if by.0 == format!("pi_{}", placing.payment_id)));
    assert_eq!(stock(&mut db, cup).await, (10, 0, 0));
    let cancelled = view(&shop, &mut db, order).await;
    assert_eq!(
        (cancelled.status.as_str(), cancelled.payment.status.as_str()),
        ("cancelled", "authorized")
    );
    let again = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    assert!(matches!(again, Ok(Cancelling::AlreadyCancelled)), "{again:?}");

    let refund = Refunded {
        refund_id: "re_1".to_owned(),
        amount: back.amount,
        key: "instance-1".to_owned(),
        captured: false,
        row: Some(back.row),
        taken: None,
    };
    assert!(refund::complete(&mut ctx(&shop, &mut db), order, &refund).await.expect("told"));
    // It is told once: the counts below say so.
    assert!(refund::complete(&mut ctx(&shop, &mut db), order, &refund).await.expect("asked"));
    assert_eq!(view(&shop, &mut db, order).await.payment.status, "voided");
    assert_eq!(story(&mut db, order).await, ["OrderPlaced", "OrderCancelled"]);
    assert_eq!(story(&mut db, placing.payment_id).await, ["PaymentAuthorized", "PaymentRefunded"]);
    let wanted = kinds(&[
        ("shop.order.placed.v1", 1),
        ("shop.order.cancelled.v1", 2),
        ("shop.payment.refund-processed.v1", 3),
    ]);
    assert_eq!(told(&mut db, order).await, wanted);
    let moves = transactions_of(&mut db, placing.payment_id).await.expect("read");
    let moves: Vec<_> = moves.iter().map(|m| (m.kind.as_str(), m.state.as_str())).collect();
    assert_eq!(moves, [("authorize", "succeeded"), ("void", "succeeded")]);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_cancelled_while_it_is_placed_ends_cancelled_without_a_word_to_partners() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 3)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let order = placing.order_id;
    let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    assert!(matches!(begun, Ok(Cancelling::SignalPlacement)), "{begun:?}");
    assert_eq!(view(&shop, &mut db, order).await.status, "placing", "the placement decides");
    release(&mut ctx(&shop, &mut db), order, &Ending::Cancelled, None).await.expect("released");
    let ended = view(&shop, &mut db, order).await;
    assert_eq!((ended.status.as_str(), ended.payment.status.as_str()), ("cancelled", "voided"));
    assert_eq!(stock(&mut db, cup).await, (10, 0, 0));
    assert!(told(&mut db, order).await.is_empty());
    assert!(story(&mut db, order).await.is_empty());
    let again = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
    assert!(matches!(again, Ok(Cancelling::AlreadyCancelled)), "{again:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_that_is_on_its_way_or_failed_cannot_be_cancelled() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 3)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let order = placing.order_id;
    for (status, is_shipped) in [("shipped", true), ("delivered", true), ("failed", false)] {
        sqlx::query("update shop.\"order\" set status = $1")
            .bind(status)
            .execute(&mut *db)
            .await
            .expect("changed");
        let refused = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(order, &buyer)).await;
        match refused {
            Err(CancelOrderRefusal::AlreadyShipped) => assert!(is_shipped, "{status}"),
            Err(CancelOrderRefusal::InvalidStatusTransition(OrderStatus::Failed)) => {
                assert!(!is_shipped, "{status}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    let blank = CancelOrder { reason: " ".to_owned(), ..cancelling(order, &buyer) };
    let refused = cancel::begin(&mut ctx(&shop, &mut db), &blank).await;
    assert!(matches!(refused, Err(CancelOrderRefusal::InvalidReason(_))), "{refused:?}");
    drop(db);
    database.close().await;
}
