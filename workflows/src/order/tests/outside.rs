//! Money that the gateway moved by itself.

use super::*;
use crate::{
    money::{Currency, Money},
    order::outside::{Applied, Disputed, Disputing, Truth, apply, dispute},
    payment::{
        gateway::{
            Authorization, AuthorizationStatus, DisputeStatus, MadeRefund, Reference, RefundStatus,
        },
        get_payment,
        parked::{Misfit, Parked, park},
        store::Balance,
    },
};

/// An order of 38.17 that is placed and paid for.
pub(super) struct Paid {
    pub(super) order: Uuid,
    pub(super) payment: Uuid,
    pub(super) reference: Reference,
    pub(super) total: Money,
}

pub(super) async fn paid(shop: &Shop, db: &mut PgConnection) -> (Paid, CrowdCustomer) {
    let buyer = customer(shop, db).await;
    let cup = product(db, 1000, 10).await;
    put(shop, db, &buyer, &[(cup, 3)]).await;
    let placing = place(shop, db, &ordering(&buyer)).await.expect("it begins");
    let authorized = authorized(&placing);
    complete(&mut ctx(shop, db), placing.order_id, &authorized).await.expect("done");
    let paid = Paid {
        order: placing.order_id,
        payment: placing.payment_id,
        reference: Reference(authorized.authorization_id),
        total: placing.total_amount,
    };
    (paid, buyer)
}

pub(super) fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD).expect("small")
}

impl Paid {
    fn truth(&self, status: AuthorizationStatus, refunds: Vec<MadeRefund>) -> Truth {
        let authorization = Authorization {
            reference: self.reference.clone(),
            order_id: Some(self.order),
            amount: self.total,
            status,
        };
        Truth { authorization: Some(authorization), refunds }
    }

    /// The whole amount is captured, and these refunds were made.
    pub(super) fn captured(&self, refunds: &[(&str, i64, RefundStatus)]) -> Truth {
        let refunds = refunds.iter().map(|(id, cents, status)| MadeRefund {
            reference: Reference((*id).to_owned()),
            amount: usd(*cents),
            status: status.clone(),
            key: None,
        });
        let status = AuthorizationStatus::Captured { captured: self.total, refunded: usd(0) };
        self.truth(status, refunds.collect())
    }

    /// State, refunded amount, and the moves of money after the authorization.
    pub(super) async fn books(
        &self,
        shop: &Shop,
        db: &mut PgConnection,
    ) -> (String, String, Vec<String>) {
        let payment = view(shop, db, self.order).await.payment;
        let moves = transactions_of(db, self.payment).await.expect("read");
        let moves = moves.iter().skip(1).map(|m| {
            let reason = m.reason.as_deref().unwrap_or("-");
            format!("{} {} {} {reason}", m.kind, m.state, m.amount.normalize())
        });
        (payment.status, payment.refunded_amount.to_string(), moves.collect())
    }
}

pub(super) async fn applied(
    shop: &Shop,
    db: &mut PgConnection,
    paid: &Paid,
    truth: &Truth,
) -> Applied {
    apply(&mut ctx(shop, db), paid.order, truth).await.expect("applied").expect("there is an order")
}

