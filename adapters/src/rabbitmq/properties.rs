//! The properties of a message at the broker.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use stepwise_workflows::cloud_event::{CONTENT_TYPE, CloudEvent};

use super::topology::ARCHIVED;

/// The maximum length of an AMQP short string, in bytes.
pub(super) const SHORT: usize = 255;

/// The message's properties, which consumers can read without parsing the body. `BCC` routes it to the archive as well.
pub(super) fn properties(event: &CloudEvent, is_archived: bool) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(CONTENT_TYPE.into())
        .with_message_id(event.id.to_string().into())
        .with_timestamp(u64::try_from(event.time.timestamp()).unwrap_or(0))
        .with_app_id("stepwise".into());
    let properties = match is_archived {
        true => properties.with_headers(to_the_archive()),
        false => properties,
    };
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

/// The second routing key of a message, which the broker takes off.
fn to_the_archive() -> FieldTable {
    let mut headers = FieldTable::default();
    let keys = vec![AMQPValue::LongString(ARCHIVED.into())];
    headers.insert("BCC".into(), AMQPValue::FieldArray(keys.into()));
    headers
}
