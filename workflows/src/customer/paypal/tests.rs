use futures::future::join_all;
use sqlx::PgPool;

use super::*;
use crate::{
    money::Currency,
    testing::{database, pass},
};

fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD).expect("an amount")
}

/// A method that its customer has approved just now.
async fn approved(pool: &PgPool) -> Uuid {
    let (method, customer) = (Uuid::now_v7(), Uuid::now_v7());
    sqlx::query(
        "-- test: an approved method
        with customer as (
            insert into shop.customer (customer_id, created_at) values ($2, saga.now())
        ), method as (
            insert into shop.payment_method (payment_method_id, customer_id, kind, token, brand, created_at)
            values ($1, $2, 'paypal', 'paypal:' || $1, 'paypal', saga.now())
        )
        insert into shop.paypal_approval (payment_method_id, customer_id, amount, currency, return_url, cancel_url,
                                          state, created_at)
        values ($1, $2, 27.44, 'USD', '', '', 'pending', saga.now())",
    )
    .bind(method)
    .bind(customer)
    .execute(pool)
    .await
    .expect("written");
    let mut db = pool.acquire().await.expect("a connection");
    approve(&mut db, method).await.expect("approved");
    method
}

#[tokio::test]
async fn of_many_orders_at_once_one_is_paid_with_a_method_that_pays_once() {
    let database = database().await;
    let method = approved(database.pool()).await;
    let orders = (0..16).map(|_| async {
        let mut tx = database.pool().begin().await.expect("begin");
        let paid = pay(&mut tx, method, Uuid::now_v7(), usd(2_744)).await;
        match &paid {
            Ok(()) => tx.commit().await.expect("commit"),
            Err(_) => tx.rollback().await.expect("rollback"),
        }
        paid
    });
    let paid = join_all(orders).await;
    assert_eq!(paid.iter().filter(|paid| paid.is_ok()).count(), 1);
    for refused in paid.iter().filter_map(|paid| paid.as_ref().err()) {
        assert!(matches!(refused, NotUsable::Used), "{refused:?}");
    }
    database.close().await;
}

#[tokio::test]
async fn a_method_pays_exactly_its_amount_in_its_time_and_is_given_back_for_the_rest_of_it() {
    let database = database().await;
    let method = approved(database.pool()).await;
    let mut db = database.pool().acquire().await.expect("a connection");
    let order = Uuid::now_v7();
    for cents in [2_743, 2_745] {
        let refused = pay(&mut db, method, order, usd(cents)).await;
        assert!(matches!(refused, Err(NotUsable::AmountMismatch { .. })), "{refused:?}");
    }
    assert_eq!(used_by(&mut db, order, None).await.expect("read"), None);
    pay(&mut db, method, order, usd(2_744)).await.expect("paid");
    let reference = Reference(format!("paypal:{method}"));
    assert_eq!(
        used_by(&mut db, order, None).await.expect("read"),
        Some((method, reference.clone()))
    );
    assert_eq!(referred_to(&mut db, &reference.0).await.expect("read"), Some(method));

    pass(&mut db, KEPT_S - 60.0).await;
    approve(&mut db, method).await.expect("given back");
    pay(&mut db, method, order, usd(2_744)).await.expect("paid");
    approve(&mut db, method).await.expect("given back");
    pass(&mut db, 61.0).await;
    let late = pay(&mut db, method, order, usd(2_744)).await;
    assert!(matches!(late, Err(NotUsable::Expired)), "{late:?}");
    drop(db);
    database.close().await;
}