pub(super) fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn an_authorization_that_the_gateway_let_lapse_is_voided_in_the_books_once() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    let authorized = paid.truth(AuthorizationStatus::Authorized, Vec::new());
    assert_eq!(applied(&shop, &mut db, &paid, &authorized).await, Applied::Agrees);
    let lapsed = paid.truth(AuthorizationStatus::Cancelled, Vec::new());
    assert_eq!(applied(&shop, &mut db, &paid, &lapsed).await, Applied::Corrected);
    assert_eq!(applied(&shop, &mut db, &paid, &lapsed).await, Applied::Agrees);
    let (state, _, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, moves), ("voided", texts(&["void succeeded 38.17 -"])));
    // Money under a payment that our books have given up is a contradiction.
    assert_eq!(applied(&shop, &mut db, &paid, &authorized).await, Applied::Contradicts);
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Contradicts);
    let unknown = Truth { authorization: None, refunds: Vec::new() };
    assert_eq!(applied(&shop, &mut db, &paid, &unknown).await, Applied::Contradicts);
    assert_eq!(paid.books(&shop, &mut db).await.0, "voided");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_void_that_a_cancellation_has_asked_for_is_left_to_it() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, buyer) = paid(&shop, &mut db).await;
    cancel::begin(&mut ctx(&shop, &mut db), &cancelling(paid.order, &buyer)).await.expect("begun");
    let voided = paid.truth(AuthorizationStatus::Cancelled, Vec::new());
    assert_eq!(applied(&shop, &mut db, &paid, &voided).await, Applied::Agrees);
    let (state, _, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, moves), ("authorized", texts(&["void requested 38.17 -"])));
    // A capture by hand is the truth all the same: only a refund brings the money back now.
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    assert_eq!(paid.books(&shop, &mut db).await.0, "captured");
    let (refund_id, key) = ("re_1".to_owned(), "instance-1".to_owned());
    let refund =
        Refunded { refund_id, amount: paid.total, key, captured: true, row: None, taken: None };
    assert!(refund::complete(&mut ctx(&shop, &mut db), paid.order, &refund).await.expect("told"));
    let (state, _, moves) = paid.books(&shop, &mut db).await;
    let expected = texts(&["refund succeeded 38.17 -", "capture succeeded 38.17 -"]);
    assert_eq!((&*state, moves), ("refunded", expected));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn captures_and_refunds_by_hand_are_booked_and_told_whatever_order_they_are_heard_in() {
    use RefundStatus::{Pending, Succeeded};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    // The first word that arrives is that of the second refund.
    let both = paid.captured(&[("re_1", 10_00, Succeeded), ("re_2", 5_00, Pending)]);
    assert_eq!(applied(&shop, &mut db, &paid, &both).await, Applied::Corrected);
    let late = paid.captured(&[("re_1", 10_00, Succeeded)]);
    for truth in [&both, &late, &both] {
        assert_eq!(applied(&shop, &mut db, &paid, truth).await, Applied::Agrees);
    }
    let (state, refunded, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*refunded), ("partially_refunded", "15.00 USD"));
    let expected = ["capture succeeded 38.17 -", "refund succeeded 10 -", "refund succeeded 5 -"];
    assert_eq!(moves, texts(&expected));
    let rest = paid.captured(&[
        ("re_1", 10_00, Succeeded),
        ("re_2", 5_00, Succeeded),
        ("re_3", 23_17, Succeeded),
    ]);
    assert_eq!(applied(&shop, &mut db, &paid, &rest).await, Applied::Corrected);
    assert_eq!(paid.books(&shop, &mut db).await.0, "refunded");
    let events = ["PaymentAuthorized", "PaymentRefunded", "PaymentRefunded", "PaymentRefunded"];
    assert_eq!(story(&mut db, paid.payment).await, events);
    let refund = "shop.payment.refund-processed.v1";
    let wanted = kinds(&[("shop.order.placed.v1", 1), (refund, 2), (refund, 3), (refund, 4)]);
    assert_eq!(told(&mut db, paid.order).await, wanted);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_refund_that_fails_later_gives_the_balance_back_and_says_so() {
    use RefundStatus::{Failed, Pending, Succeeded};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    let failed = || Failed(Reason::new("lost_or_stolen_card"));
    let pending = paid.captured(&[("re_1", 10_00, Pending), ("re_2", 2_00, Succeeded)]);
    assert_eq!(applied(&shop, &mut db, &paid, &pending).await, Applied::Corrected);
    let now = paid.captured(&[("re_1", 10_00, failed()), ("re_2", 2_00, Succeeded)]);
    assert!(matches!(applied(&shop, &mut db, &paid, &now).await, Applied::RefundFailed(_)));
    for truth in [&now, &pending] {
        assert_eq!(applied(&shop, &mut db, &paid, truth).await, Applied::Agrees);
    }
    let (state, refunded, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*refunded), ("partially_refunded", "2.00 USD"));
    assert_eq!(moves[1], "refund failed 10 lost_or_stolen_card");
    let now = paid.captured(&[("re_1", 10_00, failed()), ("re_2", 2_00, failed())]);
    assert!(matches!(applied(&shop, &mut db, &paid, &now).await, Applied::RefundFailed(_)));
    let (state, refunded, _) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*refunded), ("captured", "0.00 USD"));
    drop(db);
    database.close().await;
}

