//! A publisher of integration events to RabbitMQ 3.10 or later.
//!
//! It uses one connection. All messages are `mandatory`, persistent and confirmed. The relay's window of calls is
//! the window of confirms. An archive stream takes every message without personal data, so each of these has at least
//! one queue. One that comes back as unroutable therefore means a broken topology, not a partner that has not bound a
//! queue yet. A message with personal data goes to the partners in plain, and then to the archive sealed
//! (docs/adr/0018).
//!
//! If the broker does not accept one message, it closes the whole channel. If one of many queues refuses a message,
//! the broker refuses the message as a whole. Neither may delay other messages: a message larger than any that was
//! accepted is sent alone on a channel of its own, and a refused message counts as published once the archive has
//! it (docs/adr/0011).
//!
//! This module opens a new connection after a loss instead of using the client library's recovery. After a loss
//! nobody knows which messages arrived. The relay then sends the same messages with the same ids again, for which a
//! new channel is enough. While the broker blocks the connection (memory or disk alarm), nothing is sent, because
//! it would only fill the socket's buffer.

mod error;
mod look;
mod properties;
mod session;
mod topology;
mod wire;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use stepwise_engine::outbox::{
    Accepted, DeclaredTopologies, Outgoing, Publisher, PublisherState, Rejection, Standing,
};
use stepwise_workflows::cloud_event::{CloudEvent, Envelopes};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

pub use error::RabbitError;
pub use look::Looked;
use properties::{SHORT, properties};
pub use session::Address;
use session::{Answer, Opening, Parcel, Session};
pub use topology::Topology;

/// How long to wait for a confirmation.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long to wait for a confirmation while a partner's queue is known to confirm nothing.
const CONFIRM_BESIDE_A_STALLED_QUEUE: Duration = Duration::from_secs(1);
/// How long a partner's queue counts as stalled after it has not confirmed a message.
const STALLED: Duration = Duration::from_secs(60);
/// How long to wait for the archive's confirmation.
const PROOF: Duration = Duration::from_secs(3);
/// The interval between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);
/// The interval between two checks that the topology still exists.
const LOOK: Duration = Duration::from_secs(2);
/// The interval between two checks that the connection is open.
const TICK: Duration = Duration::from_millis(100);

/// Publishes messages as CloudEvents. [`Publisher::attend`] opens the connection and reopens it after a loss.
pub struct RabbitPublisher {
    address: Address,
    envelopes: Envelopes,
    topology: Topology,
    declared: DeclaredTopologies,
    current: Mutex<Current>,
    /// The messages that were in flight when the broker closed the channel. One of them was the cause.
    suspects: Mutex<HashSet<Uuid>>,
}

struct Current {
    session: Option<Arc<Session>>,
    /// The reason why there is no session.
    trouble: Trouble,
    /// Whether the topology is known to be declared, so that the database is not asked again.
    is_declared: bool,
    /// Whether the broker did not answer at the last attempt.
    was_mute: bool,
    /// The time at which a queue did not confirm although the broker answered.
    stalled: Option<Instant>,
}

struct Trouble {
    reason: String,
    is_destroyed: bool,
}

