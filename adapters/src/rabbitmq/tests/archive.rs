//! The archive gets personal data sealed, and partners get it in plain.

use stepwise_workflows::privacy;

use super::*;

const REASON: &str = "Xylophonist";

/// A cancellation with a reason, sealed for its customer as the outbox has it.
fn cancelled(stage: &Stage, order: &str, sequence: i64) -> Message {
    let person = Uuid::now_v7();
    let reason = json!(REASON).to_string();
    let sealed = privacy::seal(&stage.key, person, "reason", reason.as_bytes());
    Message {
        data: json!({ "orderId": order, "reason": { "sealed": sealed } }),
        sealed_for: Some(person),
        ..message("shop.order.cancelled.v1", order, sequence)
    }
}

#[tokio::test]
async fn the_archive_has_what_is_personal_sealed_and_partners_have_it_in_plain() {
    let stage = Stage::set(&amqp_url()).await;
    let queue = stage.queue("shop.#", &[]).await;
    let mut partner = stage.consume(&queue).await;
    let mut archive = stage.archive().await;
    let told = cancelled(&stage, "order-1", 1);
    stage.write(&[told.clone(), message("shop.order.placed.v1", "order-2", 1)]).await;
    stage.drained().await;
    for consumer in [&mut partner, &mut archive] {
        let both = [body(&next(consumer).await), body(&next(consumer).await)];
        let subjects: BTreeSet<&str> = both.iter().filter_map(|e| e["subject"].as_str()).collect();
        assert_eq!(subjects, BTreeSet::from(["order-1", "order-2"]), "each once");
        let event = both.iter().find(|event| event["subject"] == "order-1").expect("it is there");
        let reason = match consumer.queue().as_str() == queue {
            true => json!(REASON),
            false => told.data["reason"].clone(),
        };
        assert_eq!(
            (&event["id"], &event["data"]["orderId"], &event["data"]["reason"]),
            (&json!(told.id), &json!("order-1"), &reason)
        );
    }
    // The next delivery is a later message, so there were no copies in between.
    stage.write(&[message("shop.order.placed.v1", "order-3", 1)]).await;
    for consumer in [&mut partner, &mut archive] {
        assert_eq!(body(&next(consumer).await)["subject"], "order-3");
    }
    stage.clear().await;
}

#[tokio::test]
async fn what_is_personal_goes_to_the_archive_when_no_partner_takes_it() {
    let stage = Stage::set(&amqp_url()).await;
    let mut archive = stage.archive().await;
    // At first nobody has bound a queue, then there is one that is full.
    stage.write(&[cancelled(&stage, "order-1", 1)]).await;
    stage.drained().await;
    let full = stage.full_queue().await;
    for sequence in 2..8 {
        stage.write(&[cancelled(&stage, "order-1", sequence)]).await;
        stage.drained().await;
    }
    assert_eq!(stage.publisher.state(), PublisherState::Connected);
    for sequence in 1..8 {
        let event = body(&next(&mut archive).await);
        assert_eq!(event["sequence"], format!("{sequence:010}"), "each once");
        assert!(event["data"]["reason"]["sealed"].is_string(), "{event}");
    }
    let troubles = outbox::feed_troubles(stage.pool()).await.expect("readable");
    assert!(troubles.refused >= 4, "{troubles:?}");
    stage.partner.queue_delete(full.as_str().into(), Default::default()).await.expect("deleted");
    stage.clear().await;
}

/// An earlier release bound the archive to everything, and noted that under another name. After a roll-back it did so again.
#[tokio::test]
async fn an_archive_that_an_earlier_release_has_declared_takes_nothing_personal_any_more() {
    let stage = Stage::set(&amqp_url()).await;
    let mut archive = stage.archive().await;
    let first = "update saga.broker_topology set name = split_part(name, ' ', 1) || ' ' || split_part(name, ' ', 2)";
    let again = "update saga.broker_topology set destroyed = null";
    for (sequence, noted) in [(1, first), (2, again)] {
        stage.bind(&stage.topology.archive, "#").await;
        let noted = sqlx::query(noted).execute(stage.pool()).await;
        noted.expect("as the earlier release has noted it");
        let publisher = stage.another_publisher();
        publisher.connect().await.expect("it takes the topology over");
        assert_eq!(publisher.look().await.expect("it is there"), Looked::Takes);
        stage.write(&[cancelled(&stage, "order-1", sequence)]).await;
        stage.drained().await;
        stage.write(&[message("shop.order.placed.v1", "order-2", sequence)]).await;
        let event = body(&next(&mut archive).await);
        assert!(event["data"]["reason"]["sealed"].is_string(), "{event}");
        assert_eq!(body(&next(&mut archive).await)["subject"], "order-2", "no plain copy");
    }
    stage.clear().await;
}

#[tokio::test]
async fn an_exchange_that_was_destroyed_before_the_release_changed_is_not_declared_again() {
    let stage = Stage::set(&amqp_url()).await;
    sqlx::query("update saga.broker_topology set name = split_part(name, ' ', 1) || ' ' || split_part(name, ' ', 2)")
        .execute(stage.pool())
        .await
        .expect("as the earlier release has noted it");
    let exchange = stage.topology.exchange.clone();
    let gone = stage.partner.exchange_delete(exchange.as_str().into(), Default::default());
    gone.await.expect("it was there");
    let publisher = stage.another_publisher();
    for _ in 0..2 {
        let refused = publisher.connect().await.expect_err("the partners' bindings are gone");
        assert!(matches!(refused, RabbitError::Destroyed { .. }), "{refused}");
    }
    publisher.declare().await.expect("declared as asked");
    assert_eq!(publisher.look().await.expect("it is there"), Looked::Takes);
    stage.clear().await;
}
