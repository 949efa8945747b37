//! A session: one connection with its channels.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{
    BasicProperties, Channel, ChannelState, Confirmation, Connection, ConnectionProperties,
    ErrorKind,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::error::{RabbitError, mute, refused, unreachable};
use super::topology::{self, Topology};
use super::wire;

/// The time limit for connecting and declaring together.
const OPEN: Duration = Duration::from_secs(4);
/// The heartbeat interval in seconds. A dead peer is noticed within two intervals.
const HEARTBEAT_S: u16 = 10;
/// How long to wait for the first byte of a broker that did not answer the last time.
const GREETING: Duration = Duration::from_secs(2);

/// The address of a broker: `amqp://user:password@host:port/vhost`. Its `Display` and `Debug` leave out user and password.
#[derive(Clone)]
pub struct Address(AMQPUri);

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

/// Whether to declare the topology, or only to check that it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Declare,
    Check,
    /// Check, and bind the archive: an earlier release has declared it otherwise, and may have done so again.
    TakeOver,
}

/// The broker's answer to a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// Every queue to which the message was routed has it.
    Taken,
    /// The message was routed to no queue.
    Returned,
    /// A queue to which the message was routed did not take it. The other queues have it, or will have it in a moment.
    NotTakenByAll,
    /// The broker did not answer in time.
    Silence,
    /// The channel or the connection was closed.
    Closed(lapin::Error),
    /// The session was dropped meanwhile.
    GivenUp,
}

/// A message to send: its exchange, routing key, properties and body.
pub(super) struct Parcel<'p> {
    pub(super) exchange: &'p str,
    pub(super) routing_key: &'p str,
    pub(super) body: &'p [u8],
    pub(super) properties: BasicProperties,
}

pub(super) struct Session {
    connection: Connection,
    /// The channel for messages whose size the broker is known to accept. If the broker closed it, all messages in flight would be affected.
    main: Channel,
    /// The channel for one message at a time, whose size may be too large. `None` if it is not open.
    alone: Mutex<Option<Channel>>,
    /// The largest body that the broker has accepted in this session. An operator may lower the limit of a running broker; the
    /// new limit applies to channels that are opened later.
    proven_bytes: AtomicUsize,
    /// Cancelled when the session is dropped. The connection itself would look open until its heartbeat fails.
    given_up: CancellationToken,
}