/// Hears of a dispute. If it is new, the event is kept for a person.
async fn disputed(
    db: &mut PgConnection,
    paid: &Paid,
    (event, amount, status): (&str, Money, DisputeStatus),
) -> Disputed {
    let reference = &Reference("dp_1".to_owned());
    let news = Disputing { event, reference, amount, status };
    let done = dispute(db, paid.order, &news).await.expect("booked");
    if done == Disputed::Booked {
        let (id, why, kind) = (event, Misfit::Dispute, "charge.dispute.updated");
        let amount = Some(amount);
        let parked = Parked { id, why, kind, reference: None, order_id: None, amount, at: None };
        park(db, &parked).await.expect("parked");
    }
    done
}

#[tokio::test]
async fn a_dispute_and_each_new_decision_about_it_are_booked_once() {
    use DisputeStatus::{Lost, Open, Won};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    for (event, status, expected, state) in [
        ("evt_1", Open, Disputed::Booked, "requested"),
        ("evt_1", Open, Disputed::Known, "requested"),
        ("evt_2", Lost, Disputed::Booked, "succeeded"),
        ("evt_2", Lost, Disputed::Known, "succeeded"),
        ("evt_3", Lost, Disputed::Known, "succeeded"),
        ("evt_4", Open, Disputed::Known, "succeeded"),
        ("evt_5", Won, Disputed::Booked, "failed"),
        ("evt_5", Won, Disputed::Known, "failed"),
        // A late copy.
        ("evt_2", Lost, Disputed::Known, "failed"),
        ("evt_6", Lost, Disputed::Booked, "succeeded"),
    ] {
        let done = disputed(&mut db, &paid, (event, usd(30_00), status)).await;
        assert_eq!(done, expected, "{event} {status:?}");
        let (_, _, moves) = paid.books(&shop, &mut db).await;
        assert_eq!(moves, texts(&[&format!("dispute {state} 30 -")]), "{event} {status:?}");
    }
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_amount_in_another_currency_is_not_booked_and_is_in_no_balance() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    let yen = Money::from_minor(3_000, "JPY".parse().expect("a currency")).expect("small");
    let done = disputed(&mut db, &paid, ("evt_1", yen, DisputeStatus::Lost)).await;
    assert_eq!(done, Disputed::OtherCurrency);
    let mut refunded = paid.captured(&[("re_1", 1_00, RefundStatus::Succeeded)]);
    refunded.refunds[0].amount = yen;
    let status = AuthorizationStatus::Captured { captured: yen, refunded: yen };
    for truth in [refunded, paid.truth(status, Vec::new())] {
        assert_eq!(applied(&shop, &mut db, &paid, &truth).await, Applied::Contradicts);
    }
    assert_eq!(paid.books(&shop, &mut db).await, ("authorized".into(), "0.00 USD".into(), vec![]));

    // An earlier build has booked one.
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    disputed(&mut db, &paid, ("evt_2", usd(30_00), DisputeStatus::Lost)).await;
    let other = "update shop.payment_transaction set amount = 3000, currency = 'JPY' where kind = 'dispute'";
    sqlx::query(other).execute(&mut *db).await.expect("booked");
    let moves = transactions_of(&mut db, paid.payment).await.expect("read");
    assert_eq!(Balance::of(&moves, Currency::USD).left(), paid.total.amount());
    let view = get_payment(&mut db, paid.payment, None).await.expect("read").expect("shown");
    let shown = view.transactions.iter().map(|moved| moved.amount.to_string());
    assert_eq!(shown.collect::<Vec<_>>(), ["38.17 USD", "38.17 USD", "3000 JPY"]);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_has_another_entity_tag_once_its_payment_has_changed() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    let placed = view(&shop, &mut db, paid.order).await.version;
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    let captured = view(&shop, &mut db, paid.order).await.version;
    assert_ne!(captured, placed);
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Agrees);
    assert_eq!(view(&shop, &mut db, paid.order).await.version, captured, "nothing has changed");
    let by_hand = paid.captured(&[("re_1", 1_00, RefundStatus::Succeeded)]);
    assert_eq!(applied(&shop, &mut db, &paid, &by_hand).await, Applied::Corrected);
    assert_ne!(view(&shop, &mut db, paid.order).await.version, captured);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_void_that_meets_captured_money_is_a_refund_in_the_books_although_no_event_told_of_the_capture()
 {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, buyer) = paid(&shop, &mut db).await;
    cancel::begin(&mut ctx(&shop, &mut db), &cancelling(paid.order, &buyer)).await.expect("begun");
    let (refund_id, key) = ("re_1".to_owned(), "instance-1".to_owned());
    let refund =
        Refunded { refund_id, amount: paid.total, key, captured: true, row: None, taken: None };
    assert!(refund::complete(&mut ctx(&shop, &mut db), paid.order, &refund).await.expect("told"));
    let (state, back, moves) = paid.books(&shop, &mut db).await;
    let expected = texts(&["refund succeeded 38.17 -", "capture succeeded 38.17 -"]);
    assert_eq!((&*state, &*back, moves), ("refunded", "38.17 USD", expected));
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_cancellation_ends_although_somebody_gave_the_money_back_by_hand_meanwhile() {
    use RefundStatus::Succeeded;

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, buyer) = paid(&shop, &mut db).await;
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    cancel::begin(&mut ctx(&shop, &mut db), &cancelling(paid.order, &buyer)).await.expect("begun");
    let by_hand = paid.captured(&[("re_hand", 38_17, Succeeded)]);
    assert_eq!(applied(&shop, &mut db, &paid, &by_hand).await, Applied::Corrected);
    refund::fail(&mut db, paid.order, None, None, refund::DONE_OUTSIDE).await.expect("ended");
    let (state, back, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, &*back), ("refunded", "38.17 USD"));
    assert!(moves.contains(&"refund failed 38.17 done_outside".to_owned()), "{moves:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn what_says_more_than_the_move_that_a_saga_is_about_to_book_is_asked_for_again_later() {
    use RefundStatus::{Failed, Succeeded};

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    confirm_order(&mut ctx(&shop, &mut db), paid.order).await.expect("confirmed");
    let (tracking_number, carrier) = ("1Z".to_owned(), "UPS".to_owned());
    let command = ship::ShipOrder { order_id: paid.order, tracking_number, carrier };
    ship::begin(&mut ctx(&shop, &mut db), &command).await.expect("it begins");
    // Our own capture, whose saga books it.
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Agrees);
    let with_refund = paid.captured(&[("re_hand", 10_00, Succeeded)]);
    assert_eq!(applied(&shop, &mut db, &paid, &with_refund).await, Applied::Later);
    assert!(ship::complete(&mut ctx(&shop, &mut db), paid.order, "key").await.expect("shipped"));
    assert_eq!(applied(&shop, &mut db, &paid, &with_refund).await, Applied::Corrected);
    let (state, back, moves) = paid.books(&shop, &mut db).await;
    let expected = texts(&["capture succeeded 38.17 -", "refund succeeded 10 -"]);
    assert_eq!((&*state, &*back, moves), ("partially_refunded", "10.00 USD", expected));

    // A refund of ours that fails before its saga has booked it.
    sqlx::query(
        "insert into shop.payment_transaction (transaction_id, payment_id, kind, state, amount, currency, requested_at)
         values ($1, $2, 'refund', 'requested', 5, 'USD', saga.now())",
    )
    .bind(Uuid::now_v7())
    .bind(paid.payment)
    .execute(&mut *db)
    .await
    .expect("asked for");
    let reason = crate::payment::gateway::Reason::new("expired_card");
    let mut failed =
        paid.captured(&[("re_hand", 10_00, Succeeded), ("re_2", 5_00, Failed(reason))]);
    failed.refunds[1].key = Some("instance-2".to_owned());
    assert_eq!(applied(&shop, &mut db, &paid, &failed).await, Applied::Later);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn money_that_was_captured_by_hand_is_captured_once_when_the_order_is_shipped() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (paid, _) = paid(&shop, &mut db).await;
    assert_eq!(applied(&shop, &mut db, &paid, &paid.captured(&[])).await, Applied::Corrected);
    confirm_order(&mut ctx(&shop, &mut db), paid.order).await.expect("confirmed");
    let (tracking_number, carrier) = ("1Z".to_owned(), "UPS".to_owned());
    let command = ship::ShipOrder { order_id: paid.order, tracking_number, carrier };
    ship::begin(&mut ctx(&shop, &mut db), &command).await.expect("it begins");
    assert!(ship::complete(&mut ctx(&shop, &mut db), paid.order, "key").await.expect("shipped"));
    let (state, _, moves) = paid.books(&shop, &mut db).await;
    assert_eq!((&*state, moves), ("captured", texts(&["capture succeeded 38.17 -"])));
    drop(db);
    database.close().await;
}
