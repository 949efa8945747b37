//! A message as its author writes it, and as the relay passes it on.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{PublishError, ROUTING_KEY_BYTES};
use crate::base::{id::shard_of, json::check_text};

/// A fact for others, to be written by [`publish`](super::publish).
///
/// ```
/// use serde_json::json;
/// use stepwise_engine::outbox::{self, Message};
///
/// # async fn f(tx: &mut sqlx::PgConnection) -> Result<(), outbox::PublishError> {
/// // The second fact about this order; the counter stands on the order's own row.
/// let message = Message::new("shop.order.placed.v1", "/shop/order", "order 7", 2, json!({ "lines": 3 }))
///     .because("checkout 40f1", "request 9d2e");
/// outbox::publish(tx, &message).await?; // it exists exactly if the transaction commits
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Names the message on every copy ever sent.
    pub id: Uuid,
    /// The subject; messages of one subject are published in order.
    pub subject: String,
    /// 1, 2, 3 … per subject, without gaps: a counter on the subject's own row.
    pub sequence: i64,
    /// The same per subject and kind, if it is counted: it shows gaps to those who receive some kinds only.
    pub type_sequence: Option<i64>,
    /// The kind of event, versioned: `shop.order.placed.v1`.
    pub kind: String,
    /// The key by which a broker routes it; [`Message::new`] takes the kind.
    pub routing_key: String,
    /// The sender, as a path: `/stepwise/order`.
    pub source: String,
    /// The payload; ciphertext if `sealed_for` is set.
    pub data: Value,
    /// The person whose key opens the data. When that key is destroyed, the message is published without data.
    pub sealed_for: Option<Uuid>,
    /// The id that all messages of one process have in common.
    pub correlation: Option<String>,
    /// The id of the message or request that led to this one.
    pub causation: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Message {
    /// A message with a new id, routed by its kind.
    pub fn new(
        kind: impl Into<String>,
        source: impl Into<String>,
        subject: impl Into<String>,
        sequence: i64,
        data: Value,
    ) -> Self {
        let kind = kind.into();
        Self {
            id: Uuid::now_v7(),
            subject: subject.into(),
            sequence,
            type_sequence: None,
            routing_key: kind.clone(),
            kind,
            source: source.into(),
            data,
            sealed_for: None,
            correlation: None,
            causation: None,
            traceparent: None,
        }
    }

    /// Says that `data` is ciphertext which only this person's key opens.
    #[must_use]
    pub fn sealed_for(mut self, person: Uuid) -> Self {
        self.sealed_for = Some(person);
        self
    }

    /// Says which process the message belongs to and what led to it.
    #[must_use]
    pub fn because(mut self, correlation: impl Into<String>, causation: impl Into<String>) -> Self {
        self.correlation = Some(correlation.into());
        self.causation = Some(causation.into());
        self
    }

    /// Can it be written, and routed?
    pub(super) fn check(&self) -> Result<(), PublishError> {
        let Self { kind, routing_key, correlation, causation, traceparent, .. } = self;
        let bytes = routing_key.len();
        if bytes > ROUTING_KEY_BYTES {
            return Err(PublishError::RoutingKey { kind: kind.clone(), bytes });
        }
        for (what, text) in [
            ("subject of a message", Some(&self.subject)),
            ("kind of a message", Some(kind)),
            ("routing key of a message", Some(routing_key)),
            ("source of a message", Some(&self.source)),
            ("correlation of a message", correlation.as_ref()),
            ("causation of a message", causation.as_ref()),
            ("traceparent of a message", traceparent.as_ref()),
        ] {
            check_text(what, text.map_or("", String::as_str))?;
        }
        Ok(())
    }

    /// The shard of the subject.
    #[must_use]
    pub fn shard(&self) -> i16 {
        shard_of(&self.subject)
    }
}

/// A message read back, ready to be published.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Outgoing {
    /// The shard of the subject.
    pub shard: i16,
    /// See [`Message::subject`].
    pub subject: String,
    /// See [`Message::sequence`].
    pub sequence: i64,
    /// See [`Message::type_sequence`].
    pub type_sequence: Option<i64>,
    /// See [`Message::id`].
    pub message_id: Uuid,
    /// See [`Message::kind`].
    pub kind: String,
    /// See [`Message::routing_key`].
    pub routing_key: String,
    /// See [`Message::source`].
    pub source: String,
    /// See [`Message::data`]. As text, so that data that cannot be read does not affect other messages.
    pub data: String,
    /// See [`Message::sealed_for`].
    pub sealed_for: Option<Uuid>,
    /// See [`Message::correlation`].
    pub correlation: Option<String>,
    /// See [`Message::causation`].
    pub causation: Option<String>,
    /// See [`Message::traceparent`].
    pub traceparent: Option<String>,
    /// Business time of the fact.
    pub happened_at: DateTime<Utc>,
}
