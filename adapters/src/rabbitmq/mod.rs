//! Publishes to RabbitMQ 3.10 or later.
//!
//! One connection, one channel with confirms, everything `mandatory` and persistent. The relay's
//! window of calls is the window of confirms. An archive stream bound to everything gives a message
//! a place to go at all times, so one that comes back as unroutable means a broken topology and not
//! a partner who has not come yet.
//!
//! Connections are renewed here rather than by the client's own recovery: after a loss nobody knows
//! what arrived, and the relay's answer to that, the same message with the same id again, needs a
//! clean channel and nothing else. While the broker blocks us (memory or disk alarm) nothing is
//! sent at all: it would only pile up in the socket.

mod session;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};
use stepwise_engine::outbox::{Outgoing, Publisher, PublisherState, Rejection};
use stepwise_workflows::cloud_event::{CONTENT_TYPE, CloudEvent, EnvelopeError, Envelopes};
use stepwise_workflows::privacy::KeyStoreError;
use tokio::time::Instant;
use tracing::{info, warn};

use session::Session;
pub use session::{Address, RabbitError};

/// What is declared at the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The topic exchange that partners bind to.
    pub exchange: String,
    /// The stream that keeps everything for a while.
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

/// A confirmation that takes longer is given up.
const CONFIRM: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);
/// An AMQP short string holds so many bytes.
const SHORT: usize = 255;

/// Publishes messages as CloudEvents. Connects when first used and again after every loss.
pub struct RabbitPublisher {
    address: Address,
    envelopes: Envelopes,
    topology: Topology,
    current: Mutex<Current>,
    /// Held by the one caller that connects.
    connecting: tokio::sync::Mutex<()>,
}

struct Current {
    session: Option<Arc<Session>>,
    /// Why there is none, and when that was found.
    reason: String,
    tried_at: Option<Instant>,
}

