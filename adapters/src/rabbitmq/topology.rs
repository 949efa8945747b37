//! The topology at the broker: the exchange and the archive to which messages are published.
//!
//! Partners bind their queues to one topic exchange. The archive stream is bound to that exchange, too, with the key
//! [`ARCHIVED`], which each message without personal data has as a second key (the header `BCC`, which the broker takes
//! off). It is also bound to an exchange of its own. A message that some partner's queue refused is published to the
//! latter, which proves that the archive has it and gives no partner another copy. So is the sealed copy of a message
//! with personal data (docs/adr/0018).
//!
//! The topology is declared once. Afterwards its existence is only checked. One that an earlier release has declared is
//! taken over: the archive is bound anew, and its binding to everything is taken away.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::error::{RabbitError, unreachable};

/// The size of a segment of the archive, in bytes. Retention drops whole segments, so small segments make it exact.
const SEGMENT_BYTES: i64 = 50_000_000;

/// The key with which the archive is bound to the partners' exchange.
pub(super) const ARCHIVED: &str = "archive";
/// The key with which earlier releases bound it: the archive got personal data in plain.
const EVERYTHING: &str = "#";
/// An earlier release finds this noted as gone, and publishes nothing until it has declared its topology again.
pub(super) const REPLACED: &str =
    "the binding of the archive to everything, which a later release has replaced,";

/// The exchange and the archive that the relay declares at the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The topic exchange that partners bind to.
    pub exchange: String,
    /// The stream that keeps all messages for a while, personal data sealed, and the exchange that leads to it alone.
    pub archive: String,
    /// How long the archive keeps messages, at least.
    pub keep: Duration,
}

impl Default for Topology {
    /// `shop.events`, and `shop.events.archive` for 7 days.
    fn default() -> Self {
        Self {
            exchange: "shop.events".into(),
            archive: "shop.events.archive".into(),
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Declares the exchange and the archive. Fails if they exist with other settings.
pub(super) async fn declare(
    connection: &Connection,
    topology: &Topology,
    at: &str,
) -> Result<(), RabbitError> {
    declare_all(connection, topology).await.map_err(|error| denied(at, &error))?;
    bind(connection, topology, at).await?;
    unbind_everything(connection, topology, at).await
}

async fn declare_all(connection: &Connection, topology: &Topology) -> lapin::Result<()> {
    let Topology { exchange, archive, keep } = topology;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for (name, kind) in [(exchange, ExchangeKind::Topic), (archive, ExchangeKind::Fanout)] {
        channel
            .exchange_declare(name.as_str().into(), kind, durable, FieldTable::default())
            .await?;
    }
    let mut stream = FieldTable::default();
    stream.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    stream.insert("x-max-age".into(), AMQPValue::LongString(format!("{}s", keep.as_secs()).into()));
    stream.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
    channel.queue_declare(archive.as_str().into(), QueueDeclareOptions::durable(), stream).await?;
    channel.close(200, "done".into()).await
}

/// Binds the archive to both exchanges. Changes nothing if it is bound already.
pub(super) async fn bind(
    connection: &Connection,
    topology: &Topology,
    at: &str,
) -> Result<(), RabbitError> {
    bind_archive(connection, topology).await.map_err(|error| denied(at, &error))
}

async fn bind_archive(connection: &Connection, topology: &Topology) -> lapin::Result<()> {
    let Topology { exchange, archive, .. } = topology;
    let channel = connection.create_channel().await?;
    for name in [exchange, archive] {
        let (queue, name, key) = (archive.as_str(), name.as_str(), ARCHIVED);
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.into(), name.into(), key.into(), bind, none).await?;
    }
    channel.close(200, "done".into()).await
}

/// Takes away the binding of earlier releases. Changes nothing if there is none.
pub(super) async fn unbind_everything(
    connection: &Connection,
    topology: &Topology,
    at: &str,
) -> Result<(), RabbitError> {
    unbind(connection, topology).await.map_err(|error| denied(at, &error))
}

async fn unbind(connection: &Connection, topology: &Topology) -> lapin::Result<()> {
    let (queue, exchange) = (topology.archive.as_str(), topology.exchange.as_str());
    let channel = connection.create_channel().await?;
    let none = FieldTable::default();
    channel.queue_unbind(queue.into(), exchange.into(), EVERYTHING.into(), none).await?;
    channel.close(200, "done".into()).await
}

fn denied(at: &str, error: &lapin::Error) -> RabbitError {
    match error.kind() {
        ErrorKind::ProtocolError(_) => {
            RabbitError::Topology { at: at.to_owned(), reason: error.to_string() }
        }
        _ => unreachable(at, error),
    }
}

/// Checks that the exchange and the archive exist. Changes nothing. AMQP cannot check a binding: a missing binding of the
/// archive shows when a message is published.
pub(super) async fn check(
    connection: &Connection,
    topology: &Topology,
    at: &str,
) -> Result<(), RabbitError> {
    let channel = connection.create_channel().await.map_err(|error| unreachable(at, &error))?;
    let gone = |what: String| {
        move |error: lapin::Error| match is_missing(&error) {
            true => RabbitError::Destroyed { at: at.to_owned(), what },
            false => unreachable(at, &error),
        }
    };
    let Topology { exchange, archive, .. } = topology;
    let look = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    for (name, kind) in [(exchange, ExchangeKind::Topic), (archive, ExchangeKind::Fanout)] {
        channel
            .exchange_declare(name.as_str().into(), kind, look, FieldTable::default())
            .await
            .map_err(gone(format!("the exchange {name}")))?;
    }
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel
        .queue_declare(archive.as_str().into(), look, FieldTable::default())
        .await
        .map_err(gone(format!("the archive stream {archive}")))?;
    close(&channel).await;
    Ok(())
}

/// Closes a channel that is no longer needed. At the latest it ends with its connection.
async fn close(channel: &Channel) {
    drop(channel.close(200, "done".into()).await);
}

/// The part of the topology that is missing if a message comes back from this exchange as unroutable.
pub(super) fn missing_binding(exchange: &str) -> String {
    format!("the binding of the archive to the exchange {exchange}")
}

/// The exchange that the broker's error names. It closes the channel for all messages, also those to the other exchange.
pub(super) fn missing_exchange(topology: &Topology, error: &lapin::Error) -> String {
    let Topology { exchange, archive, .. } = topology;
    let names_archive = error.to_string().contains(&format!("'{archive}'"));
    format!("the exchange {}", if names_archive { archive } else { exchange })
}

/// Whether the broker's error says that something does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol)
        if *protocol.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
