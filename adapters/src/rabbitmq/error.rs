//! The reasons why a broker cannot be used.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use thiserror::Error;

/// The reason why a session cannot be opened.
#[derive(Debug, Error)]
pub enum RabbitError {
    /// The text is not an AMQP address.
    #[error("not an AMQP address (amqp://user:password@host:port/vhost): {reason}")]
    Address {
        /// The fault in the text.
        reason: String,
    },
    /// No server answers there, or a server that is not RabbitMQ.
    #[error("RabbitMQ at {at} cannot be reached: {reason}")]
    Unreachable {
        /// The address without the password.
        at: String,
        /// The error.
        reason: String,
    },
    /// User, password or virtual host are wrong.
    #[error("RabbitMQ at {at} refuses this user, password or virtual host: {reason}")]
    Denied {
        /// The address without the password.
        at: String,
        /// The broker's message.
        reason: String,
    },
    /// Exchange or archive cannot be declared, for example because they exist with other settings.
    #[error("RabbitMQ at {at} refuses the exchange or the archive stream: {reason}")]
    Topology {
        /// The address without the password.
        at: String,
        /// The broker's message.
        reason: String,
    },
    /// The exchange or the archive was declared before and is gone, because somebody has deleted it. It is not declared
    /// again automatically, because then the loss of the partners' bindings would go unnoticed.
    #[error(
        "{what} is gone from RabbitMQ at {at}, and partners' bindings with it; events wait. Have the partners \
         bind again, then run `stepwise relay --declare`"
    )]
    Destroyed {
        /// The address without the password.
        at: String,
        /// The part of the topology that is gone.
        what: String,
    },
    /// The database did not say whether the topology was declared before.
    #[error("it is not known whether the topology was declared before: {0}")]
    Memory(String),
}

pub(super) fn mute(at: &str) -> RabbitError {
    RabbitError::Unreachable { at: at.to_owned(), reason: "it does not answer".into() }
}

pub(super) fn unreachable(at: &str, error: &lapin::Error) -> RabbitError {
    RabbitError::Unreachable { at: at.to_owned(), reason: error.to_string() }
}

/// Whether the user lacks a right that the operation needs.
pub(super) fn is_access_refused(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return false };
    matches!(protocol.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
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
