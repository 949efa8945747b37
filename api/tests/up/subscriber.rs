//! A partner that reads the stream of events, and continues after an outage from its last position.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use serde_json::Value;

use crate::{books::Event, site::Up};

/// The events that the partner has received.
#[derive(Default)]
pub(crate) struct Subscriber {
    last_event_id: Option<String>,
    pub(crate) received: Vec<Event>,
}

impl Subscriber {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.received.iter().map(|event| event.id.clone()).collect()
    }

    fn take(&mut self, position: &str, event: &Value) {
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        let sequence = text("sequence").parse().expect("ten digits");
        self.received.push(Event {
            subject: text("subject"),
            sequence,
            kind: text("type"),
            id: text("id"),
        });
        self.last_event_id = Some(position.to_owned());
    }
}

/// Reads until aborted. If the stream ends, opens it again after the last event: the server ends streams while its database is away.
pub(crate) async fn subscribe(up: Arc<Up>, subscriber: Arc<Mutex<Subscriber>>) {
    loop {
        let last = subscriber.lock().expect("no panic").last_event_id.clone();
        if let Ok(response) = up.stream("/v1/events/stream", last.as_deref()).await {
            read(response, &subscriber).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn read(response: reqwest::Response, subscriber: &Mutex<Subscriber>) {
    let mut bytes = response.bytes_stream();
    let (mut text, mut position) = (String::new(), String::new());
    while let Some(Ok(more)) = bytes.next().await {
        text.push_str(&String::from_utf8_lossy(&more));
        while let Some(end) = text.find('\n') {
            let line: String = text.drain(..=end).collect();
            if let Some(value) = line.strip_prefix("id:") {
                position = value.trim().to_owned();
            } else if let Some(value) = line.strip_prefix("data:")
                && let Ok(event) = serde_json::from_str::<Value>(value.trim())
            {
                subscriber.lock().expect("no panic").take(&position, &event);
            }
        }
    }
}
