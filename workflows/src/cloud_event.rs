//! The outer form of everything we publish: CloudEvents 1.0, structured mode, JSON.
//!
//! A copy of a message, whenever it is made, has the same bytes: all of it comes from the message.
//! The one exception is deliberate: once a person is erased, copies of what was published about
//! them keep id and sequence and lose their data.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use stepwise_engine::outbox::Outgoing;
use thiserror::Error;
use uuid::Uuid;

use crate::privacy::{self, CustomerKey, KeyStore, KeyStoreError};

/// The media type of a CloudEvent in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The front door serves the schema of a type under this path and the type.
pub const SCHEMAS: &str = "/schemas/";

/// One CloudEvent. Serializes to its JSON form; absent attributes are left out, `data` is not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// The same on every copy.
    pub id: Uuid,
    /// `/stepwise/<service>`.
    pub source: String,
    /// The kind of event, versioned.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id of what it is about.
    pub subject: String,
    /// When it happened, RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// The address of the JSON schema of `data`.
    pub dataschema: String,
    /// 1, 2, 3 … per subject, as ten digits, so that texts sort like numbers: a gap shows a loss, a repetition a copy.
    pub sequence: String,
    /// Always `Integer`: how to read `sequence`.
    pub sequencetype: &'static str,
    /// The same per subject and type, for those who receive some types only. Absent in messages of releases that did not count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typesequence: Option<String>,
    /// The id that all events of one process have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// The id of the event that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Present and true if the person it was about has been erased; then `data` is null.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The catalogue's payload.
    pub data: Value,
}

impl CloudEvent {
    /// The copy for the archive, in which what is personal stays sealed, as in the message. `None`: the event has nothing personal.
    #[must_use]
    pub fn sealed(&self, message: &Outgoing) -> Option<Self> {
        let is_personal = message.sealed_for.is_some() && !self.erased;
        // The event was made of this data, so it can be read.
        let data = || serde_json::from_str(&message.data).unwrap_or_default();
        is_personal.then(|| Self { data: data(), ..self.clone() })
    }
}

/// Why an event cannot be shown.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// The key store did not answer, or does not hold the key.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The data is not JSON that can be read.
    #[error("the data cannot be read: {reason}")]
    Damaged {
        /// Where it cannot be read, without its content.
        reason: String,
    },
    /// A personal field does not open under its person's key.
    #[error("the field {field} does not open")]
    Sealed {
        /// The field's name.
        field: String,
    },
}

impl EnvelopeError {
    /// Whether the key store did not answer, so that trying again may help. Anything else is the
    /// trouble of this one event.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Keys(KeyStoreError::Storage(_)))
    }
}

/// Puts messages into their envelopes, opening what is sealed in them. Cheap to clone.
#[derive(Clone)]
pub struct Envelopes {
    keys: Arc<dyn KeyStore>,
    base_url: Arc<str>,
    shows_personal: bool,
}

impl std::fmt::Debug for Envelopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Envelopes")
    }
}

impl Envelopes {
    /// Opens with the keys of this store. The front door at `base_url` serves the schemas.
    pub fn new(keys: Arc<dyn KeyStore>, base_url: &str) -> Self {
        Self { keys, base_url: base_url.trim_end_matches('/').into(), shows_personal: true }
    }

    /// For readers who may not see personal data: what is sealed becomes `***`.
    #[must_use]
    pub fn masked(self) -> Self {
        Self { shows_personal: false, ..self }
    }

    /// The message as its readers get it.
    pub async fn wrap(&self, message: &Outgoing) -> Result<CloudEvent, EnvelopeError> {
        let data = serde_json::from_str(&message.data)
            .map_err(|error| EnvelopeError::Damaged { reason: error.to_string() })?;
        let (data, erased) = match message.sealed_for {
            None => (data, false),
            Some(person) => match self.keys.get(person).await? {
                Some(key) if self.shows_personal => (opened(&key, person, "data", &data)?, false),
                Some(_) => (masked(&data), false),
                None => (Value::Null, true),
            },
        };
        Ok(CloudEvent {
            specversion: "1.0",
            id: message.message_id,
            source: message.source.clone(),
            dataschema: format!("{}{SCHEMAS}{}", self.base_url, message.kind),
            kind: message.kind.clone(),
            subject: message.subject.clone(),
            time: message.happened_at,
            datacontenttype: "application/json",
            sequence: ten_digits(message.sequence),
            sequencetype: "Integer",
            typesequence: message.type_sequence.map(ten_digits),
            correlationid: message.correlation.clone(),
            causationid: message.causation.clone(),
            traceparent: message.traceparent.clone(),
            erased,
            data,
        })
    }
}

/// Replaces every `{"sealed": "…"}` by what it holds; sealed values are bound to their field's name.
pub(crate) fn opened(
    key: &CustomerKey,
    person: Uuid,
    field: &str,
    value: &Value,
) -> Result<Value, EnvelopeError> {
    match value {
        Value::Object(fields) => {
            if let (1, Some(Value::String(sealed))) = (fields.len(), fields.get("sealed")) {
                let broken = || EnvelopeError::Sealed { field: field.to_owned() };
                let plain = privacy::open(key, person, field, sealed).map_err(|_| broken())?;
                return serde_json::from_slice(&plain).map_err(|_| broken());
            }
            let open = |(name, value): (&String, &Value)| {
                Ok((name.clone(), opened(key, person, name, value)?))
            };
            fields.iter().map(open).collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Array(values) => values
            .iter()
            .map(|value| opened(key, person, field, value))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        plain => Ok(plain.clone()),
    }
}

/// Replaces every `{"sealed": "…"}` by a mask.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("sealed") => "***".into(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), masked(value))).collect()
        }
        Value::Array(values) => values.iter().map(masked).collect(),
        plain => plain.clone(),
    }
}

fn ten_digits(sequence: i64) -> String {
    format!("{sequence:010}")
}

fn rfc3339<S: serde::Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

#[cfg(test)]
mod tests;
