//! Integration events as server-sent events, for who has no broker, or does not want one.
//!
//! The same CloudEvents as on the broker; a service sees `***` instead of personal data. An event's id on the stream is the position after it:
//! whoever reconnects with `Last-Event-ID` loses nothing and gets nothing twice.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use poem::{http::StatusCode, web::sse::Event};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Query},
    payload::EventStream,
    types::{Any, ToJSON},
};
use serde_json::Value;
use stepwise_engine::outbox::{Feed, FeedError, Position};
use stepwise_workflows::cloud_event::{CloudEvent, Envelopes};
use uuid::Uuid;

use super::Group;
use crate::door::{
    caller::{By, EventReader, Role},
    problem::Problem,
};

/// The operations about integration events.
pub struct Events;

/// Where a stream without a position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum From {
    /// At the oldest event that is still kept.
    Oldest,
    /// At what comes from now on.
    Newest,
}

/// A CloudEvent 1.0, structured mode.
#[derive(Debug, Object)]
#[oai(rename = "CloudEvent", skip_serializing_if_is_none)]
struct CloudEventShape {
    specversion: String,
    /// The same on every copy.
    id: Uuid,
    /// `/stepwise/<service>`.
    source: String,
    /// `shop.order.placed.v1`.
    #[oai(rename = "type")]
    kind: String,
    /// The id of what it is about.
    subject: String,
    time: DateTime<Utc>,
    datacontenttype: String,
    dataschema: String,
    /// 1, 2, 3, ... per subject, without gaps.
    sequence: i64,
    correlationid: Option<String>,
    causationid: Option<String>,
    traceparent: Option<String>,
    /// Whether the person it was about was erased; its data is then null.
    erased: Option<bool>,
    /// What the catalogue says an event of this type carries.
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
            correlationid: event.correlationid,
            causationid: event.causationid,
            traceparent: event.traceparent,
            erased: event.erased.then_some(true),
            data: Any(event.data),
            position: position.to_string(),
        }
    }
}

#[OpenApi(prefix_path = "/v1/events", tag = "Group::Webhooks")]
impl Events {
    /// Integration events as they are published, in order per subject. A service sees `***` where an
    /// admin sees personal data.
    #[oai(path = "/stream", method = "get", operation_id = "streamEvents")]
    async fn stream(
        &self,
        by: By<EventReader>,
        /// The id of the last event that was received.
        #[oai(name = "Last-Event-ID")]
        last: Header<Option<String>>,
        /// Where to begin without one; the default is `oldest`.
        from: Query<Option<From>>,
    ) -> Result<EventStream<BoxStream<'static, CloudEventShape>>, Problem> {
        let feed = Feed::new(by.door.db.clone());
        let position = match (last.0.filter(|id| !id.is_empty()), from.0) {
            (Some(id), _) => id.parse().map_err(not_readable)?,
            (None, Some(From::Newest)) => feed.newest().await.map_err(not_readable)?,
            (None, Some(From::Oldest) | None) => feed.oldest().await.map_err(not_readable)?,
        };
        // Looked at once before the stream begins, while there still is a status to answer with.
        feed.after(&position).await.map_err(not_readable)?;
        let mut envelopes = Envelopes::new(by.door.shop.keys.clone());
        if by.role == Role::Service {
            envelopes = envelopes.masked();
        }
        let events = feed
            .tail(position)
            .map_err(|error| tracing::warn!(%error, "an event stream ends"))
            .and_then(move |published| {
                let envelopes = envelopes.clone();
                async move {
                    let event = envelopes.wrap(&published.message).await;
                    event.map(|event| CloudEventShape::new(event, &published.position)).map_err(
                        |error| tracing::error!(%error, "an event cannot be shown; its stream ends"),
                    )
                }
            });
        // Whoever reads comes back with the last id; an error would only repeat what is logged.
        let events = events.map(Result::ok).take_while(|e| std::future::ready(e.is_some()));
        let stop = by.door.stop.clone().cancelled_owned();
        let events = events.flat_map(stream::iter).take_until(stop).boxed();
        let told = EventStream::new(events).to_event(|event: CloudEventShape| {
            let json = event.to_json().unwrap_or_default().to_string();
            Event::message(json).id(event.position).event_type(event.kind)
        });
        Ok(told.keep_alive(Duration::from_secs(15)))
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
