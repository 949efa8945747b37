//! What partners receive from RabbitMQ of an order that is placed and cancelled.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;
use stepwise_adapters::{
    rabbitmq::{RabbitPublisher, Topology},
    sandbox::SandboxMethod as Method,
};
use stepwise_engine::{
    Status,
    outbox::{DeclaredTopologies, Relay, RelaySettings},
};
use stepwise_tests::House;
use stepwise_workflows::cloud_event::Envelopes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::test]
async fn a_partner_receives_an_order_placed_and_cancelled_in_order_as_cloud_events() {
    let url = std::env::var("AMQP_URL")
        .expect("AMQP_URL is not set: run ./scripts/test, which starts a RabbitMQ");
    let house = House::open(Duration::from_secs(5)).await;
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    // The saga ends although nothing publishes yet: the broker is not in its way.
    let (order, operation) = house.place(buyer, product, 3, Method::Ok).await;
    assert_eq!(house.end(operation).await.status, Status::Completed);
    let cancelling = house.cancel(buyer, order).await.expect("accepted");
    assert_eq!(house.end(cancelling).await.status, Status::Completed);

    let partner = Partner::of(&house, &url).await;
    let mut messages = partner.messages().await;
    let (mut received, mut registered) = (Vec::new(), None);
    while received.len() < 3 || registered.is_none() {
        let next =
            tokio::time::timeout(Duration::from_secs(20), messages.next()).await.expect("in time");
        let message = next.expect("the queue is there").expect("delivered");
        let event: Value = serde_json::from_slice(&message.data).expect("JSON");
        assert_eq!(message.routing_key.as_str(), event["type"].as_str().expect("a type"));
        assert_eq!(event["specversion"], "1.0");
        message.ack(BasicAckOptions::default()).await.expect("acknowledged");
        if event["type"] == "shop.customer.registered.v1" {
            registered = Some(event);
            continue;
        }
        assert_eq!(event["subject"], order.to_string());
        received.push((
            event["type"].as_str().unwrap_or_default().to_owned(),
            event["sequence"].as_str().unwrap_or_default().to_owned(),
            event["data"].clone(),
        ));
    }
    let registered = registered.expect("the buyer has registered before");
    assert_eq!(registered["subject"], buyer.id.to_string());
    assert_eq!(registered["source"], "/stepwise/customer");
    assert_eq!(
        (&registered["sequence"], &registered["data"]["firstName"]),
        (&Value::from("0000000001"), &Value::from("Ada"))
    );
    let email = registered["data"]["email"].as_str().expect("open to partners");
    assert!(email.ends_with("@example.com"), "{email}");
    let kinds: Vec<_> =
        received.iter().map(|(kind, sequence, _)| (kind.as_str(), sequence.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("shop.order.placed.v1", "0000000001"),
            ("shop.order.cancelled.v1", "0000000002"),
            ("shop.payment.refund-processed.v1", "0000000003")
        ]
    );
    assert_eq!(
        (&received[0].2["itemCount"], &received[0].2["customerId"]),
        (&Value::from(3), &Value::from(buyer.id.to_string()))
    );
    assert_eq!(
        received[1].2["reason"], "changed my mind",
        "sealed in our database, open to partners"
    );
    partner.stop.cancel();
    partner.relaying.await.expect("the relay did not panic");
    house.close().await;
}

/// A partner with a queue of its own on an exchange of its own, and the relay that publishes there.
struct Partner {
    name: String,
    channel: Channel,
    /// Open as long as the channel is used.
    _connection: Connection,
    stop: CancellationToken,
    relaying: JoinHandle<()>,
}

impl Partner {
    async fn of(house: &House, url: &str) -> Self {
        let name = format!("test.{}", Uuid::now_v7().simple());
        let topology = Topology {
            exchange: name.clone(),
            archive: format!("{name}.archive"),
            ..Topology::default()
        };
        let envelopes = Envelopes::new(Arc::clone(&house.shop.keys), &house.shop.config.base_url);
        let address = url.parse().expect("an address");
        let declared = DeclaredTopologies::new(house.pool().clone());
        let publisher = RabbitPublisher::new(address, envelopes, topology, declared);
        publisher.connect().await.expect("the broker is there");
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        let (queue, none) = (name.as_str(), FieldTable::default());
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), exclusive, none.clone()).await.expect("a queue");
        let bind = QueueBindOptions::default();
        let bound = channel.queue_bind(queue.into(), queue.into(), "shop.#".into(), bind, none);
        bound.await.expect("bound");
        let stop = CancellationToken::new();
        let relay = Relay::new(house.pool().clone(), Arc::new(publisher), RelaySettings::default());
        let relaying = tokio::spawn(relay.run(stop.clone()));
        Self { name, channel, _connection: connection, stop, relaying }
    }

    async fn messages(&self) -> Consumer {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = self.name.as_str().into();
        self.channel.basic_consume(queue, "partner".into(), options, none).await.expect("consuming")
    }
}
