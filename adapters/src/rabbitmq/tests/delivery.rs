use super::*;

#[tokio::test]
async fn a_message_arrives_as_a_cloud_event_with_its_properties() {
    let stage = Stage::set(&amqp_url()).await;
    let queue = stage.queue("shop.order.*.v1", &[]).await;
    let mut consumer = stage.consume(&queue).await;
    let placed = message("shop.order.placed.v1", "order-1", 1).because("saga-1", "command-1");
    let other = message("shop.payment.failed.v1", "order-2", 1);
    stage.write(&[placed.clone(), other]).await;
    let delivery = next(&mut consumer).await;
    stage.drained().await;

    let event = body(&delivery);
    assert_eq!(event["id"], json!(placed.id));
    assert_eq!(event["type"], "shop.order.placed.v1");
    assert_eq!(event["subject"], "order-1");
    assert_eq!(event["sequence"], "0000000001");
    assert_eq!(event["correlationid"], "saga-1");
    assert_eq!(event["data"], json!({ "sequence": 1 }));
    assert_eq!(delivery.routing_key.as_str(), "shop.order.placed.v1");
    let properties = &delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(|value| value.as_str().to_owned())
    };
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(text(properties.message_id()), Some(placed.id.to_string()));
    assert_eq!(text(properties.kind()).as_deref(), Some("shop.order.placed.v1"));
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/cloudevents+json"));
    assert_eq!(stage.publisher.state(), PublisherState::Connected);
    stage.clear().await;
}

#[tokio::test]
async fn the_archive_takes_what_no_partner_has_asked_for() {
    let stage = Stage::set(&amqp_url()).await;
    stage.write(&[message("shop.order.placed.v1", "order-1", 1)]).await;
    stage.drained().await;
    let mut archive = stage.archive().await;
    assert_eq!(body(&next(&mut archive).await)["subject"], "order-1");
    stage.clear().await;
}

#[tokio::test]
async fn nothing_is_lost_and_order_is_kept_while_the_broker_goes_and_comes() {
    const SUBJECTS: usize = 20;
    const EACH: i64 = 15;
    let (proxy, url) = through_a_network().await;
    let stage = Stage::set(&url).await;
    let queue = stage.queue("#", &[]).await;
    let mut consumer = stage.consume(&queue).await;
    for sequence in 1..=EACH {
        let messages: Vec<Message> = (0..SUBJECTS)
            .map(|one| message("shop.order.placed.v1", &format!("order-{one}"), sequence))
            .collect();
        stage.write(&messages).await;
        if sequence % 5 == 0 {
            proxy.set(Network::Cut);
            until("the loss is visible", || async {
                matches!(stage.publisher.state(), PublisherState::Disconnected { .. })
            })
            .await;
            proxy.set(Network::Whole);
        }
    }
    stage.drained().await;

    let mut firsts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while bodies.len() < SUBJECTS * EACH as usize {
        let delivery = next(&mut consumer).await;
        let event = body(&delivery);
        let id = event["id"].as_str().expect("an id").to_owned();
        match bodies.get(&id) {
            Some(earlier) => assert_eq!(*earlier, delivery.data, "a copy has the same bytes"),
            None => {
                let subject = event["subject"].as_str().expect("a subject").to_owned();
                let sequence =
                    event["sequence"].as_str().expect("a text").parse::<i64>().expect("digits");
                firsts.entry(subject).or_default().push(sequence);
                bodies.insert(id, delivery.data);
            }
        }
    }
    let expected: Vec<i64> = (1..=EACH).collect();
    assert_eq!(firsts.len(), SUBJECTS);
    for (subject, sequences) in firsts {
        assert_eq!(sequences, expected, "{subject}: first receipts in order, none missing");
    }
    stage.clear().await;
}
