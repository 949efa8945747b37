//! The port to whatever carries messages away.

use async_trait::async_trait;
use thiserror::Error;

use super::Outgoing;

/// Carries messages to others. The relay keeps up to a window of calls open at the same time, never
/// two of one subject.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns once somebody else is durably responsible for the message. Must end by itself: a
    /// confirmation that does not come within seconds is [`Rejection::Unconfirmed`].
    async fn publish(&self, message: &Outgoing) -> Result<(), Rejection>;

    /// What an operator should see.
    fn state(&self) -> PublisherState;

    /// Called every few seconds, also when there is nothing to publish: the time to renew a lost
    /// connection, so that [`state`](Self::state) is true.
    async fn attend(&self) {}
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
    /// The broker said no.
    #[error("refused by the broker")]
    Refused,
    /// No answer in time; it may have arrived.
    #[error("not confirmed in time")]
    Unconfirmed,
    /// It could not be put into its outer form; a person must look.
    #[error("could not be rendered: {reason}")]
    Unreadable {
        /// Why, without personal data.
        reason: String,
    },
    /// Nobody can be reached at the moment: all messages wait, none is blamed.
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
}

/// The publisher of an installation without a broker: the feed itself is where messages go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

#[async_trait]
impl Publisher for Embedded {
    async fn publish(&self, _: &Outgoing) -> Result<(), Rejection> {
        Ok(())
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }
}
