//! The port to whatever carries messages away.

use async_trait::async_trait;
use thiserror::Error;

use super::Outgoing;

/// Carries messages to others. The relay keeps up to a window of calls open at the same time, never
/// two of one subject.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns once somebody else is durably responsible for the message. Must end by itself, within
    /// seconds, whatever the other side does.
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection>;

    /// What an operator should see. Asks nobody.
    fn state(&self) -> PublisherState;

    /// Connects, and connects again after a loss. A task of its own in the relay runs this beside
    /// the publishing and calls it again a second after it has returned.
    async fn attend(&self) {}
}

/// Who has a message that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Everybody who asked for it.
    ByAll,
    /// The publisher keeps it durably, and somebody who asked for it did not take a copy. It is not
    /// sent again: all others would get it twice.
    RefusedBySome {
        /// What is known about it, without personal data.
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
    /// It could not be put into its outer form; a person must look.
    #[error("could not be rendered: {reason}")]
    Unreadable {
        /// Why, without personal data.
        reason: String,
    },
    /// Nothing can be published at the moment: all messages wait, none is blamed.
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
    /// Somebody has destroyed what messages are published to. Messages wait for a person.
    Destroyed {
        /// What is gone and what to do.
        reason: String,
    },
}

/// The publisher of an installation without a broker: the feed itself is where messages go.
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
