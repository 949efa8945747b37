//! One connection with one channel and the topology declared on it.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::options::{
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use thiserror::Error;

use super::{Topology, wire};

/// For all of connecting and declaring.
const OPEN: Duration = Duration::from_secs(4);
/// A dead peer is noticed within two of these, in seconds.
const HEARTBEAT_S: u16 = 10;
/// Retention drops whole segments, so they must be small for it to be exact.
const SEGMENT_BYTES: i64 = 50_000_000;

/// Where a broker is: `amqp://user:password@host:port/vhost`. Shows without the password.
#[derive(Clone)]
pub struct Address(AMQPUri);

/// Why there is no session.
#[derive(Debug, Error)]
pub enum RabbitError {
    /// The text is not an AMQP address.
    #[error("not an AMQP address (amqp://user:password@host:port/vhost): {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answers there, or something that is no RabbitMQ.
    #[error("RabbitMQ at {at} cannot be reached: {reason}")]
    Unreachable {
        /// The address without the password.
        at: String,
        /// What happened.
        reason: String,
    },
    /// User, password or virtual host are wrong.
    #[error("RabbitMQ at {at} refuses this user, password or virtual host: {reason}")]
    Denied {
        /// The address without the password.
        at: String,
        /// The broker's words.
        reason: String,
    },
    /// Exchange or archive cannot be declared, for example because they exist with other settings.
    #[error("RabbitMQ at {at} refuses the exchange or the archive stream: {reason}")]
    Topology {
        /// The address without the password.
        at: String,
        /// The broker's words.
        reason: String,
    },
}

impl FromStr for Address {
    type Err = RabbitError;

    fn from_str(text: &str) -> Result<Self, RabbitError> {
        let mut uri: AMQPUri = text.parse().map_err(|reason| RabbitError::Address { reason })?;
        if uri.authority.host.is_empty() {
            return Err(RabbitError::Address { reason: "it has no host".into() });
        }
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_S));
        Ok(Self(uri))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(AMQPUri { scheme, authority, vhost, .. }) = self;
        let vhost = vhost.replace('/', "%2f");
        write!(f, "{scheme}://{}:{}/{vhost}", authority.host, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) struct Session {
    connection: Connection,
    channel: Channel,
    confirmed: AtomicU64,
}

impl Session {
    pub(super) async fn open(address: &Address, topology: &Topology) -> Result<Self, RabbitError> {
        let at = address.to_string();
        let opening = async {
            let properties =
                ConnectionProperties::default().with_connection_name("stepwise relay".into());
            let connection = wire::connect(address.0.clone(), properties)
                .await
                .map_err(|error| refused(&at, &error))?;
            let channel = declare(&connection, topology).await.map_err(|error| {
                let reason = error.to_string();
                match error.kind() {
                    ErrorKind::ProtocolError(_) => RabbitError::Topology { at: at.clone(), reason },
                    _ => RabbitError::Unreachable { at: at.clone(), reason },
                }
            })?;
            Ok(Self { connection, channel, confirmed: AtomicU64::new(0) })
        };
        tokio::time::timeout(OPEN, opening).await.unwrap_or_else(|_| {
            Err(RabbitError::Unreachable { at: at.clone(), reason: "no answer within 4 s".into() })
        })
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    pub(super) fn count_confirmation(&self) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn declare(connection: &Connection, topology: &Topology) -> lapin::Result<Channel> {
    let Topology { exchange, archive, keep } = topology;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await?;
    let mut stream = FieldTable::default();
    stream.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    stream.insert("x-max-age".into(), AMQPValue::LongString(format!("{}s", keep.as_secs()).into()));
    stream.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
    channel.queue_declare(archive.as_str().into(), QueueDeclareOptions::durable(), stream).await?;
    channel
        .queue_bind(
            archive.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn refused(at: &str, error: &lapin::Error) -> RabbitError {
    let (at, reason) = (at.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => RabbitError::Denied { at, reason },
            _ => RabbitError::Unreachable { at, reason },
        },
        _ => RabbitError::Unreachable { at, reason },
    }
}
