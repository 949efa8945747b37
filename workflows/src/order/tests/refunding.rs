//! Giving back money that was taken.

use super::{
    outside::{applied, paid, texts, usd},
    races::all_at_once,
    *,
};
use crate::{
    money::{Currency, Money},
    order::{
        outside::Applied,
        refund::{RefundPayment, RefundPaymentRefusal, Refunding},
    },
    payment::{
        PaymentState,
        gateway::{AuthorizationStatus, Reference, RefundStatus},
    },
};

/// A key that differs by the refund.
fn key(row: Uuid) -> String {
    format!("instance-{row}")
}

pub(super) async fn begun(
    shop: &Shop,
    db: &mut PgConnection,
    order_id: Uuid,
    amount: Money,
) -> Result<Refunding, RefundPaymentRefusal> {
    refund::begin(&mut ctx(shop, db), &RefundPayment { order_id, amount }).await
}

/// The gateway has given the money back.
pub(super) async fn done(
    shop: &Shop,
    db: &mut PgConnection,
    order: Uuid,
    row: Uuid,
    amount: Money,
) {
    let refund_id = format!("re_{row}");
    let (row, key) = (Some(row), key(row));
    let refund = Refunded { row, refund_id, amount, key, captured: true, taken: None };
    assert!(refund::complete(&mut ctx(shop, db), order, &refund).await.expect("told"));
}

/// Ships an order, whose money is taken by that.
pub(super) async fn shipped(shop: &Shop, db: &mut PgConnection, order_id: Uuid) {
    confirm_order(&mut ctx(shop, db), order_id).await.expect("confirmed");
    let (tracking_number, carrier) = ("1Z".to_owned(), "UPS".to_owned());
    let command = ship::ShipOrder { order_id, tracking_number, carrier };
    ship::begin(&mut ctx(shop, db), &command).await.expect("it begins");
    assert!(ship::complete(&mut ctx(shop, db), order_id, "key").await.expect("shipped"));
}

