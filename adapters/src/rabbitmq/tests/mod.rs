mod archive;
mod delivery;
mod partners;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_engine::migrations::migrations;
use stepwise_engine::outbox::{
    self, DeclaredTopologies, Message, Publisher, PublisherState, Relay, RelaySettings,
};
use stepwise_engine::testing::Database;
use stepwise_workflows::cloud_event::Envelopes;
use stepwise_workflows::privacy::{CustomerKey, KeyStore, KeyStoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Address, Looked, RabbitError, RabbitPublisher, Topology};
use stepwise_tests::{
    proxy::{Network, Proxy},
    rabbit::Node,
};

/// Everybody has this key.
struct OneKey(CustomerKey);

#[async_trait]
impl KeyStore for OneKey {
    async fn create_many(&self, _: &[Uuid]) -> Result<Vec<CustomerKey>, KeyStoreError> {
        Err(KeyStoreError::Destroyed)
    }

    async fn get(&self, _: Uuid) -> Result<Option<CustomerKey>, KeyStoreError> {
        Ok(Some(self.0.clone()))
    }

    async fn destroy(&self, _: Uuid) -> Result<bool, KeyStoreError> {
        Err(KeyStoreError::Destroyed)
    }
}

fn amqp_url() -> String {
    std::env::var("AMQP_URL").unwrap_or_else(|_| {
        panic!("AMQP_URL is not set: run ./scripts/test, which starts a RabbitMQ for the tests")
    })
}

/// The setup of a test: a database, an exchange of its own, a relay between them and a partner's queue.
struct Stage {
    database: Database,
    topology: Topology,
    /// The address of the broker to which it publishes.
    url: String,
    /// The key for which messages are sealed.
    key: CustomerKey,
    publisher: Arc<RabbitPublisher>,
    partner: Channel,
    connection: Connection,
    stop: CancellationToken,
    relay: tokio::task::JoinHandle<()>,
}

impl Stage {
    /// Publishes to `url` and consumes directly from the broker.
    async fn set(url: &str) -> Self {
        Self::at(url, &amqp_url()).await
    }

    /// Publishes to `url` and consumes from `broker`.
    async fn at(url: &str, broker: &str) -> Self {
        let database = Database::fresh(&[migrations()]).await;
        let name = format!("test.{}", Uuid::now_v7().simple());
        let topology = Topology {
            archive: format!("{name}.archive"),
            exchange: name,
            keep: Duration::from_secs(3600),
        };
        let key = CustomerKey::random();
        let publisher = Arc::new(publisher(url, &key, &topology, &database));
        publisher.connect().await.expect("the broker of AMQP_URL can be reached");

        let connection = Connection::connect(broker, ConnectionProperties::default())
            .await
            .expect("the broker can be reached");
        let partner = connection.create_channel().await.expect("a channel");
        let stop = CancellationToken::new();
        let settings =
            RelaySettings { poll: Duration::from_millis(100), ..RelaySettings::default() };
        let as_port: Arc<dyn Publisher> = Arc::<RabbitPublisher>::clone(&publisher);
        let relay = Relay::new(database.pool().clone(), as_port, settings);
        let relay = tokio::spawn(relay.run(stop.clone()));
        let url = url.to_owned();
        Self { database, topology, url, key, publisher, partner, connection, stop, relay }
    }

