//! One connection with its channels.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{
    BasicProperties, Channel, ChannelState, Confirmation, Connection, ConnectionProperties,
    ErrorKind,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::topology::{self, Topology};
use super::wire;

/// For all of connecting and declaring.
const OPEN: Duration = Duration::from_secs(4);
/// A dead peer is noticed within two of these, in seconds.
const HEARTBEAT_S: u16 = 10;
/// For the first words of a broker that did not answer the last time.
const GREETING: Duration = Duration::from_secs(2);

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
    /// Exchange or archive were there and are gone: somebody has deleted them. They are not made
    /// anew, because the partners' bindings would stay lost without a word.
    #[error(
        "{what} is gone from RabbitMQ at {at}, and partners' bindings with it; events wait. Have the partners \
         bind again, then run `stepwise relay --declare`"
    )]
    Destroyed {
        /// The address without the password.
        at: String,
        /// What is gone.
        what: String,
    },
    /// The database could not be asked whether the topology was declared before.
    #[error("not known whether the topology was declared before: {0}")]
    Memory(String),
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

/// Whether to make the topology, or only to look whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Declare,
    Check,
}

/// How the broker answered a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// Every queue that it was routed to has it.
    Taken,
    /// It was routed to no queue.
    Returned,
    /// A queue that it was routed to did not take it. The others have it, or will in a moment.
    NotTakenByAll,
    /// None in time.
    Silence,
    /// The channel or the connection was closed.
    Closed(lapin::Error),
    /// The session was given up meanwhile.
    GivenUp,
}

/// What is sent.
pub(super) struct Parcel<'p> {
    pub(super) exchange: &'p str,
    pub(super) routing_key: &'p str,
    pub(super) body: &'p [u8],
    pub(super) properties: BasicProperties,
}

pub(super) struct Session {
    connection: Connection,
    /// For messages that the broker is known to take: a close would hit all that are under way.
    main: Channel,
    /// For one message at a time, of which that is not known. `None`: not open.
    alone: Mutex<Option<Channel>>,
    /// The largest body that the broker has taken since this session began. Its limit can be set
    /// lower while it runs, and then holds for channels that are opened later.
    proven_bytes: AtomicUsize,
    /// Nothing waits for this connection any more. It would look open until its heartbeat fails.
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

    /// Ends all waiting for this session.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the topology is still there. Also shows whether the broker answers at all.
    pub(super) async fn check(&self, topology: &Topology, at: &str) -> Result<(), RabbitError> {
        let checked = topology::check(&self.connection, topology, at);
        tokio::time::timeout(OPEN, checked).await.unwrap_or_else(|_| Err(mute(at)))
    }

    /// Whether a body of this size is known to be taken.
    pub(super) fn has_taken(&self, bytes: usize) -> bool {
        bytes <= self.proven_bytes.load(Ordering::Relaxed)
    }

    /// Sends beside all others.
    pub(super) async fn send(&self, parcel: &Parcel<'_>, patience: Duration) -> Answer {
        tokio::select! {
            answer = publish(&self.main, parcel, patience) => answer,
            () = self.given_up.cancelled() => Answer::GivenUp,
        }
    }

    /// Sends on a channel where nothing else is under way, so that a close tells which message was
    /// to blame. Unless it is under suspicion, a message that had to wait for others goes beside
    /// them once its size is known to be taken.
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

/// Publishes and waits for the confirmation.
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

/// Waits for the first byte of a broker that did not answer the last time. A connection of the client
/// that is given up while it waits for that leaves a thread behind; this leaves nothing.
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

pub(super) fn mute(at: &str) -> RabbitError {
    RabbitError::Unreachable { at: at.to_owned(), reason: "it does not answer".into() }
}

pub(super) fn unreachable(at: &str, error: &lapin::Error) -> RabbitError {
    RabbitError::Unreachable { at: at.to_owned(), reason: error.to_string() }
}

pub(super) fn refused(at: &str, error: &lapin::Error) -> RabbitError {
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
