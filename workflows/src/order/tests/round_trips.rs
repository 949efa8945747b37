//! The round trips that the documentation promises, counted.

use std::cell::Cell;

use stepwise_engine::testing::Statements;

use super::{
    outside::{applied, paid, usd},
    refunding::{begun, done, shipped},
    *,
};

thread_local! {
    /// Statements that the driver reported on this thread: this test's, which has one thread.
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
}

/// How many statements since it was asked last.
fn taken() -> usize {
    STATEMENTS.replace(0)
}

#[tokio::test]
async fn round_trips_do_not_depend_on_the_number_of_lines() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let mut products = Vec::new();
    for _ in 0..20 {
        products.push((product(&mut db, 1000, 100).await, 1));
    }
    // For the whole process: what a thread's own listener hears depends on the other tests' threads.
    tracing::subscriber::set_global_default(Statements(|_: &str| {
        STATEMENTS.set(STATEMENTS.get() + 1)
    }))
    .expect("no other test listens");
    for lines in [1, 20] {
        let buyer = customer(&shop, &mut db).await;
        put(&shop, &mut db, &buyer, &products[..lines]).await;

        taken();
        let placing = begin(&mut ctx(&shop, &mut db), &ordering(&buyer)).await.expect("it begins");
        assert_eq!(taken(), 4, "begin, {lines} lines");
        complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
            .await
            .expect("done");
        assert_eq!(taken(), 3, "complete, {lines} lines");
        let command = cancelling(placing.order_id, &buyer);
        let begun = cancel::begin(&mut ctx(&shop, &mut db), &command).await.expect("begun");
        assert!(matches!(begun, Cancelling::Refund(_)));
        assert_eq!(taken(), 6, "cancel, {lines} lines");

        put(&shop, &mut db, &buyer, &products[..lines]).await;
        taken();
        let placing = begin(&mut ctx(&shop, &mut db), &ordering(&buyer)).await.expect("it begins");
        assert_eq!(taken(), 4, "begin, {lines} lines");
        let ending = Ending::Failed(PaymentFailure::Unsupported);
        release(&mut ctx(&shop, &mut db), placing.order_id, &ending, None).await.expect("released");
        assert_eq!(taken(), 6, "release, {lines} lines");
    }
    giving_back(&shop, &mut db, &products).await;
    drop(db);
    database.close().await;
}

/// The round trips of giving money back, and of cancelling an order whose money was taken.
async fn giving_back(shop: &Shop, db: &mut PgConnection, products: &[(Uuid, i32)]) {
    let (taken_by_hand, _) = paid(shop, db).await;
    let captured = taken_by_hand.captured(&[]);
    applied(shop, db, &taken_by_hand, &captured).await;
    let command = CancelOrder {
        order_id: taken_by_hand.order,
        reason: "ordered by mistake".to_owned(),
        customer_id: None,
    };
    taken();
    cancel::begin(&mut ctx(shop, db), &command).await.expect("begun");
    assert_eq!(taken(), 7, "cancel, money was taken");

    let buyer = customer(shop, db).await;
    put(shop, db, &buyer, products).await;
    let placing = begin(&mut ctx(shop, db), &ordering(&buyer)).await.expect("it begins");
    let order = placing.order_id;
    complete(&mut ctx(shop, db), order, &authorized(&placing)).await.expect("done");
    shipped(shop, db, order).await;
    taken();
    let row = begun(shop, db, order, usd(1_00)).await.expect("it begins").row;
    assert_eq!(taken(), 3, "refund: begin");
    done(shop, db, order, row, usd(1_00)).await;
    assert_eq!(taken(), 5, "refund: complete");
}