    /// A publisher of another process, which is not connected yet.
    fn another_publisher(&self) -> RabbitPublisher {
        publisher(&self.url, &self.key, &self.topology, &self.database)
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// Declares a queue of the partner, bound with `pattern`, which is deleted with the test.
    async fn queue(&self, pattern: &str, arguments: &[(&str, AMQPValue)]) -> String {
        let name = format!("{}.partner.{}", self.topology.exchange, Uuid::now_v7().simple());
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut table = FieldTable::default();
        for (key, value) in arguments {
            table.insert((*key).into(), value.clone());
        }
        self.partner.queue_declare(name.as_str().into(), options, table).await.expect("a queue");
        self.bind(&name, pattern).await;
        name
    }

    async fn bind(&self, queue: &str, pattern: &str) {
        self.partner
            .queue_bind(
                queue.into(),
                self.topology.exchange.as_str().into(),
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a binding");
    }

    async fn consume(&self, queue: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.partner
            .basic_consume(queue.into(), "partner".into(), options, FieldTable::default())
            .await
            .expect("a consumer")
    }

    /// Reads the archive from its first message on.
    async fn archive(&self) -> lapin::Consumer {
        let reader = self.connection.create_channel().await.expect("a channel");
        reader.basic_qos(100, Default::default()).await.expect("streams want a limit");
        let mut first = FieldTable::default();
        first.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let archive = self.topology.archive.as_str();
        let options = BasicConsumeOptions::default();
        let consumer = reader.basic_consume(archive.into(), "reader".into(), options, first);
        consumer.await.expect("the archive can be read")
    }

    /// Declares a queue that takes one message and refuses all others. Answers its name.
    async fn full_queue(&self) -> String {
        let name = format!("{}.full", self.topology.exchange);
        let mut arguments = FieldTable::default();
        for (key, value) in [("x-queue-type", "quorum"), ("x-overflow", "reject-publish")] {
            arguments.insert(key.into(), AMQPValue::LongString(value.into()));
        }
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let durable = QueueDeclareOptions::durable();
        self.partner
            .queue_declare(name.as_str().into(), durable, arguments)
            .await
            .expect("a queue");
        self.bind(&name, "shop.#").await;
        name
    }

    async fn write(&self, messages: &[Message]) {
        let mut tx = self.pool().begin().await.expect("begin");
        outbox::publish_all(&mut tx, messages).await.expect("publish");
        tx.commit().await.expect("commit");
        outbox::hint();
    }

    async fn drained(&self) {
        until("the outbox is empty", || async {
            outbox::lag(self.pool()).await.expect("lag").messages == 0
        })
        .await;
    }

    /// The error on the row of a subject's first message.
    async fn error_of(&self, subject: &str) -> Option<String> {
        sqlx::query_scalar(
            "-- test: error of a message
             select error from saga.outbox where subject = $1 order by sequence limit 1",
        )
        .bind(subject)
        .fetch_optional(self.pool())
        .await
        .expect("the outbox can be read")
        .flatten()
    }

    async fn clear(self) {
        self.stop.cancel();
        self.relay.await.expect("a relay does not panic");
        let gone = QueueDeleteOptions::default();
        let archive = self.topology.archive.as_str();
        self.partner.queue_delete(archive.into(), gone).await.expect("the archive is there");
        self.partner
            .exchange_delete(self.topology.exchange.as_str().into(), Default::default())
            .await
            .expect("the exchange is there");
        self.partner
            .exchange_delete(archive.into(), Default::default())
            .await
            .expect("the archive's exchange is there");
        drop(self.connection.close(200, "done".into()).await);
        self.database.close().await;
    }
}

fn publisher(
    url: &str,
    key: &CustomerKey,
    topology: &Topology,
    database: &Database,
) -> RabbitPublisher {
    let address: Address = url.parse().expect("an AMQP address");
    let envelopes = Envelopes::new(Arc::new(OneKey(key.clone())), "http://shop.test");
    let declared = DeclaredTopologies::new(database.pool().clone());
    RabbitPublisher::new(address, envelopes, topology.clone(), declared)
}

fn message(kind: &str, subject: &str, sequence: i64) -> Message {
    Message::new(kind, "/stepwise/test", subject, sequence, json!({ "sequence": sequence }))
}

/// Waits for the next delivery. Fails after 20 s.
async fn next(consumer: &mut lapin::Consumer) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), consumer.next())
        .await
        .expect("a message within 20 s")
        .expect("the queue is there")
        .expect("the connection holds")
}

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.data).expect("the body is JSON")
}

async fn until<F: Future<Output = bool>>(expected: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 30 s: {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A proxy to the broker that can simulate faults of the network, and the address through it.
async fn through_a_network() -> (Proxy, String) {
    Proxy::before_url(&amqp_url()).await
}
