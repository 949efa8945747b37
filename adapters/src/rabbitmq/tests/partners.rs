//! Faults of one partner, one message or one operator do not affect the others.

use super::*;

/// Waits for `count` deliveries to a queue, and returns their number for each subject.
async fn received(consumer: &mut lapin::Consumer, count: usize) -> BTreeMap<String, usize> {
    let mut received = BTreeMap::new();
    for _ in 0..count {
        let event = body(&next(consumer).await);
        *received.entry(event["subject"].as_str().expect("a subject").to_owned()).or_default() += 1;
    }
    received
}

#[tokio::test]
async fn a_partners_full_queue_holds_nobody_back_and_copies_nothing() {
    let stage = Stage::set(&amqp_url()).await;
    let full = stage.full_queue().await;
    let other = stage.queue("shop.#", &[]).await;
    let mut consumer = stage.consume(&other).await;
    // Publish one after the other, because a full queue refuses only a moment later.
    for one in 0..10 {
        stage.write(&[message("shop.order.placed.v1", &format!("order-{one}"), 1)]).await;
        stage.drained().await;
    }
    assert_eq!(received(&mut consumer, 10).await.len(), 10, "each once");
    // The next delivery is a later message, so there were no copies in between.
    stage.write(&[message("shop.order.placed.v1", "order-last", 1)]).await;
    assert_eq!(body(&next(&mut consumer).await)["subject"], "order-last");
    stage.drained().await;
    let troubles = outbox::feed_troubles(stage.pool()).await.expect("readable");
    assert!(troubles.refused >= 7, "{troubles:?}");
    assert!(troubles.refused_reason.is_some_and(|reason| reason.contains("partner")));

    // The archive has all of them.
    let mut archive = stage.archive().await;
    let mut kept = BTreeSet::new();
    while kept.len() < 11 {
        kept.insert(body(&next(&mut archive).await)["subject"].to_string());
    }
    stage.partner.queue_delete(full.as_str().into(), Default::default()).await.expect("deleted");
    stage.clear().await;
}

#[tokio::test]
async fn a_message_too_large_for_the_broker_holds_back_its_own_subject_only() {
    let node = Node::start().await;
    // A channel keeps the limit that held when it was opened.
    node.control(&["eval", "application:set_env(rabbit, max_message_size, 1500)."]).await;
    let stage = Stage::at(&node.url, &node.url).await;
    let queue = stage.queue("#", &[]).await;
    let mut consumer = stage.consume(&queue).await;
    let large = json!({ "reason": "x".repeat(2000) });
    let large = Message { data: large, ..message("shop.order.cancelled.v1", "large", 1) };
    let mut messages: Vec<Message> =
        (1..=60).map(|one| message("shop.order.placed.v1", &format!("order-{one}"), 1)).collect();
    messages.insert(30, large);
    messages.push(message("shop.order.placed.v1", "large", 2));
    stage.write(&messages).await;
    let copies = received(&mut consumer, 60).await;
    assert_eq!(copies.len(), 60, "one copy each: {copies:?}");
    assert!(!copies.contains_key("large"));
    until("the reason stands on its row", || async {
        stage.error_of("large").await.is_some_and(|error| error.contains("message size"))
    })
    .await;
    let failing = outbox::failing(stage.pool(), 10).await.expect("readable");
    assert_eq!(failing.len(), 1, "{failing:?}");
    assert_eq!(stage.publisher.state(), PublisherState::Connected);
    node.control(&["eval", "application:set_env(rabbit, max_message_size, 134217728)."]).await;
    stage.drained().await;
    let late = received(&mut consumer, 2).await;
    assert_eq!(late["large"], 2, "{late:?}");
    stage.clear().await;
}

#[tokio::test]
async fn a_routing_key_that_is_too_long_waits_with_its_error() {
    let stage = Stage::set(&amqp_url()).await;
    stage.write(&[message("shop.order.placed.v1", "long", 1)]).await;
    stage.drained().await;
    sqlx::query(
        "-- test: a row that is there already
         insert into saga.outbox (shard, subject, sequence, message_id, kind, routing_key, source, data, happened_at)
         select shard, subject, 2, gen_random_uuid(), kind, repeat('k', 291), source, data, happened_at
         from saga.feed where subject = 'long'",
    )
    .execute(stage.pool())
    .await
    .expect("written");
    until("the reason stands on its row", || async {
        stage.error_of("long").await.is_some_and(|error| error.contains("291 bytes"))
    })
    .await;
    stage.write(&[message("shop.order.placed.v1", "order-1", 1)]).await;
    until("the other messages are published", || async {
        outbox::lag(stage.pool()).await.expect("lag").messages == 1
    })
    .await;
    stage.clear().await;
}

#[tokio::test]
async fn a_destroyed_exchange_is_told_and_made_anew_only_when_asked() {
    let stage = Stage::set(&amqp_url()).await;
    stage.write(&[message("shop.order.placed.v1", "order-1", 1)]).await;
    stage.drained().await;
    assert_eq!(stage.publisher.look().await.expect("it takes messages"), Looked::Takes);
    let exchange = stage.topology.exchange.clone();
    stage
        .partner
        .exchange_delete(exchange.as_str().into(), Default::default())
        .await
        .expect("it was there");
    let is_told = || async {
        let state = stage.publisher.state();
        matches!(state, PublisherState::Destroyed { reason } if reason.contains("relay --declare"))
    };
    until("the fault is reported although nothing is published", is_told).await;
    stage.write(&[message("shop.order.placed.v1", "order-1", 2)]).await;
    let looked = stage.publisher.look().await.expect_err("it is gone");
    assert!(matches!(looked, RabbitError::Destroyed { .. }), "{looked}");
    until("the fault is still reported", is_told).await;
    assert_eq!(outbox::lag(stage.pool()).await.expect("lag").messages, 1, "nothing is marked");
    assert_eq!(stage.error_of("order-1").await, None, "no message is blamed");

    stage.publisher.declare().await.expect("declared as asked");
    stage.drained().await;
    assert_eq!(stage.publisher.state(), PublisherState::Connected);
    stage.clear().await;
}
