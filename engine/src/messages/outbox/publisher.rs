//! The port to the system that carries messages to others.

use async_trait::async_trait;
use thiserror::Error;

use super::Outgoing;

/// Carries messages to others. The relay keeps up to a window of calls open at the same time, never
/// two of one subject.
///
/// ```
/// use async_trait::async_trait;
/// use stepwise_engine::outbox::{Accepted, Outgoing, Publisher, PublisherState, Rejection};
///
/// /// Prints messages that are not too long.
/// struct Printer;
///
/// #[async_trait]
/// impl Publisher for Printer {
///     async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
///         if message.data.len() > 1_000 {
///             return Err(Rejection::Refused { reason: "it is over 1,000 bytes".to_owned() });
///         }
///         println!("{} {}", message.kind, message.data);
///         Ok(Accepted::ByAll)
///     }
///
///     fn state(&self) -> PublisherState {
///         PublisherState::Connected
///     }
/// }
/// ```
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns when the other side has stored the message durably. Must end by itself within seconds,
    /// whatever the other side does.
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection>;

    /// The state for operators. Makes no request.
    fn state(&self) -> PublisherState;

    /// Connects, and connects again after a loss. A task of its own in the relay runs this beside
    /// the publishing and calls it again a second after it has returned.
    async fn attend(&self) {}
}

/// The receivers that have got a published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// All receivers that have asked for it.
    ByAll,
    /// The publisher has stored it durably, but some receiver did not take its copy. It is not sent
    /// again, because all others would get it twice.
    RefusedBySome {
        /// Details, without personal data.
        reason: String,
    },
}

/// Why a message was not taken. All but the last hold back the message's subject only.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// No queue wants it: the topology is broken.
    #[error("returned as unroutable: {code} {text}")]
    Unroutable {
        /// The broker's reply code.
        code: u16,
        /// The broker's reply text.
        text: String,
    },
    /// The broker will not take this message, for example because it is too large.
    #[error("refused by the broker: {reason}")]
    Refused {
        /// The broker's words.
        reason: String,
    },
    /// No answer in time; it may have arrived.
    #[error("not confirmed in time")]
    Unconfirmed,
    /// It could not be put into its outer form. An operator must look at it.
    #[error("could not be rendered: {reason}")]
    Unreadable {
        /// Why, without personal data.
        reason: String,
    },
    /// Nothing can be published at the moment: all messages wait, and none is to blame.
    #[error("no publisher: {reason}")]
    Unavailable {
        /// Why, without secrets.
        reason: String,
    },
}

/// Whether messages can be published now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublisherState {
    /// They can.
    Connected,
    /// The broker has asked us to wait (memory or disk alarm).
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// There is no connection.
    Disconnected {
        /// Why, without secrets.
        reason: String,
    },
    /// The exchange or queue that messages are published to was deleted. Messages wait for an operator.
    Destroyed {
        /// The thing that is gone, and the remedy.
        reason: String,
    },
}

/// The publisher of an installation without a broker: messages go to the feed only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

#[async_trait]
impl Publisher for Embedded {
    async fn publish(&self, _: &Outgoing) -> Result<Accepted, Rejection> {
        Ok(Accepted::ByAll)
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }
}
