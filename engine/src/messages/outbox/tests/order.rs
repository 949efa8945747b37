//! TODO

use super::*;

#[tokio::test]
async fn every_subject_is_published_in_order_and_without_a_gap() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let subjects: Vec<String> = (0..40).map(|number| format!("order-{number}")).collect();
    let publisher = Arc::new(Recorder::default());
    let relay = start(pool, &publisher, brisk());
    for sequence in 1..=10 {
        let messages: Vec<Message> = subjects.iter().map(|one| message(one, sequence)).collect();
        write(pool, &messages).await;
    }
    drained(pool).await;
    relay.stop().await;

    let expected: Vec<i64> = (1..=10).collect();
    let fed = fed(pool).await;
    for subject in &subjects {
        assert_eq!(publisher.sequences(subject), expected, "{subject}");
        assert_eq!(fed[subject], expected, "{subject} in the feed");
    }
    database.close().await;
}

#[tokio::test]
async fn a_subject_has_at_most_one_unconfirmed_message() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1), message("a", 2), message("b", 1)]).await;
    let publisher = Arc::new(Recorder::default());
    let held = publisher.gate.lock().await;
    let relay = start(pool, &publisher, brisk());
    until("both heads are with the publisher", || async { publisher.count() == 2 }).await;
    // A third message whose arrival shows that the relay has looked again meanwhile.
    write(pool, &[message("c", 1)]).await;
    until("the new subject came too", || async { publisher.sequences("c") == [1] }).await;
    assert_eq!(publisher.sequences("a"), [1]);
    drop(held);
    drained(pool).await;
    assert_eq!(publisher.sequences("a"), [1, 2]);
    relay.stop().await;
    database.close().await;
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published_and_no_sequence_is_written_twice() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let mut tx = pool.begin().await.expect("begin");
    publish(&mut tx, &message("a", 1)).await.expect("publish");
    tx.rollback().await.expect("rollback");
    write(pool, &[message("a", 1)]).await;

    let mut tx = pool.begin().await.expect("begin");
    let twice = publish(&mut tx, &message("a", 1)).await.expect_err("the sequence is taken");
    let PublishError::Database(twice) = twice else { panic!("{twice}") };
    let constraint = twice.as_database_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("a_subject_publishes_a_sequence_once"));
    drop(tx);

    let publisher = Arc::new(Recorder::default());
    let relay = start(pool, &publisher, brisk());
    drained(pool).await;
    relay.stop().await;
    assert_eq!(publisher.sequences("a"), [1]);
    database.close().await;
}

#[tokio::test]
async fn a_relay_that_was_paused_beyond_its_lease_is_fenced() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1), message("a", 2)]).await;

    // The first relay's lease is not renewed: it hangs in a publisher, as if stopped by a signal.
    let (slow, quick) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let held = slow.gate.lock().await;
    let settings = RelaySettings { lease: Duration::from_secs(60), ..brisk() };
    let paused = start(pool, &slow, settings);
    until("the first relay has sent", || async { slow.sequences("a") == [1] }).await;
    Relay::free_all(pool).await.expect("as if the lease had run out");
    let successor = start(pool, &quick, brisk());
    drained(pool).await;
    assert_eq!(quick.sequences("a"), [1, 2], "the successor repeats what was not confirmed");

    drop(held);
    write(pool, &[message("a", 3)]).await;
    drained(pool).await;
    paused.stop().await;
    successor.stop().await;
    assert_eq!(slow.sequences("a"), [1], "the paused relay publishes nothing more");
    assert_eq!(fed(pool).await["a"], [1, 2, 3], "nothing stands in the feed twice");
    database.close().await;
}

