//! A RabbitMQ of a test's own, for what must not be done to the one that all tests share.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};
use uuid::Uuid;

/// Starts a node as `scripts/test` does, says where it is, and ends it when its input ends: also when
/// the test was killed.
const SCRIPT: &str = r#"
set -euo pipefail
. "$0"
trap stop_servers EXIT
make_scratch
start_rabbitmq
echo "$AMQP_URL"
echo "$RABBITMQ_CTL"
read -r || true
"#;

/// A running node. It ends when it is dropped.
pub struct Node {
    /// Where it is.
    pub url: String,
    control: PathBuf,
    _input: ChildStdin,
    _process: Child,
}

impl Node {
    /// Starts a node; takes about five seconds.
    ///
    /// # Panics
    /// Where there is no RabbitMQ on this machine, or it does not start.
    pub async fn start() -> Self {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib.sh");
        let mut process = Command::new("bash")
            .args(["-c", SCRIPT])
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash is there");
        let input = process.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut line = async || {
            lines
                .next_line()
                .await
                .expect("readable")
                .expect("the node starts and says where it is")
        };
        let (url, control) = (line().await, PathBuf::from(line().await));
        Self { url, control, _input: input, _process: process }
    }

    /// The folder with the node's data and logs.
    ///
    /// # Panics
    /// Never: the control program lies in it.
    pub fn folder(&self) -> &Path {
        self.control.parent().expect("the program lies in a folder")
    }

    /// Runs rabbitmqctl on this node and answers what it prints.
    ///
    /// # Panics
    /// Where the command fails.
    pub async fn control(&self, args: &[&str]) -> String {
        let done = Command::new(&self.control).args(args).output().await.expect("it runs");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

/// A partner of the shop: a connection to the broker, and what its queues have received.
pub struct Partner {
    /// For what a partner, or an operator, does besides.
    pub channel: Channel,
    received: Arc<Mutex<Vec<(String, Value)>>>,
    _connection: Connection,
}

impl Partner {
    /// Connects; nothing is received yet.
    ///
    /// # Panics
    /// Where there is no broker.
    pub async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker is there");
        let channel = connection.create_channel().await.expect("a channel");
        Self { channel, received: Arc::default(), _connection: connection }
    }

    /// Binds a queue to `shop.events`, which it declares as partners do, and reads the queue.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn listen(&self) {
        self.listen_to("shop.events").await;
    }

    /// Does the same at another exchange.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn listen_to(&self, exchange: &str) {
        let queue = format!("partner.{}", Uuid::now_v7().simple());
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        self.bind(exchange, &queue, options, FieldTable::default()).await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = self
            .channel
            .basic_consume(
                queue.as_str().into(),
                queue.as_str().into(),
                options,
                FieldTable::default(),
            )
            .await
            .expect("the queue is there");
        let received = Arc::clone(&self.received);
        let reading = consumer.for_each(move |delivery| {
            if let Ok(delivery) = delivery {
                let event = serde_json::from_slice(&delivery.data).expect("an event is JSON");
                let key = delivery.routing_key.to_string();
                received.lock().expect("no panic").push((key, event));
            }
            std::future::ready(())
        });
        tokio::spawn(reading);
    }

    /// Binds a queue that takes one message, refuses all others, and is read by nobody.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn bind_full_queue(&self) {
        let mut arguments = FieldTable::default();
        for (key, value) in [("x-queue-type", "quorum"), ("x-overflow", "reject-publish")] {
            arguments.insert(key.into(), AMQPValue::LongString(value.into()));
        }
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let durable = QueueDeclareOptions::durable();
        self.bind("shop.events", "partner.full", durable, arguments).await;
    }

    async fn bind(
        &self,
        exchange: &str,
        queue: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default();
        self.channel
            .exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none.clone())
            .await
            .expect("an exchange");
        self.channel.queue_declare(queue.into(), options, arguments).await.expect("a queue");
        let bind = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(queue.into(), exchange.into(), "shop.#".into(), bind, none);
        bound.await.expect("bound");
    }

    /// The subjects of all events received so far, copies too.
    ///
    /// # Panics
    /// If reading has panicked.
    pub fn subjects(&self) -> Vec<String> {
        let received = self.received();
        let subject = |event: &Value| event["subject"].as_str().unwrap_or_default().to_owned();
        received.iter().map(|(_, event)| subject(event)).collect()
    }

    /// All events received so far, each with its routing key, copies too.
    ///
    /// # Panics
    /// If reading has panicked.
    pub fn received(&self) -> Vec<(String, Value)> {
        self.received.lock().expect("no panic").clone()
    }
}
