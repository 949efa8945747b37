//! TODO

use super::*;

#[tokio::test]
async fn a_message_that_is_not_taken_holds_back_its_own_subject_only() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("poison", 1), message("poison", 2), message("fine", 1)]).await;
    let publisher = Arc::new(Recorder::default());
    publisher.answer("poison", Some(Rejection::Unroutable { code: 312, text: "NO_ROUTE".into() }));
    let relay = start(pool, &publisher, brisk());
    write(pool, &[message("fine", 2), message("fine", 3)]).await;
    until("the healthy subject drains, the other is repeated", || async {
        publisher.sequences("fine") == [1, 2, 3] && publisher.sequences("poison").len() >= 2
    })
    .await;
    assert!(publisher.sequences("poison").iter().all(|sequence| *sequence == 1));
    let noted = lag(pool).await.expect("lag");
    assert_eq!((noted.messages, noted.failing), (2, 1));
    let (error, later): (String, bool) = sqlx::query_as(
        "-- test: what stands on the row
         select error, next_try_at > recorded_at from saga.outbox where subject = 'poison' and sequence = 1",
    )
    .fetch_one(pool)
    .await
    .expect("the row is still there");
    assert_eq!(error, "returned as unroutable: 312 NO_ROUTE");
    assert!(later);

    publisher.answer("poison", None);
    drained(pool).await;
    relay.stop().await;
    assert_eq!(fed(pool).await["poison"], [1, 2]);
    database.close().await;
}

#[tokio::test]
async fn a_crash_between_confirmation_and_mark_publishes_the_same_id_again() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1), message("a", 2)]).await;
    let publisher = Arc::new(Recorder::default());
    let held = publisher.gate.lock().await;
    let relay = start(pool, &publisher, brisk());
    until("the head is with the publisher", || async { publisher.count() == 1 }).await;
    // The mark waits for these row locks, so the kill hits between confirmation and mark.
    let mut lock = pool.begin().await.expect("begin");
    sqlx::query("-- test: hold the mark up\nselect from saga.outbox_shard for update")
        .execute(&mut *lock)
        .await
        .expect("lock");
    drop(held);
    waits_for_a_lock(pool, "outbox: mark published").await;
    relay.kill().await;
    sqlx::query(
        "-- test: and the session of the killed relay ends
         select pg_terminate_backend(pid) from pg_stat_activity
         where query like '-- outbox: mark published%' and wait_event_type = 'Lock'
             and datname = current_database()",
    )
    .execute(pool)
    .await
    .expect("terminate");
    lock.rollback().await.expect("rollback");

    Relay::free_all(pool).await.expect("its leases are nobody's");
    let successor = start(pool, &publisher, brisk());
    drained(pool).await;
    successor.stop().await;
    assert_eq!(publisher.sequences("a"), [1, 1, 2], "repeated in order");
    let seen = publisher.seen.lock().expect("not poisoned").clone();
    assert_eq!(seen[0], seen[1], "the copy has the same id and the same content");
    assert_eq!(fed(pool).await["a"], [1, 2]);
    database.close().await;
}

#[tokio::test]
async fn while_the_publisher_is_away_everything_waits_and_nothing_is_blamed() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let publisher = Arc::new(Recorder::default());
    *publisher.away.lock().expect("not poisoned") = true;
    let relay = start(pool, &publisher, brisk());
    let messages: Vec<Message> = (0..100).map(|one| message(&format!("s{one}"), 1)).collect();
    write(pool, &messages).await;
    until("the lag shows them", || async { lag(pool).await.expect("lag").messages == 100 }).await;
    *publisher.away.lock().expect("not poisoned") = false;
    drained(pool).await;
    relay.stop().await;
    assert_eq!(publisher.count(), 100);
    database.close().await;
}

#[tokio::test]
async fn a_stopping_relay_waits_for_what_it_sent_and_gives_its_leases_back() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1)]).await;
    let publisher = Arc::new(Recorder::default());
    let held = publisher.gate.lock().await;
    let relay = start(pool, &publisher, brisk());
    until("the message is on its way", || async { publisher.count() == 1 }).await;
    let ((), ()) = tokio::join!(relay.stop(), async move { drop(held) });
    assert_eq!(fed(pool).await["a"], [1]);
    let leased: i64 = sqlx::query_scalar(
        "-- test: leases left\nselect count(*) from saga.outbox_shard where owner is not null",
    )
    .fetch_one(pool)
    .await
    .expect("count");
    assert_eq!(leased, 0);
    database.close().await;
}
