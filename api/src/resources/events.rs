//! Integration events as server-sent events, for receivers without a broker.
//!
//! The stream has the same CloudEvents as the broker, but a service sees `***` instead of personal data. An event's
//! id on the stream is the position after the event, so a client that reconnects with `Last-Event-ID` misses
//! no event and gets none twice. The stream begins with an id without data, so that this also holds before
//! the first event. An event that cannot be shown is set aside, and the stream continues.

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use poem::{http::StatusCode, web::sse::Event};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
    payload::EventStream,
    registry::{MetaSchemaRef, Registry},
    types::{Any, ToJSON, Type},
};
use serde_json::Value;
use stepwise_engine::{
    Trouble,
    outbox::{Feed, FeedError, Position, Published},
};
use stepwise_workflows::{
    cloud_event::{CloudEvent, Envelopes},
    integration::Notification,
};
use uuid::Uuid;

use super::Group;
use crate::door::{
    caller::{Anyone, By, EventReader, Role},
    problem::Problem,
    reply::Done,
};

/// The operations about integration events.
pub struct Events;

/// The interval between two attempts to reach a key store that does not answer.
const KEYS_AGAIN: Duration = Duration::from_secs(1);

/// The start of a stream for which no position is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum From {
    /// The stream begins with the oldest event that is still stored.
    Oldest,
    /// The stream begins with the next new event.
    Newest,
}

/// A CloudEvent 1.0, structured mode.
#[derive(Debug, Object)]
#[oai(rename = "CloudEvent", skip_serializing_if_is_none)]
struct CloudEventShape {
    specversion: String,
    /// The event's id, the same for every copy of the event.
    id: Uuid,
    /// `/stepwise/<service>`.
    source: String,
    /// `shop.order.placed.v1`.
    #[oai(rename = "type")]
    kind: String,
    /// The id of the event's subject.
    subject: String,
    time: DateTime<Utc>,
    datacontenttype: String,
    dataschema: String,
    /// 1, 2, 3, ... per subject, without gaps, as ten digits.
    sequence: String,
    /// Always `Integer`.
    sequencetype: String,
    /// The same per subject and type.
    typesequence: Option<String>,
    correlationid: Option<String>,
    causationid: Option<String>,
    traceparent: Option<String>,
    /// Whether the event's customer was erased. Its data is then null.
    erased: Option<bool>,
    /// The data that the event catalogue defines for this type.
    data: Any<Value>,
    #[oai(skip)]
    position: String,
}

impl CloudEventShape {
    fn new(event: CloudEvent, position: &Position) -> Self {
        Self {
            specversion: event.specversion.to_owned(),
            id: event.id,
            source: event.source,
            kind: event.kind,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.datacontenttype.to_owned(),
            dataschema: event.dataschema,
            sequence: event.sequence,
            sequencetype: event.sequencetype.to_owned(),
            typesequence: event.typesequence,
            correlationid: event.correlationid,
            causationid: event.causationid,
            traceparent: event.traceparent,
            erased: event.erased.then_some(true),
            data: Any(event.data),
            position: position.to_string(),
        }
    }
}

/// An entry of a stream. Only events are in the OpenAPI document.
enum Sent {
    /// The position at which the stream begins, so that a client that reconnects before the first event misses
    /// none.
    Position(String),
    /// An event, and the position after it.
    Event(Box<CloudEventShape>),
}

