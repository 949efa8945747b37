//! Everything that a command writes says who acted, and why.

use super::*;
use crate::{
    events::{Recorded, of_aggregate},
    shop::{Actor, Cause},
    testing::ctx_because,
};

/// The cause of a message: kind, correlation, causation, trace parent, number per type.
type Told = (String, Option<String>, Option<String>, Option<String>, Option<i64>);

async fn messages(connection: &mut PgConnection, order: Uuid) -> Vec<Told> {
    sqlx::query_as(
        "-- test: causes of messages
        select kind, correlation, causation, traceparent, type_sequence
        from saga.outbox where subject = $1 order by sequence",
    )
    .bind(order.to_string())
    .fetch_all(connection)
    .await
    .expect("read")
}

fn says(event: &Recorded, cause: &Cause) -> bool {
    (event.actor.as_deref(), event.correlation, event.causation, event.version)
        == (Some(&cause.actor.to_string()[..]), Some(cause.correlation), Some(cause.causation), 1)
}

#[tokio::test]
async fn events_and_messages_name_the_actor_the_request_and_what_led_to_them() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 5).await;
    put(&shop, &mut db, &buyer, &[(cup, 5)]).await;
    let admin = Actor::Key(crate::shop::cause::KeyRole::Admin, Uuid::now_v7());
    let placing = Cause::of_request(admin, Uuid::now_v7(), None);
    let placed = begin(&mut ctx_because(&shop, &mut db, &placing), &ordering(&buyer)).await;
    let placed = placed.expect("it begins");

    // The stock is reserved by the admin who orders for the customer; three events of one row at once.
    let inventory = inventory_of(&mut db, cup).await;
    let names = story(&mut db, inventory).await;
    assert_eq!(names, ["InventoryReserved", "LowStockAlert", "OutOfStock"]);
    let reserved = of_aggregate(&mut db, inventory).await.expect("read");
    assert!(reserved.iter().all(|event| says(event, &placing)), "{reserved:?}");
    let audit = crate::inventory::audit_of(&mut db, inventory, None, 1).await.expect("read");
    assert_eq!(audit[0].actor, admin.id());

    let completing = Cause { saga: Some(Uuid::now_v7()), ..placing };
    let mut ctx = ctx_because(&shop, &mut db, &completing);
    complete(&mut ctx, placed.order_id, &authorized(&placed)).await.expect("done");
    let placed_event = of_aggregate(&mut db, placed.order_id).await.expect("read").remove(0);
    assert!(says(&placed_event, &completing), "{placed_event:?}");
    assert_eq!(placed_event.saga_id, completing.saga);

    let cancelling = Cause::of_request(Actor::Customer(buyer.customer_id), Uuid::now_v7(), None);
    let command = super::cancelling(placed.order_id, &buyer);
    let mut ctx = ctx_because(&shop, &mut db, &cancelling);
    cancel::begin(&mut ctx, &command).await.expect("begun");
    let cancelled_event = of_aggregate(&mut db, placed.order_id).await.expect("read").remove(1);
    assert!(says(&cancelled_event, &cancelling), "{cancelled_event:?}");
    let told = |kind: &str, cause: &Cause, event: &Recorded, nth| {
        let (correlation, causation) = (cause.correlation.to_string(), event.event_id.to_string());
        let traceparent = cause.traceparent.as_str().to_owned();
        (kind.to_owned(), Some(correlation), Some(causation), Some(traceparent), Some(nth))
    };
    assert_eq!(
        messages(&mut db, placed.order_id).await,
        [
            told("shop.order.placed.v1", &completing, &placed_event, 1),
            told("shop.order.cancelled.v1", &cancelling, &cancelled_event, 1),
        ]
    );
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn messages_are_numbered_per_subject_and_per_type_without_gaps() {
    use crate::integration::Notification;
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    let placing = place(&shop, &mut db, &ordering(&buyer)).await.expect("it begins");
    let failed = || Notification::PaymentFailed {
        order_id: placing.order_id,
        customer_id: buyer.customer_id,
        amount: placing.total_amount,
        failure_reason: "declined".to_owned(),
    };
    let count = async |db: &mut PgConnection| {
        let numbers: Vec<(String, i64, i64)> = sqlx::query_as(
            "-- test: numbers
            select kind, sequence, type_sequence from saga.outbox where subject = $1
            order by sequence",
        )
        .bind(placing.order_id.to_string())
        .fetch_all(db)
        .await
        .expect("read");
        numbers
    };
    // A message that is rolled back is not counted.
    let mut tx = sqlx::Connection::begin(&mut *db).await.expect("begin");
    ctx(&shop, &mut tx).record_and_publish([], Some(failed())).await.expect("published");
    tx.rollback().await.expect("rolled back");
    for _ in 0..2 {
        ctx(&shop, &mut db).record_and_publish([], Some(failed())).await.expect("published");
    }
    complete(&mut ctx(&shop, &mut db), placing.order_id, &authorized(&placing))
        .await
        .expect("done");
    ctx(&shop, &mut db).record_and_publish([], Some(failed())).await.expect("published");
    let (placed, failed) = ("shop.order.placed.v1", "shop.payment.failed.v1");
    let numbers = [(failed, 1, 1), (failed, 2, 2), (placed, 3, 1), (failed, 4, 3)];
    let numbers = numbers.map(|(kind, sequence, nth)| (kind.to_owned(), sequence, nth));
    assert_eq!(count(&mut db).await, numbers);
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_domain_event_is_never_changed_or_deleted() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let buyer = customer(&shop, &mut db).await;
    let cup = product(&mut db, 1000, 10).await;
    put(&shop, &mut db, &buyer, &[(cup, 1)]).await;
    for statement in [
        "-- test: change\nupdate shop.domain_event set payload = '{}'",
        "-- test: delete\ndelete from shop.domain_event",
        "-- test: truncate\ntruncate shop.domain_event",
    ] {
        let refused = sqlx::query(statement).execute(&mut *db).await.expect_err(statement);
        let constraint = refused.as_database_error().and_then(|error| error.constraint());
        assert_eq!(constraint, Some("domain_events_are_append_only"), "{statement}: {refused}");
    }
    drop(db);
    database.close().await;
}
