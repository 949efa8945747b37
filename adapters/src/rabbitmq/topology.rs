//! What messages are published to.
//!
//! Partners bind their queues to one topic exchange. The archive stream is bound there too, to
//! everything, and once more to an exchange of its own: a message that some partner's queue refused
//! is published there, to prove that the archive has it, without another copy to anybody else.
//!
//! All of it is declared once. Afterwards it is only looked for.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::session::{RabbitError, unreachable};

/// Retention drops whole segments, so they must be small for it to be exact.
const SEGMENT_BYTES: i64 = 50_000_000;

/// The exchange and the archive that the relay declares at the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The topic exchange that partners bind to.
    pub exchange: String,
    /// The stream that keeps everything for a while, and the exchange that leads to it alone.
    pub archive: String,
    /// How long the archive keeps it, at least.
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

/// Makes what is not there. What is there with other settings is an error.
pub(super) async fn declare(
    connection: &Connection,
    topology: &Topology,
    at: &str,
) -> Result<(), RabbitError> {
    declare_all(connection, topology).await.map_err(|error| match error.kind() {
        ErrorKind::ProtocolError(_) => {
            RabbitError::Topology { at: at.to_owned(), reason: error.to_string() }
        }
        _ => unreachable(at, &error),
    })
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
    for name in [exchange, archive] {
        channel
            .queue_bind(
                archive.as_str().into(),
                name.as_str().into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    channel.close(200, "done".into()).await
}

/// Looks whether everything is there; changes nothing. AMQP has no way to look at a binding: that
/// the archive is bound shows when a message is published.
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

/// Closes a channel that has served its purpose; it ends with its connection at the latest.
async fn close(channel: &Channel) {
    drop(channel.close(200, "done".into()).await);
}

/// What is missing where a message for everybody comes back.
pub(super) fn missing_binding(topology: &Topology) -> String {
    format!("the binding of the archive to the exchange {}", topology.exchange)
}

/// Whether the broker says that something is not there.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol)
        if *protocol.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