#[tokio::test]
async fn a_mark_under_an_old_epoch_moves_nothing() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    write(pool, &[message("a", 1)]).await;
    let owner = uuid::Uuid::now_v7();
    let old = lease::take(pool, owner, Duration::ZERO).await.expect("take").epochs;
    let heads = store::heads(pool, &old.shards()).await.expect("heads");
    assert_eq!(heads.len(), 1);
    lease::take(pool, uuid::Uuid::now_v7(), Duration::ZERO).await.expect("taken over");
    let current = lease::take(pool, owner, Duration::from_secs(60)).await.expect("taken back");
    let current = current.epochs;
    let id = heads[0].message.message_id;
    let heads =
        heads.into_iter().map(|head| store::Confirmed { message: head.message, refusal: None });
    let heads: Vec<_> = heads.collect();

    let moved = store::mark_published(pool, owner, &old, &heads).await.expect("mark");
    assert!(moved.is_empty(), "the same owner, but an epoch that has passed");
    let moved = store::mark_published(pool, owner, &current, &heads).await.expect("mark");
    assert_eq!(moved, [id]);
    database.close().await;
}

#[tokio::test]
async fn publishers_notify_a_relay_that_sleeps_and_no_other() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let mut notes = sqlx::postgres::PgListener::connect_with(pool).await.expect("connects");
    notes.listen(store::WAKE).await.expect("listens");
    let owner = uuid::Uuid::now_v7();
    lease::take(pool, owner, Duration::from_secs(60)).await.expect("it lives");
    let publish_one = async |sequence, asleep| {
        store::sleep(pool, owner, asleep).await.expect("noted");
        let mut tx = pool.begin().await.expect("begin");
        publish(&mut tx, &message("a", sequence)).await.expect("publish");
        sqlx::query("-- test: mark the end\nselect pg_notify($1, $2)")
            .bind(store::WAKE)
            .bind(sequence.to_string())
            .execute(&mut *tx)
            .await
            .expect("notified");
        tx.commit().await.expect("commit");
    };
    publish_one(1, false).await;
    publish_one(2, true).await;
    let mut received = Vec::new();
    while received.len() < 3 {
        received.push(notes.recv().await.expect("a note").payload().to_owned());
    }
    assert_eq!(received, ["1", "", "2"], "one note, and only while somebody sleeps");
    drop(notes);
    database.close().await;
}

#[tokio::test]
async fn an_idle_relay_sleeps_and_says_when_it_is_awake() {
    let database = Database::fresh(&[migrations()]).await;
    let pool = database.pool();
    let publisher = Arc::new(Recorder::default());
    let relay = start(pool, &publisher, RelaySettings { poll: Duration::from_secs(1), ..brisk() });
    let asleep = async || {
        sqlx::query_scalar("-- test: does it sleep\nselect asleep from saga.outbox_relay")
            .fetch_optional(pool)
            .await
            .expect("readable")
            .unwrap_or(false)
    };
    until("an idle relay sleeps", || async { asleep().await }).await;
    let held = publisher.gate.lock().await;
    write(pool, &[message("a", 1)]).await;
    until("a relay with work is awake", || async { !asleep().await }).await;
    drop(held);
    drained(pool).await;
    relay.stop().await;
    database.close().await;
}

#[tokio::test]
async fn a_routing_key_that_no_broker_takes_is_refused_when_it_is_written() {
    let database = Database::fresh(&[migrations()]).await;
    let mut tx = database.pool().begin().await.expect("begin");
    let longest = Message { routing_key: "k".repeat(ROUTING_KEY_BYTES), ..message("a", 1) };
    publish(&mut tx, &longest).await.expect("255 bytes are allowed");
    let longer = Message { routing_key: "k".repeat(ROUTING_KEY_BYTES + 1), ..message("a", 2) };
    let refused = publish(&mut tx, &longer).await.expect_err("256 are not");
    assert!(matches!(refused, PublishError::RoutingKey { bytes: 256, .. }), "{refused}");
    assert!(matches!(StepError::from(refused), StepError::Broken(_)), "trying again is useless");
    tx.rollback().await.expect("rollback");
    database.close().await;
}