impl Session {
    pub(super) async fn open(
        address: &Address,
        topology: &Topology,
        opening: Opening,
    ) -> Result<Self, RabbitError> {
        let at = address.to_string();
        let opened = async {
            let connection = connect(address).await?;
            match opening {
                Opening::Declare => topology::declare(&connection, topology, &at).await?,
                Opening::Check => topology::check(&connection, topology, &at).await?,
                Opening::TakeOver => {
                    topology::check(&connection, topology, &at).await?;
                    topology::bind(&connection, topology, &at).await?;
                }
            }
            let main = confirming(&connection).await.map_err(|error| unreachable(&at, &error))?;
            Ok(Self {
                connection,
                main,
                alone: Mutex::new(None),
                proven_bytes: 0.into(),
                given_up: CancellationToken::new(),
            })
        };
        tokio::time::timeout(OPEN, opened).await.unwrap_or_else(|_| Err(mute(&at)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
            && self.main.status().connected()
            && !self.given_up.is_cancelled()
    }

    /// Ends all waits for this session.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Checks that the topology still exists, and with that that the broker answers.
    pub(super) async fn check(&self, topology: &Topology, at: &str) -> Result<(), RabbitError> {
        let checked = topology::check(&self.connection, topology, at);
        tokio::time::timeout(OPEN, checked).await.unwrap_or_else(|_| Err(mute(at)))
    }

    /// Takes away the binding with which earlier releases gave everything to the archive.
    pub(super) async fn unbind_everything(
        &self,
        topology: &Topology,
        at: &str,
    ) -> Result<(), RabbitError> {
        let unbound = topology::unbind_everything(&self.connection, topology, at);
        tokio::time::timeout(OPEN, unbound).await.unwrap_or_else(|_| Err(mute(at)))
    }

    /// Whether the broker is known to accept a body of this size.
    pub(super) fn has_taken(&self, bytes: usize) -> bool {
        bytes <= self.proven_bytes.load(Ordering::Relaxed)
    }

    /// Sends a message on the shared channel.
    pub(super) async fn send(&self, parcel: &Parcel<'_>, patience: Duration) -> Answer {
        tokio::select! {
            answer = publish(&self.main, parcel, patience) => answer,
            () = self.given_up.cancelled() => Answer::GivenUp,
        }
    }

    /// Sends a message alone on a channel, so that a close shows that this message was the cause. A message that had to
    /// wait for this channel uses the shared one if its size is known to be accepted by then, unless it is a suspect.
    pub(super) async fn send_alone(
        &self,
        parcel: &Parcel<'_>,
        patience: Duration,
        is_suspect: bool,
    ) -> Answer {
        tokio::select! {
            answer = self.take_turn(parcel, patience, is_suspect) => answer,
            () = self.given_up.cancelled() => Answer::GivenUp,
        }
    }

    async fn take_turn(&self, parcel: &Parcel<'_>, patience: Duration, is_suspect: bool) -> Answer {
        let mut alone = self.alone.lock().await;
        if !is_suspect && self.has_taken(parcel.body.len()) {
            drop(alone);
            return self.send(parcel, patience).await;
        }
        let channel = match alone.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => match tokio::time::timeout(patience, confirming(&self.connection)).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => return Answer::Closed(error),
                Err(_) => return Answer::Silence,
            },
        };
        let answer = publish(&channel, parcel, patience).await;
        if matches!(answer, Answer::Taken | Answer::NotTakenByAll) {
            self.proven_bytes.fetch_max(parcel.body.len(), Ordering::Relaxed);
        }
        *alone = Some(channel);
        answer
    }
}

pub(super) async fn connect(address: &Address) -> Result<Connection, RabbitError> {
    let properties = ConnectionProperties::default().with_connection_name("stepwise relay".into());
    wire::connect(address.0.clone(), properties)
        .await
        .map_err(|error| refused(&address.to_string(), &error))
}

pub(super) async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes a message and waits for the confirmation.
pub(super) async fn publish(channel: &Channel, parcel: &Parcel<'_>, patience: Duration) -> Answer {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmed = tokio::time::timeout(patience, async {
        channel
            .basic_publish(
                parcel.exchange.into(),
                parcel.routing_key.into(),
                options,
                parcel.body,
                parcel.properties.clone(),
            )
            .await?
            .await
    });
    match confirmed.await {
        Ok(Ok(Confirmation::Ack(None))) => Answer::Taken,
        Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => Answer::Returned,
        Ok(Ok(Confirmation::Nack(None))) => Answer::NotTakenByAll,
        Ok(Ok(Confirmation::NotRequested)) => Answer::Closed(
            ErrorKind::InvalidChannelState(ChannelState::Error, "no confirms").into(),
        ),
        Ok(Err(error)) => Answer::Closed(error),
        Err(_) => Answer::Silence,
    }
}

/// Waits for the first byte of a broker that did not answer the last time. A connection attempt of the client library
/// that is cancelled while it waits for that byte leaves a thread behind; this check does not.
pub(super) async fn greet(address: &Address) -> Result<(), RabbitError> {
    let AMQPUri { scheme, authority, .. } = &address.0;
    let at = address.to_string();
    let greeting = async {
        let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        if *scheme == AMQPScheme::AMQP {
            stream.write_all(b"AMQP\0\0\x09\x01").await?;
            stream.read_u8().await?;
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(GREETING, greeting).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(RabbitError::Unreachable { at, reason: error.to_string() }),
        Err(_) => Err(mute(&at)),
    }
}
