//! Orders that are placed, and completed, in one transaction.

use sqlx::Connection as _;
use stepwise_engine::testing::Statements;

use super::*;
use crate::{
    events::{Recorded, of_aggregate},
    inventory::audit_of,
    order::place::{Asked, Locks, begin_together},
    shop::{Actor, Cause},
};

/// What each of these customers asks for, because of a request of their own.
fn asked(buyers: &[CrowdCustomer]) -> Vec<Asked> {
    let by = |buyer: &CrowdCustomer| {
        let actor = Actor::Customer(buyer.customer_id);
        let cause = Cause::of_request(actor, Uuid::now_v7(), None);
        Asked { cause, command: ordering(buyer) }
    };
    buyers.iter().map(by).collect()
}

/// Customers, each with this many of the product in the cart.
async fn buyers(
    shop: &Shop,
    db: &mut PgConnection,
    product: Uuid,
    quantities: &[i32],
) -> Vec<CrowdCustomer> {
    let buyers = crowd(shop, db, quantities.len(), 0).await.expect("buyers").customers;
    for (buyer, quantity) in buyers.iter().zip(quantities) {
        put(shop, db, buyer, &[(product, *quantity)]).await;
    }
    buyers
}

fn caused(event: &Recorded, cause: &Cause) -> bool {
    (event.actor.as_deref(), event.correlation, event.saga_id)
        == (Some(&cause.actor.to_string()[..]), Some(cause.correlation), cause.saga)
}

#[tokio::test]
async fn orders_of_one_stock_take_from_it_one_after_the_other() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 5).await;
    let asked = asked(&buyers(&shop, &mut db, cup, &[2, 4, 2, 1]).await);

    let turns = begin_together(&mut ctx(&shop, &mut db), &asked, Locks::Skip).await.expect("begun");
    let [Some(Ok(first)), Some(Err(short)), Some(Ok(second)), Some(Ok(third))] = &turns[..] else {
        panic!("{turns:?}")
    };
    assert!(
        matches!(short, PlaceOrderRefusal::OutOfStock(lines) if lines[0].available == 3),
        "the second one sees the stock as the first one has left it: {short:?}"
    );
    assert_eq!(stock(&mut db, cup).await, (5, 5, 5), "all is reserved");
    let inventory = inventory_of(&mut db, cup).await;
    let audit = audit_of(&mut db, inventory, None, 10).await.expect("read");
    let changes: Vec<_> = audit
        .iter()
        .rev()
        .map(|row| (row.order_id, row.actor, row.reserved_before, row.reserved_after))
        .collect();
    let by = |n: usize| asked[n].command.customer_id;
    assert_eq!(
        changes,
        [
            (Some(first.order_id), by(0), 0, 2),
            (Some(second.order_id), by(2), 2, 4),
            (Some(third.order_id), by(3), 4, 5),
        ]
    );
    let events = of_aggregate(&mut db, inventory).await.expect("read");
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "InventoryReserved",
            "LowStockAlert",
            "InventoryReserved",
            "InventoryReserved",
            "OutOfStock"
        ]
    );
    let causes = [0, 0, 2, 3, 3].map(|n| &asked[n].cause);
    assert!(events.iter().zip(causes).all(|(event, cause)| caused(event, cause)), "{events:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn an_order_whose_rows_are_locked_is_left_out_and_nobody_waits() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let (cup, pan) = (product(&mut db, 1000, 9).await, product(&mut db, 1000, 9).await);
    let mut all = buyers(&shop, &mut db, cup, &[1, 1, 1]).await;
    all.extend(buyers(&shop, &mut db, pan, &[1]).await);
    let asked = asked(&all);
    let mut other = database.pool().acquire().await.expect("a connection");
    let mut holding = other.begin().await.expect("begun");
    for (statement, id) in [
        (
            "-- test: lock a customer\nselect from shop.customer where customer_id = $1 for update",
            all[0].customer_id,
        ),
        (
            "-- test: lock a cart\nselect from shop.cart where customer_id = $1 for update",
            all[1].customer_id,
        ),
        ("-- test: lock a stock\nselect from shop.inventory where product_id = $1 for update", pan),
    ] {
        sqlx::query(statement).bind(id).execute(&mut *holding).await.expect("locked");
    }
    sqlx::query("-- test: wait for nobody\nset lock_timeout = '1ms'")
        .execute(&mut *db)
        .await
        .expect("set");

    let turns = begin_together(&mut ctx(&shop, &mut db), &asked, Locks::Skip).await.expect("begun");
    assert!(matches!(turns[..], [None, None, Some(Ok(_)), None]), "{turns:?}");
    let turns = begin_together(&mut ctx(&shop, &mut db), &asked[3..], Locks::WaitForStock).await;
    assert!(turns.is_err(), "it waits for the stock, as long as it may");
    assert_eq!((stock(&mut db, cup).await.1, stock(&mut db, pan).await.1), (1, 0));
    holding.rollback().await.expect("over");
    drop((db, other));
    database.close().await;
}