impl std::fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitPublisher").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RabbitPublisher {
    /// Creates a publisher that is not connected yet.
    pub fn new(
        address: Address,
        envelopes: Envelopes,
        topology: Topology,
        declared: DeclaredTopologies,
    ) -> Self {
        let current = Current {
            session: None,
            trouble: Trouble { reason: "not connected yet".into(), is_destroyed: false },
            is_declared: false,
            was_mute: false,
            stalled: None,
        };
        let (current, suspects) = (Mutex::new(current), Mutex::default());
        Self { address, envelopes, topology, declared, current, suspects }
    }

    /// Connects once, and declares the topology if that was never done. [`Publisher::attend`] connects by itself; call this
    /// at the start to tell a person at once that an address, a password or the topology is wrong.
    pub async fn connect(&self) -> Result<(), RabbitError> {
        if self.live().is_some() {
            return Ok(());
        }
        let opened = self.open().await;
        let mut current = self.current();
        match opened {
            Ok(session) => {
                info!(broker = %self.address, "connected to RabbitMQ");
                current.session = Some(Arc::new(session));
                current.was_mute = false;
                Ok(())
            }
            Err(error) => {
                current.trouble = Trouble::of(&error);
                current.was_mute = matches!(error, RabbitError::Unreachable { .. });
                Err(error)
            }
        }
    }

    /// Declares the topology, whether or not it was declared before, and records that in the database.
    pub async fn declare(&self) -> Result<(), RabbitError> {
        let opened = Session::open(&self.address, &self.topology, Opening::Declare).await?;
        self.remember(&opened, Opening::Declare).await
    }

    /// Checks whether messages could be published now: whether the topology exists, and whether
    /// the broker takes a message for a temporary queue. Changes nothing.
    pub async fn look(&self) -> Result<Looked, RabbitError> {
        let (topology, takes) = match self.opening().await? {
            Opening::Declare => (None, Looked::TakesOnceDeclared),
            Opening::Check | Opening::TakeOver => (Some(&self.topology), Looked::Takes),
        };
        let was_published = look::look(&self.address, topology).await?;
        Ok(if was_published { takes } else { Looked::TakesConnections })
    }

    async fn open(&self) -> Result<Session, RabbitError> {
        let was_mute = self.current().was_mute;
        if was_mute {
            session::greet(&self.address).await?;
        }
        let is_declared = self.current().is_declared;
        let opening = if is_declared { Opening::Check } else { self.opening().await? };
        let opened = Session::open(&self.address, &self.topology, opening).await;
        if let Err(RabbitError::Destroyed { what, .. }) = &opened {
            self.remember_destroyed(what).await;
        } else if opening == Opening::Check {
            self.current().is_declared = true;
        } else if let Ok(session) = &opened {
            self.remember(session, opening).await?;
            info!(exchange = self.topology.exchange, "the exchange and the archive are declared");
        }
        opened
    }

    fn destroyed(&self, what: String) -> RabbitError {
        RabbitError::Destroyed { at: self.address.to_string(), what }
    }

    /// The name under which the database records this topology: address, exchange, and how the archive is bound. Another address counts as another broker.
    fn name(&self) -> String {
        format!("{} {}", self.earlier_name(), topology::ARCHIVED)
    }

    /// The name under which earlier releases record it, which bind the archive to everything. While it counts as declared,
    /// that binding may be there, also after a roll-back.
    fn earlier_name(&self) -> String {
        format!("{} {}", self.address, self.topology.exchange)
    }

    /// How to open a session, by what the database knows. The earlier name is read first, because it is written last.
    async fn opening(&self) -> Result<Opening, RabbitError> {
        let earlier = self.declared.standing(&self.earlier_name()).await.map_err(memory)?;
        let own = self.declared.standing(&self.name()).await.map_err(memory)?;
        match (own, earlier) {
            (Standing::Destroyed { what }, _)
            | (Standing::Unknown, Standing::Destroyed { what }) => Err(self.destroyed(what)),
            (_, Standing::Declared) => Ok(Opening::TakeOver),
            (Standing::Declared, _) => Ok(Opening::Check),
            (Standing::Unknown, Standing::Unknown) => Ok(Opening::Declare),
        }
    }

    /// Records that the topology is there, and only then takes an earlier release's binding away: if its relay then finds a
    /// message unroutable, it calls the topology destroyed under the earlier name alone.
    async fn remember(&self, session: &Session, opening: Opening) -> Result<(), RabbitError> {
        self.declared.insert(&self.name()).await.map_err(memory)?;
        if opening == Opening::TakeOver {
            session.unbind_everything(&self.topology, &self.address.to_string()).await?;
        }
        let earlier = self.earlier_name();
        self.declared.mark_destroyed(&earlier, topology::REPLACED).await.map_err(memory)?;
        self.current().is_declared = true;
        Ok(())
    }

    /// Records in the database that part of the topology is missing. Nothing is published until a person has it declared
    /// again, because a partner that declares the exchange does not restore the archive.
    async fn remember_destroyed(&self, what: &str) {
        self.current().is_declared = false;
        for name in [self.name(), self.earlier_name()] {
            if let Err(error) = self.declared.mark_destroyed(&name, what).await {
                warn!(what, %error, "cannot record in the database that this is missing");
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspects(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Arc<Session>> {
        self.current().session.clone().filter(|session| session.is_open())
    }

    /// The open session, if there is one. Does not wait for one.
    fn session(&self) -> Result<Arc<Session>, Rejection> {
        match self.live() {
            Some(session) if session.is_blocked() => Err(blocked()),
            Some(session) => Ok(session),
            None => Err(self.unavailable()),
        }
    }

    fn unavailable(&self) -> Rejection {
        Rejection::Unavailable { reason: self.current().trouble.reason.clone() }
    }

    /// Drops a session that has failed. [`Publisher::attend`] opens another one.
    fn drop_session(&self, failed: &Arc<Session>, trouble: Trouble) -> Rejection {
        let reason = trouble.reason.clone();
        failed.give_up();
        let mut current = self.current();
        if current.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, failed)) {
            warn!(reason, "the connection to RabbitMQ was lost");
            current.session = None;
            current.trouble = trouble;
        }
        Rejection::Unavailable { reason }
    }

    async fn send(
        &self,
        session: &Arc<Session>,
        message: &Outgoing,
        event: &CloudEvent,
    ) -> Result<Accepted, Rejection> {
        let json = |event: &CloudEvent| {
            let body = serde_json::to_vec(event);
            body.map_err(|error| Rejection::Unreadable { reason: error.to_string() })
        };
        let (body, sealed) = (json(event)?, event.sealed(message).as_ref().map(json).transpose()?);
        let parcel = Parcel {
            exchange: &self.topology.exchange,
            routing_key: &message.routing_key,
            body: &body,
            properties: properties(event, sealed.is_none()),
        };
        let stalled = self.current().stalled.is_some_and(|at| at.elapsed() < STALLED);
        let patience = if stalled { CONFIRM_BESIDE_A_STALLED_QUEUE } else { CONFIRM };
        let (answer, is_alone) = self.publish_one(session, message, &parcel, patience).await;
        let is_silent = matches!(answer, Answer::Silence);
        let some = |reason: &str| Accepted::RefusedBySome { reason: reason.to_owned() };
        let accepted = match answer {
            Answer::Taken if sealed.is_none() => {
                self.note_taken(message.message_id);
                return Ok(Accepted::ByAll);
            }
            Answer::Taken => Accepted::ByAll,
            // No partner has bound a queue for it.
            Answer::Returned if sealed.is_some() => Accepted::ByAll,
            Answer::Returned => {
                let what = topology::missing_binding(parcel.exchange);
                return Err(self.lose(session, what).await);
            }
            Answer::NotTakenByAll => some(REFUSED),
            Answer::Silence if session.is_blocked() => return Err(blocked()),
            Answer::Silence => some(STALLING),
            Answer::Closed(error) => {
                return Err(self.blame(session, message, is_alone, &error).await);
            }
            Answer::GivenUp => return Err(self.unavailable()),
        };
        let body = sealed.as_ref().unwrap_or(&body);
        let to_archive = Parcel { exchange: &self.topology.archive, body, ..parcel };
        self.archive(session, message, &to_archive).await?;
        if is_silent {
            self.current().stalled = Some(Instant::now());
        }
        Ok(accepted)
    }

    /// Sends a message, alone if it may make the broker close the channel. Answers whether it was alone.
    async fn publish_one(
        &self,
        session: &Session,
        message: &Outgoing,
        parcel: &Parcel<'_>,
        patience: Duration,
    ) -> (Answer, bool) {
        let is_suspect = self.suspects().contains(&message.message_id);
        match is_suspect || !session.has_taken(parcel.body.len()) {
            true => (session.send_alone(parcel, patience, is_suspect).await, true),
            false => (session.send(parcel, patience).await, false),
        }
    }

    fn note_taken(&self, message: Uuid) {
        self.suspects().remove(&message);
    }

    /// Stops publishing, because part of the topology is missing.
    async fn lose(&self, session: &Arc<Session>, what: String) -> Rejection {
        self.remember_destroyed(&what).await;
        self.drop_session(session, Trouble::of(&self.destroyed(what)))
    }

    /// Publishes a message to the archive alone: because it is sealed there, or after a queue has refused it or has not confirmed it. The broker
    /// gives one answer for all queues, so that answer does not show whether the archive has the message. Once the archive has
    /// it, nothing is lost. Sending it to the exchange again would only give further copies to the partners that have it.
    async fn archive(
        &self,
        session: &Arc<Session>,
        message: &Outgoing,
        parcel: &Parcel<'_>,
    ) -> Result<(), Rejection> {
        let (answer, is_alone) = self.publish_one(session, message, parcel, PROOF).await;
        match answer {
            Answer::Taken => {
                self.note_taken(message.message_id);
                Ok(())
            }
            Answer::Returned => {
                Err(self.lose(session, topology::missing_binding(parcel.exchange)).await)
            }
            Answer::NotTakenByAll => Err(Rejection::Refused { reason: "by the archive".into() }),
            Answer::Silence if session.is_blocked() => Err(blocked()),
            Answer::Silence => Err(self.drop_session(session, Trouble::of_silence())),
            Answer::Closed(error) => Err(self.blame(session, message, is_alone, &error).await),
            Answer::GivenUp => Err(self.unavailable()),
        }
    }

    /// Handles a closed channel or connection. If the message was alone on its channel, it was the cause. If it was sent
    /// beside others, it may be the cause, and is sent alone the next time.
    async fn blame(
        &self,
        session: &Arc<Session>,
        message: &Outgoing,
        was_alone: bool,
        error: &lapin::Error,
    ) -> Rejection {
        let about_a_message = is_about_a_message(error);
        if about_a_message {
            self.suspects().insert(message.message_id);
        }
        if about_a_message && was_alone {
            return Rejection::Refused { reason: error.to_string() };
        }
        if topology::is_missing(error) {
            let what = topology::missing_exchange(&self.topology, error);
            return self.lose(session, what).await;
        }
        self.drop_session(session, Trouble { reason: error.to_string(), is_destroyed: false })
    }

    /// Connects or checks the connection, and returns the time until the next call.
    async fn tend(&self, looked_at: &mut Instant) -> Duration {
        let Some(session) = self.live() else {
            return match self.connect().await {
                Ok(()) => TICK,
                Err(RabbitError::Destroyed { .. }) => LOOK,
                Err(_) => RECONNECT,
            };
        };
        if looked_at.elapsed() >= LOOK && !session.is_blocked() {
            if let Err(error) = session.check(&self.topology, &self.address.to_string()).await
                && !session.is_blocked()
            {
                if let RabbitError::Destroyed { what, .. } = &error {
                    self.remember_destroyed(what).await;
                }
                drop(self.drop_session(&session, Trouble::of(&error)));
            }
            *looked_at = Instant::now();
        }
        TICK
    }
}

impl Trouble {
    fn of(error: &RabbitError) -> Self {
        let is_destroyed = matches!(error, RabbitError::Destroyed { .. });
        Self { reason: error.to_string(), is_destroyed }
    }

    fn of_silence() -> Self {
        Self { reason: "the broker does not answer".into(), is_destroyed: false }
    }
}

/// Whether the broker has closed the channel because of a message, and not because an exchange is gone or the broker
/// shuts down.
fn is_about_a_message(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return false };
    match protocol.kind() {
        AMQPErrorKind::Soft(soft) => *soft != AMQPSoftError::NOTFOUND,
        AMQPErrorKind::Hard(hard) => *hard != AMQPHardError::CONNECTIONFORCED,
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
        let session = self.session()?;
        let bytes = message.routing_key.len();
        if bytes > SHORT {
            let reason = format!("the routing key has {bytes} bytes, more than {SHORT}");
            return Err(Rejection::Refused { reason });
        }
        let event = self.envelopes.wrap(message).await.map_err(|error| {
            let reason = error.to_string();
            match error.is_temporary() {
                true => Rejection::Unavailable { reason },
                // Only this message cannot be opened; the keys of other messages may be fine.
                false => Rejection::Unreadable { reason },
            }
        })?;
        self.send(&session, message, &event).await
    }

    fn state(&self) -> PublisherState {
        let live = self.live();
        let current = self.current();
        let reason = current.trouble.reason.clone();
        match live {
            Some(session) if session.is_blocked() => {
                PublisherState::Blocked { reason: ALARM.into() }
            }
            Some(_) => PublisherState::Connected,
            None if current.trouble.is_destroyed => PublisherState::Destroyed { reason },
            None => PublisherState::Disconnected { reason },
        }
    }

    async fn attend(&self) {
        let mut looked_at = Instant::now();
        loop {
            let pause = self.tend(&mut looked_at).await;
            tokio::time::sleep(pause).await;
        }
    }
}

const ALARM: &str = "the broker has raised a memory or disk alarm";
const REFUSED: &str = "a partner's queue refused its copy (it is full, or has failed)";
const STALLING: &str = "a partner's queue did not confirm its copy";

fn memory(error: impl std::fmt::Display) -> RabbitError {
    RabbitError::Memory(error.to_string())
}

fn blocked() -> Rejection {
    Rejection::Unavailable { reason: ALARM.into() }
}

#[cfg(test)]
mod tests;
