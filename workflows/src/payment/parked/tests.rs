//! News that is kept for a person.

use super::*;
use crate::testing::database;

#[tokio::test]
async fn when_too_many_events_wait_only_the_shops_own_news_is_kept() {
    let database = database().await;
    let mut db = database.pool().acquire().await.expect("a connection");
    sqlx::query(
        "-- test: as many as may wait
        insert into shop.parked_gateway_event (event_id, why, kind, parked_at)
        select n::text, 'unreadable', 'new', saga.now() from generate_series(1, $1) n",
    )
    .bind(AT_MOST)
    .execute(&mut *db)
    .await
    .expect("written");
    let news = |id, kind| Parked {
        id,
        why: Misfit::RefundFailed,
        kind,
        reference: None,
        order_id: None,
        amount: None,
        at: None,
    };
    assert!(!park(&mut db, &news("evt_1", "refund.failed")).await.expect("refused"));
    assert!(park(&mut db, &news("7", "new")).await.expect("it is there"));
    assert!(park(&mut db, &news("reconcile-1", RECONCILE)).await.expect("kept"));
    assert_eq!(parked_events(database.pool()).await.expect("read"), AT_MOST + 1);
    drop(db);
    database.close().await;
}