impl Type for Sent {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        CloudEventShape::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        CloudEventShape::schema_ref()
    }

    fn register(registry: &mut Registry) {
        CloudEventShape::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl ToJSON for Sent {
    fn to_json(&self) -> Option<Value> {
        match self {
            Self::Position(_) => None,
            Self::Event(event) => event.to_json(),
        }
    }
}

/// Turns published messages into CloudEvents for one stream.
#[derive(Clone)]
struct Shown {
    envelopes: Envelopes,
    feed: Feed,
}

impl Shown {
    /// Turns a message into its event. `None` if the event cannot be shown to anybody and was set aside. If the key store
    /// does not answer, this waits, because skipping the event would lose it.
    async fn show(&self, published: &Published) -> Option<Sent> {
        // All streams of this process share it.
        static KEYS: Trouble = Trouble::new("event streams wait for the key store");
        let unreadable = loop {
            match self.envelopes.wrap(&published.message).await {
                Ok(event) => {
                    KEYS.end();
                    let shape = CloudEventShape::new(event, &published.position);
                    return Some(Sent::Event(Box::new(shape)));
                }
                Err(error) if error.is_temporary() => {
                    KEYS.begin(&error);
                    tokio::time::sleep(KEYS_AGAIN).await;
                }
                Err(error) => break error.to_string(),
            }
        };
        if let Err(error) = self.feed.set_aside(published, &unreadable).await {
            tracing::warn!(%error, "cannot set aside an event that cannot be shown");
        }
        None
    }
}

#[OpenApi(prefix_path = "/v1/events", tag = "Group::Webhooks")]
impl Events {
    /// Stream integration events as they are published, in order per subject. A service sees `***` where an
    /// admin sees personal data. The stream's first entry is an id without data: the start position.
    #[oai(path = "/stream", method = "get", operation_id = "streamEvents")]
    async fn stream(
        &self,
        by: By<EventReader>,
        /// The id of the last event that the client received.
        #[oai(name = "Last-Event-ID")]
        last: Header<Option<String>>,
        /// The start of the stream if there is no such id; the default is `oldest`.
        from: Query<Option<From>>,
    ) -> Result<EventStream<BoxStream<'static, Sent>>, Problem> {
        let feed = Feed::new(by.door.db.clone());
        let position = match (last.0.filter(|id| !id.is_empty()), from.0) {
            (Some(id), _) => id.parse().map_err(not_readable)?,
            (None, Some(From::Newest)) => feed.newest().await.map_err(not_readable)?,
            (None, Some(From::Oldest) | None) => feed.oldest().await.map_err(not_readable)?,
        };
        // Read once before the stream begins, because an error can then still be answered with a status.
        feed.after(&position).await.map_err(not_readable)?;
        let mut envelopes =
            Envelopes::new(by.door.shop.keys.clone(), &by.door.shop.config.base_url);
        if by.role == Role::Service {
            envelopes = envelopes.masked();
        }
        let shown = Shown { envelopes, feed: feed.clone() };
        let begin = Sent::Position(position.to_string());
        let events = feed
            .tail(position)
            .map_err(|error| tracing::warn!(%error, "an event stream ended because of an error"))
            .filter_map(move |published| {
                let shown = shown.clone();
                async move {
                    match published {
                        Ok(published) => shown.show(&published).await.map(Ok),
                        Err(()) => Some(Err(())),
                    }
                }
            });
        // The client reconnects with the last id; it has no use for the error, which is logged.
        let events = events.map(Result::ok).take_while(|e| std::future::ready(e.is_some()));
        let events = stream::iter([begin]).chain(events.flat_map(stream::iter));
        let sent = by.door.stream(&by, events)?;
        let sent = EventStream::new(sent).to_event(|sent: Sent| match sent {
            // Clients remember an id without data and pass nothing to their listeners.
            Sent::Position(position) => Event::message("").id(position),
            Sent::Event(event) => {
                let json = event.to_json().unwrap_or_default().to_string();
                Event::message(json).id(event.position).event_type(event.kind)
            }
        });
        Ok(sent.keep_alive(Duration::from_secs(15)))
    }
}

/// The operations about the forms of events.
pub struct Schemas;

#[OpenApi(prefix_path = "/schemas", tag = "Group::Webhooks")]
impl Schemas {
    /// Get the JSON schema of the data of one type of event, which `dataschema` names.
    #[oai(path = "/:type", method = "get", operation_id = "getEventSchema")]
    async fn get(
        &self,
        _by: Anyone,
        /// Such as `shop.order.placed.v1`.
        #[oai(name = "type")]
        kind: Path<String>,
    ) -> Result<Done<Any<Value>>, Problem> {
        let schema = Notification::schema(&kind.0);
        let unknown = || Problem::not_found("schema_not_found", "There is no such type of event.");
        Ok(Done::new(&Any(schema.ok_or_else(unknown)?)))
    }
}

fn not_readable(error: FeedError) -> Problem {
    let why = error.to_string();
    match error {
        FeedError::NotAPosition => Problem::bad_request("invalid_position", why),
        FeedError::Forgotten => Problem::new(StatusCode::GONE, "position_forgotten", why),
        FeedError::Database(error) => error.into(),
    }
}