impl std::fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitPublisher").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RabbitPublisher {
    /// A publisher that has not connected yet.
    pub fn new(address: Address, envelopes: Envelopes, topology: Topology) -> Self {
        let current = Current { session: None, reason: "not connected yet".into(), tried_at: None };
        Self {
            address,
            envelopes,
            topology,
            current: Mutex::new(current),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// Connects and declares the topology, or says why not. Publishing does so by itself; this is
    /// for telling a person at once that an address, a password or the topology is wrong.
    pub async fn connect(&self) -> Result<(), RabbitError> {
        let _connecting = self.connecting.lock().await;
        if self.live().is_some() {
            return Ok(());
        }
        let opened = Session::open(&self.address, &self.topology).await;
        let mut current = self.current();
        current.tried_at = Some(Instant::now());
        match opened {
            Ok(session) => {
                info!(broker = %self.address, "connected to RabbitMQ");
                current.session = Some(Arc::new(session));
                Ok(())
            }
            Err(error) => {
                current.reason = error.to_string();
                Err(error)
            }
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Arc<Session>> {
        self.current().session.clone().filter(|session| session.is_open())
    }

    /// The open session, or a new one unless that was tried a moment ago.
    async fn session(&self) -> Result<Arc<Session>, Rejection> {
        if let Some(session) = self.live() {
            return Ok(session);
        }
        {
            let _others = self.connecting.lock().await;
            let current = self.current();
            let just_tried = current.tried_at.is_some_and(|at| at.elapsed() < RECONNECT);
            let open = current.session.as_ref().is_some_and(|session| session.is_open());
            if just_tried && !open {
                return Err(Rejection::Unavailable { reason: current.reason.clone() });
            }
        }
        if let Err(error) = self.connect().await {
            return Err(Rejection::Unavailable { reason: error.to_string() });
        }
        self.live().ok_or(Rejection::Unavailable { reason: "the connection was lost".into() })
    }

    /// Forgets a session that has failed; the next message opens another.
    fn drop_session(&self, failed: &Arc<Session>, reason: &str) -> Rejection {
        let mut current = self.current();
        if current.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, failed)) {
            warn!(reason, "the connection to RabbitMQ was lost");
            current.session = None;
            current.reason = reason.to_owned();
        }
        Rejection::Unavailable { reason: reason.to_owned() }
    }

    async fn send(
        &self,
        session: &Arc<Session>,
        routing_key: &str,
        event: &CloudEvent,
    ) -> Result<(), Rejection> {
        let body = serde_json::to_vec(event)
            .map_err(|error| Rejection::Unreadable { reason: error.to_string() })?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmed_before = session.confirmed();
        let answer = tokio::time::timeout(CONFIRM, async {
            session
                .channel()
                .basic_publish(
                    self.topology.exchange.as_str().into(),
                    routing_key.into(),
                    options,
                    &body,
                    properties(event),
                )
                .await?
                .await
        })
        .await;
        match answer {
            Ok(Ok(Confirmation::Ack(None))) => {
                session.count_confirmation();
                Ok(())
            }
            Ok(Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)))) => {
                session.count_confirmation();
                Err(Rejection::Unroutable {
                    code: returned.reply_code,
                    text: returned.reply_text.as_str().to_owned(),
                })
            }
            Ok(Ok(Confirmation::Nack(None))) => {
                session.count_confirmation();
                Err(Rejection::Refused)
            }
            Ok(Ok(Confirmation::NotRequested)) => {
                Err(self.drop_session(session, "the channel does not confirm"))
            }
            Ok(Err(error)) => Err(self.drop_session(session, &error.to_string())),
            Err(_) if session.is_blocked() => Err(blocked()),
            // Others were answered meanwhile: it is this message. Nobody was: it is the connection.
            Err(_) if session.confirmed() > confirmed_before => Err(Rejection::Unconfirmed),
            Err(_) => Err(self.drop_session(session, "no confirmation within 5 s")),
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, message: &Outgoing) -> Result<(), Rejection> {
        let session = self.session().await?;
        if session.is_blocked() {
            return Err(blocked());
        }
        let event = self.envelopes.wrap(message).await.map_err(|error| match error {
            EnvelopeError::Keys(KeyStoreError::Storage(error)) => {
                Rejection::Unavailable { reason: error.to_string() }
            }
            // This message's own trouble: the others have keys that are there and open.
            error @ (EnvelopeError::Keys(
                KeyStoreError::Missing(_) | KeyStoreError::Damaged(_) | KeyStoreError::Destroyed,
            )
            | EnvelopeError::Sealed { .. }) => Rejection::Unreadable { reason: error.to_string() },
        })?;
        self.send(&session, &message.routing_key, &event).await
    }

    fn state(&self) -> PublisherState {
        match self.live() {
            Some(session) if session.is_blocked() => {
                PublisherState::Blocked { reason: ALARM.into() }
            }
            Some(_) => PublisherState::Connected,
            None => PublisherState::Disconnected { reason: self.current().reason.clone() },
        }
    }

    async fn attend(&self) {
        // Its outcome is the state.
        drop(self.session().await);
    }
}

const ALARM: &str = "the broker has raised a memory or disk alarm";

fn blocked() -> Rejection {
    Rejection::Unavailable { reason: ALARM.into() }
}

/// What consumers can see without opening the body.
fn properties(event: &CloudEvent) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(CONTENT_TYPE.into())
        .with_message_id(event.id.to_string().into())
        .with_timestamp(u64::try_from(event.time.timestamp()).unwrap_or(0))
        .with_app_id("stepwise".into());
    let properties = match short(&event.kind) {
        Some(kind) => properties.with_type(kind),
        None => properties,
    };
    match event.correlationid.as_deref().and_then(short) {
        Some(correlation) => properties.with_correlation_id(correlation),
        None => properties,
    }
}

fn short(text: &str) -> Option<ShortString> {
    (text.len() <= SHORT).then(|| text.into())
}

#[cfg(test)]
mod tests;
