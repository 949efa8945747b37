use super::*;

#[tokio::test]
async fn messages_wait_once_the_archives_binding_is_gone_until_it_is_declared_again() {
    let stage = Stage::set(&amqp_url()).await;
    let archive = stage.topology.archive.clone();
    let exchange = stage.topology.exchange.clone();
    stage
        .partner
        .queue_unbind(
            archive.as_str().into(),
            exchange.as_str().into(),
            super::super::topology::ARCHIVED.into(),
            FieldTable::default(),
        )
        .await
        .expect("the archive was bound");
    stage.write(&[message("shop.order.placed.v1", "order-1", 1)]).await;
    until("the fault is reported", || async {
        let state = stage.publisher.state();
        matches!(state, PublisherState::Destroyed { reason } if reason.contains("binding of the archive"))
    })
    .await;
    assert_eq!(outbox::lag(stage.pool()).await.expect("lag").messages, 1, "nothing is marked");
    assert_eq!(stage.error_of("order-1").await, None, "no message is blamed");
    // A partner that declares the exchange is not enough, because the archive would not be bound.
    let queue = stage.queue("#", &[]).await;
    let mut consumer = stage.consume(&queue).await;
    let looked = stage.publisher.look().await.expect_err("a person must have it declared");
    assert!(matches!(looked, RabbitError::Destroyed { .. }), "{looked}");
    stage.publisher.declare().await.expect("declared");
    assert_eq!(body(&next(&mut consumer).await)["subject"], "order-1");
    stage.drained().await;
    stage.clear().await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced() {
    let (proxy, url) = through_a_network().await;
    let stage = Stage::set(&url).await;
    let queue = stage.queue("#", &[]).await;
    let mut consumer = stage.consume(&queue).await;
    stage.write(&[message("shop.order.placed.v1", "order-1", 1)]).await;
    assert_eq!(body(&next(&mut consumer).await)["subject"], "order-1");
    stage.drained().await;

    proxy.set(Network::Silent);
    stage.write(&[message("shop.order.placed.v1", "order-2", 1)]).await;
    until("the silence is noticed", || async {
        matches!(stage.publisher.state(), PublisherState::Disconnected { .. })
    })
    .await;
    proxy.set(Network::Whole);
    assert_eq!(body(&next(&mut consumer).await)["subject"], "order-2");
    stage.drained().await;
    assert_eq!(stage.error_of("order-2").await, None, "the message is not blamed");
    stage.clear().await;
}

#[tokio::test]
async fn a_lost_connection_is_renewed_while_there_is_nothing_to_publish() {
    let (proxy, url) = through_a_network().await;
    let stage = Stage::set(&url).await;
    proxy.set(Network::Cut);
    until("the loss is visible", || async {
        matches!(stage.publisher.state(), PublisherState::Disconnected { .. })
    })
    .await;
    proxy.set(Network::Whole);
    until("the relay has it renewed", || async {
        stage.publisher.state() == PublisherState::Connected
    })
    .await;
    stage.clear().await;
}

#[tokio::test]
async fn a_broker_that_blocks_us_is_shown_and_gets_nothing_until_it_is_well() {
    let node = Node::start().await;
    let stage = Stage::at(&node.url, &node.url).await;
    node.control(&["set_vm_memory_high_watermark", "0"]).await;
    // A broker blocks a connection when it publishes; one message may still be accepted.
    let messages: Vec<Message> =
        (0..50).map(|one| message("shop.order.placed.v1", &format!("order-{one}"), 1)).collect();
    stage.write(&messages).await;
    until("it is shown", || async {
        matches!(stage.publisher.state(), PublisherState::Blocked { .. })
    })
    .await;
    node.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    stage.drained().await;
    let blamed: Vec<String> = futures::stream::iter(0..50)
        .filter_map(async |one| stage.error_of(&format!("order-{one}")).await)
        .collect()
        .await;
    assert!(blamed.is_empty(), "{blamed:?}");
    stage.clear().await;
}

#[tokio::test]
async fn a_user_with_only_the_relays_rights_publishes_and_the_look_is_content() {
    let node = Node::start().await;
    let stage = Stage::at(&node.url, &node.url).await;
    node.control(&["add_user", "relay", "secret"]).await;
    let url = node.url.replacen("guest:guest", "relay:secret", 1);
    assert_ne!(url, node.url);
    let own = format!("^{}", stage.topology.exchange.replace('.', r"\."));
    let both = format!(r"{own}|^amq\.default$");
    for (configure, write, expected) in [
        ("^$", &own, Looked::TakesConnections),
        (r"^stepwise\.look\.", &own, Looked::TakesConnections),
        (r"^stepwise\.look\.", &both, Looked::Takes),
    ] {
        node.control(&["set_permissions", "relay", configure, write, &own]).await;
        let relay = publisher(&url, &stage.key, &stage.topology, &stage.database);
        relay.connect().await.expect("a relay needs no more");
        let looked = relay.look().await.expect("the broker is well");
        assert_eq!(looked, expected, "{configure} {write}");
    }
    stage.clear().await;
}

#[tokio::test]
async fn a_wrong_address_is_told_in_its_own_words() {
    for wrong in ["", "localhost", "http://localhost", "amqp://host:port", "not a url"] {
        let refused = wrong.parse::<Address>().expect_err(wrong);
        assert!(matches!(refused, RabbitError::Address { .. }), "{wrong:?}: {refused}");
    }
    let shown = "amqp://me:secret@localhost/%2f".parse::<Address>().expect("it is one");
    assert!(!format!("{shown} {shown:?}").contains("secret"));

    let database = Database::fresh(&[migrations()]).await;
    let connect = async |url: String| {
        let publisher = publisher(&url, &CustomerKey::random(), &Topology::default(), &database);
        publisher.connect().await.expect_err("it must not connect")
    };
    let right = amqp_url();
    let stranger = right.replacen("amqp://", "amqp://stranger-", 1);
    assert!(matches!(connect(stranger).await, RabbitError::Denied { .. }));
    let elsewhere = format!("{}/nowhere", right.rsplit_once('/').expect("a path").0);
    assert!(matches!(connect(elsewhere).await, RabbitError::Denied { .. }));

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let mute = connect(format!("amqp://127.0.0.1:{port}/%2f")).await;
    assert!(matches!(mute, RabbitError::Unreachable { .. }), "{mute}");
    drop(taken);
    let nobody = connect(format!("amqp://127.0.0.1:{port}/%2f")).await;
    assert!(matches!(nobody, RabbitError::Unreachable { .. }), "{nobody}");
    database.close().await;
}

#[tokio::test]
async fn an_archive_with_other_settings_is_told_so() {
    let stage = Stage::set(&amqp_url()).await;
    let topology = Topology { keep: Duration::from_secs(60), ..stage.topology.clone() };
    let other = publisher(&amqp_url(), &stage.key, &topology, &stage.database);
    let refused = other.declare().await.expect_err("the archive exists with another retention");
    assert!(matches!(refused, RabbitError::Topology { .. }), "{refused}");
    let names: BTreeSet<&str> = BTreeSet::from(["PRECONDITION", "x-max-age"]);
    assert!(names.iter().any(|name| refused.to_string().contains(name)), "{refused}");
    stage.clear().await;
}