#[tokio::test]
async fn refunds_in_part_add_up_to_what_was_taken_and_are_told_one_by_one() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    shipped(&shop, &mut db, paid.order).await;
    let first = begun(&shop, &mut db, paid.order, usd(10_00)).await.expect("it begins");
    assert_eq!(first.reference, paid.reference);
    let second = begun(&shop, &mut db, paid.order, usd(20_00)).await.expect("it begins");
    // The amount that was asked for is no longer left.
    let refused = begun(&shop, &mut db, paid.order, usd(8_18)).await;
    let Err(RefundPaymentRefusal::RefundExceedsPayment(left)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(left, usd(8_17));
    let (state, back, _) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*back), ("captured", "0.00 USD"), "nothing is back yet");
    let version = view(&shop, &mut db, paid.order).await.version;
    done(&shop, &mut db, paid.order, second.row, usd(20_00)).await;
    let refunded = view(&shop, &mut db, paid.order).await.version;
    assert_ne!(refunded, version, "the order shows another payment, so it has another entity tag");
    done(&shop, &mut db, paid.order, second.row, usd(20_00)).await;
    let (state, back, _) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*back), ("partially_refunded", "20.00 USD"));
    deliver_order(&mut ctx(&shop, &mut db), paid.order).await.expect("delivered");
    done(&shop, &mut db, paid.order, first.row, usd(10_00)).await;
    let last = begun(&shop, &mut db, paid.order, usd(8_17)).await.expect("a delivered order");
    done(&shop, &mut db, paid.order, last.row, usd(8_17)).await;
    let (state, back, moves) = paid.books(&shop, &mut db).await;
    let expected = [
        "capture succeeded 38.17 -",
        "refund succeeded 10 -",
        "refund succeeded 20 -",
        "refund succeeded 8.17 -",
    ];
    assert_eq!((&*state, &*back, moves), ("refunded", "38.17 USD", texts(&expected)));
    let refused = begun(&shop, &mut db, paid.order, usd(1)).await;
    let Err(RefundPaymentRefusal::RefundExceedsPayment(left)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(left, usd(0));

    let events = ["PaymentAuthorized", "PaymentRefunded", "PaymentRefunded", "PaymentRefunded"];
    assert_eq!(story(&mut db, paid.payment).await, events);
    let recorded = crate::events::of_aggregate(&mut db, paid.payment).await.expect("read");
    assert_eq!(recorded[1].payload["refundId"], format!("re_{}", second.row));
    assert_eq!(recorded[1].payload["refundAmount"]["amount"], "20.00");
    let refund = "shop.payment.refund-processed.v1";
    let wanted = kinds(&[
        ("shop.order.placed.v1", 1),
        ("shop.order.shipped.v1", 2),
        (refund, 3),
        (refund, 4),
        (refund, 5),
    ]);
    assert_eq!(told(&mut db, paid.order).await, wanted);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn what_cannot_be_refunded_is_refused_and_leaves_no_row() {
    use RefundPaymentRefusal as R;

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    let unknown = begun(&shop, &mut db, Uuid::now_v7(), usd(1)).await;
    assert!(matches!(unknown, Err(R::PaymentNotFound)), "{unknown:?}");
    let euro = Money::from_minor(1_00, Currency::new("EUR").expect("a currency")).expect("small");
    for amount in [usd(0), euro] {
        let refused = begun(&shop, &mut db, paid.order, amount).await;
        assert!(matches!(refused, Err(R::InvalidAmount)), "{amount}: {refused:?}");
    }
    let reserved = begun(&shop, &mut db, paid.order, usd(1)).await;
    let authorized = PaymentState::Authorized;
    assert!(matches!(reserved, Err(R::PaymentNotCaptured(is)) if is == authorized), "{reserved:?}");
    // Taken by hand at the provider: cancelling the order gives it back.
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    let pending = begun(&shop, &mut db, paid.order, usd(1)).await;
    assert!(matches!(pending, Err(R::OrderNotShipped(OrderStatus::Pending))), "{pending:?}");
    confirm_order(&mut ctx(&shop, &mut db), paid.order).await.expect("confirmed");
    let confirmed = begun(&shop, &mut db, paid.order, usd(1)).await;
    assert!(matches!(confirmed, Err(R::OrderNotShipped(OrderStatus::Confirmed))), "{confirmed:?}");
    let (.., moves) = paid.books(&shop, &mut db).await;
    assert_eq!(moves, texts(&["capture succeeded 38.17 -"]));
    drop(db);
    database.close().await;
}

/// A refund reads what others ask for after it has waited for them, not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refunds_at_the_same_moment_never_ask_for_more_than_was_taken() {
    let (database, shop) = (database().await, std::sync::Arc::new(shop()));
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    shipped(&shop, &mut db, paid.order).await;
    let (pool, order) = (database.pool().clone(), paid.order);
    let results = all_at_once((0..12).map(|_| {
        let (shop, pool) = (shop.clone(), pool.clone());
        async move {
            let mut tx = pool.begin().await.expect("begin");
            let begun = begun(&shop, &mut tx, order, usd(10_00)).await;
            tx.commit().await.expect("commit");
            begun
        }
    }))
    .await;
    assert_eq!(results.iter().filter(|begun| begun.is_ok()).count(), 3, "{results:?}");
    for refused in results.iter().filter_map(|begun| begun.as_ref().err()) {
        let exceeds = matches!(refused, RefundPaymentRefusal::RefundExceedsPayment(_));
        assert!(exceeds, "{refused:?}");
    }
    let (.., moves) = paid.books(&shop, &mut db).await;
    assert_eq!(moves[1..], texts(&["refund requested 10 -"; 3]));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_refund_that_fails_leaves_the_balance_as_it_was_and_its_money_can_be_asked_for_again() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    shipped(&shop, &mut db, paid.order).await;
    let other = begun(&shop, &mut db, paid.order, usd(8_17)).await.expect("it begins");
    let refused = begun(&shop, &mut db, paid.order, usd(30_00)).await.expect("it begins");
    let key = key(refused.row);
    refund::fail(&mut db, paid.order, Some(refused.row), Some(&key), "expired_card")
        .await
        .expect("noted");
    let (state, back, moves) = paid.books(&shop, &mut db).await;
    let expected =
        ["capture succeeded 38.17 -", "refund requested 8.17 -", "refund failed 30 expired_card"];
    assert_eq!((&*state, &*back, moves), ("captured", "0.00 USD", texts(&expected)));
    let again = begun(&shop, &mut db, paid.order, usd(30_00)).await.expect("it is left");
    done(&shop, &mut db, paid.order, again.row, usd(30_00)).await;
    done(&shop, &mut db, paid.order, other.row, usd(8_17)).await;
    assert_eq!(paid.books(&shop, &mut db).await.0, "refunded");

    // The gateway has accepted a refund, which fails days later.
    let mut truth = paid.captured(&[
        ("re_1", 30_00, RefundStatus::Failed(Reason::new("lost_or_stolen_card"))),
        ("re_2", 8_17, RefundStatus::Succeeded),
    ]);
    truth.refunds[0].reference = Reference(format!("re_{}", again.row));
    truth.refunds[1].reference = Reference(format!("re_{}", other.row));
    assert!(matches!(applied(&shop, &mut db, &paid, &truth).await, Applied::RefundFailed(_)));
    let (state, back, _) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*back), ("partially_refunded", "8.17 USD"));
    begun(&shop, &mut db, paid.order, usd(30_00)).await.expect("it is left again");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_cancelled_order_gives_back_what_was_taken_and_not_what_was_reserved() {
    use RefundStatus::{Failed, Pending};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, buyer) = paid(&shop, &mut db).await;
    // By hand at the provider: 20 of 38.17 are taken, and 5 of them given back.
    let taken = |status| {
        let mut truth = paid.captured(&[("re_hand", 5_00, status)]);
        let found = truth.authorization.as_mut().expect("the gateway knows it");
        found.status = AuthorizationStatus::Captured { captured: usd(20_00), refunded: usd(5_00) };
        truth
    };
    assert_eq!(applied(&shop, &mut db, &paid, &taken(Pending)).await, Applied::Corrected);
    let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(paid.order, &buyer)).await;
    let Ok(Cancelling::Refund(back)) = begun else { panic!("{begun:?}") };
    assert_eq!((back.amount, &back.how), (usd(15_00), &HowBack::Refund(paid.reference.clone())));
    // The refund of the 5 fails before the cancellation is through: they are not back.
    let failed = Failed(Reason::new("expired_card"));
    assert!(matches!(
        applied(&shop, &mut db, &paid, &taken(failed)).await,
        Applied::RefundFailed(_)
    ));
    done(&shop, &mut db, paid.order, back.row, usd(15_00)).await;
    let (state, refunded, moves) = paid.books(&shop, &mut db).await;
    let expected =
        ["capture succeeded 20 -", "refund failed 5 expired_card", "refund succeeded 15 -"];
    assert_eq!((&*state, &*refunded, moves), ("partially_refunded", "15.00 USD", texts(&expected)));
    // The rest is given back by a refund of its own.
    let rest = self::begun(&shop, &mut db, paid.order, usd(5_00)).await.expect("it is left");
    done(&shop, &mut db, paid.order, rest.row, usd(5_00)).await;
    assert_eq!(paid.books(&shop, &mut db).await.0, "refunded", "all that was taken");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_void_that_meets_money_taken_in_part_books_what_was_taken_and_what_came_back() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, buyer) = paid(&shop, &mut db).await;
    let begun = cancel::begin(&mut ctx(&shop, &mut db), &cancelling(paid.order, &buyer)).await;
    let Ok(Cancelling::Refund(back)) = begun else { panic!("{begun:?}") };
    assert_eq!(back.amount, paid.total);
    let early = self::begun(&shop, &mut db, paid.order, usd(1)).await;
    assert!(matches!(early, Err(RefundPaymentRefusal::PaymentNotCaptured(_))), "{early:?}");
    // The gateway was asked: 20 were taken, and 2 of them are back by hand. The books will hear of both later.
    let refund = Refunded {
        row: Some(back.row),
        refund_id: "re_1".to_owned(),
        amount: usd(18_00),
        key: "instance-1".to_owned(),
        captured: true,
        taken: Some(usd(20_00)),
    };
    assert!(refund::complete(&mut ctx(&shop, &mut db), paid.order, &refund).await.expect("told"));
    let (state, refunded, moves) = paid.books(&shop, &mut db).await;
    let expected = texts(&["refund succeeded 18 -", "capture succeeded 20 -"]);
    assert_eq!((&*state, &*refunded, moves), ("partially_refunded", "18.00 USD", expected));
    let mut truth = paid.captured(&[("re_hand", 2_00, RefundStatus::Succeeded)]);
    let found = truth.authorization.as_mut().expect("the gateway knows it");
    found.status = AuthorizationStatus::Captured { captured: usd(20_00), refunded: usd(20_00) };
    assert_eq!(applied(&shop, &mut db, &paid, &truth).await, Applied::Corrected);
    let (state, refunded, _) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*refunded), ("refunded", "20.00 USD"));
    drop(db);
    database.close().await;
}