#[tokio::test]
async fn paid_orders_are_completed_together_each_because_of_its_own_saga() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 9).await;
    let asked = asked(&buyers(&shop, &mut db, cup, &[1, 1, 1]).await);
    let turns = begin_together(&mut ctx(&shop, &mut db), &asked, Locks::Skip).await.expect("begun");
    let orders: Vec<Placing> =
        turns.into_iter().flatten().map(|turn| turn.expect("it begins")).collect();
    let paid: Vec<Paid> = orders
        .iter()
        .zip(&asked)
        .map(|(order, asked)| {
            let cause = Cause { saga: Some(Uuid::now_v7()), ..asked.cause.clone() };
            Paid { order_id: order.order_id, cause, authorized: authorized(order) }
        })
        .collect();
    let ended = Ending::Failed(PaymentFailure::Unsupported);
    release(&mut ctx(&shop, &mut db), paid[1].order_id, &ended, None).await.expect("released");
    let unknown = Paid { order_id: Uuid::now_v7(), ..paid[0].clone() };
    let paid = [paid, vec![unknown]].concat();

    let done = place::complete(&mut ctx(&shop, &mut db), &paid).await.expect("done");
    assert_eq!(
        done,
        [
            Completion::Placed,
            Completion::NotPlacing(OrderStatus::Failed),
            Completion::Placed,
            Completion::NotFound
        ]
    );
    for n in [0, 2] {
        let order = view(&shop, &mut db, orders[n].order_id).await;
        assert_eq!((order.status.as_str(), &*order.payment.status), ("pending", "authorized"));
        for aggregate in [orders[n].order_id, orders[n].payment_id] {
            let event = of_aggregate(&mut db, aggregate).await.expect("read").remove(0);
            assert!(caused(&event, &paid[n].cause), "{event:?}");
        }
        let messages: Vec<(String, i64, Option<i64>, Option<String>)> = sqlx::query_as(
            "-- test: messages with their correlation
            select kind, sequence, type_sequence, correlation from saga.outbox where subject = $1",
        )
        .bind(orders[n].order_id.to_string())
        .fetch_all(&mut *db)
        .await
        .expect("read");
        let correlation = Some(paid[n].cause.correlation.to_string());
        assert_eq!(messages, [("shop.order.placed.v1".to_owned(), 1, Some(1), correlation)]);
    }
    let failed = told(&mut db, orders[1].order_id).await;
    assert_eq!(failed, kinds(&[("shop.payment.failed.v1", 1)]), "it is not told of as placed");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn round_trips_do_not_depend_on_the_number_of_orders() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STATEMENTS: AtomicUsize = AtomicUsize::new(0);

    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let cup = product(&mut db, 1000, 100).await;
    let two = buyers(&shop, &mut db, cup, &[1, 1]).await;
    let twenty = buyers(&shop, &mut db, cup, &[1; 20]).await;
    tracing::subscriber::set_global_default(Statements(|_: &str| {
        STATEMENTS.fetch_add(1, Ordering::SeqCst);
    }))
    .expect("each test has a process of its own");
    let taken = || STATEMENTS.swap(0, Ordering::SeqCst);
    for buyers in [two, twenty] {
        let asked = asked(&buyers);
        taken();
        let turns =
            begin_together(&mut ctx(&shop, &mut db), &asked, Locks::Skip).await.expect("begun");
        assert_eq!(taken(), 4, "begin, {} orders", asked.len());
        let paid: Vec<Paid> = turns
            .into_iter()
            .flatten()
            .zip(asked)
            .map(|(turn, Asked { cause, .. })| {
                let order = turn.expect("it begins");
                Paid { order_id: order.order_id, cause, authorized: authorized(&order) }
            })
            .collect();
        place::complete(&mut ctx(&shop, &mut db), &paid).await.expect("done");
        assert_eq!(taken(), 3, "complete, {} orders", paid.len());
    }
    drop(db);
    database.close().await;
}
