//! Sends the shop signed webhooks, independently of the answers to requests, and repeats them until the shop accepts them.
//!
//! No answer waits for a webhook. The queue is bounded: beyond [`WAITING_AT_MOST`] events new ones are dropped and counted,
//! because webhooks of a real gateway may get lost, too. A restart also loses the queue, except approvals, which the shop
//! learns of in no other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Client, Url};
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::LineResult;
use super::ledger::writer::Durable;
use super::paypal;
use crate::gateway::webhook;
use crate::tls;

/// The maximum number of events that wait for delivery.
const WAITING_AT_MOST: usize = 10_000;
/// The number of deliveries at the same time.
const SENDERS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The number of attempts. With the pauses above they take about ten minutes.
const TRIES: u32 = 65;

/// The settings of webhooks.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The shop's endpoint.
    pub url: Url,
    /// The secrets that sign them; two during a rotation.
    pub secrets: Vec<SecretString>,
    /// The types of events to send. Empty for all.
    pub events: Vec<String>,
    /// The shop's endpoint for events of PayPal. `None` for none.
    pub paypal: Option<Url>,
}

/// Queues events and delivers them.
pub(super) struct Webhooks {
    queue: mpsc::Sender<Event>,
    only: Vec<String>,
    has_paypal: bool,
    dropped: AtomicU64,
}

/// An event that is not signed yet.
pub(super) struct Event {
    /// The number of its line in the ledger. The event is sent once the line is on the disk.
    pub(super) line: u64,
    pub(super) body: Vec<u8>,
    /// The provider whose event it is.
    pub(super) format: EventFormat,
}

/// The provider whose event is sent: it chooses the endpoint and the signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EventFormat {
    Stripe,
    PayPal,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    id: String,
    object: &'static str,
    created: i64,
    livemode: bool,
    #[serde(rename = "type")]
    kind: &'a str,
    data: Data<T>,
}

#[derive(Serialize)]
struct Data<T> {
    object: T,
}

impl Webhooks {
    /// Starts the senders, which end when `closing` is cancelled.
    pub(super) fn start(
        config: WebhookConfig,
        api_key: &SecretString,
        durable: Durable,
        closing: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, reqwest::Error> {
        let client =
            tls::http_client(config.url.as_str(), Duration::from_secs(1), TIMEOUT).build()?;
        let (queue, events) = mpsc::channel(WAITING_AT_MOST);
        let events = Arc::new(Mutex::new(events));
        let (only, has_paypal) = (config.events.clone(), config.paypal.is_some());
        let config = Arc::new(config);
        for _ in 0..SENDERS {
            let sender = Sender {
                client: client.clone(),
                config: Arc::clone(&config),
                api_key: api_key.clone(),
                durable: durable.clone(),
                events: Arc::clone(&events),
            };
            tasks.spawn(closing.clone().run_until_cancelled_owned(sender.run()));
        }
        Ok(Self { queue, only, has_paypal, dropped: AtomicU64::new(0) })
    }

    /// The type of event for a result. `None` if there is none or it is not wanted.
    pub(super) fn kind(&self, result: LineResult) -> Option<&'static str> {
        let kind = match result {
            LineResult::Confirmed => "payment_intent.amount_capturable_updated",
            LineResult::Declined | LineResult::Unsupported => "payment_intent.payment_failed",
            LineResult::ApprovalRequired => "payment_intent.requires_action",
            LineResult::Cancelled | LineResult::Expired => "payment_intent.canceled",
            LineResult::Captured => "payment_intent.succeeded",
            LineResult::Refunded | LineResult::RefundPending => "charge.refunded",
            LineResult::RefundSettled => "refund.updated",
            LineResult::RefundFailed => "refund.failed",
            LineResult::Created | LineResult::Approved | LineResult::RefusedCancelled => {
                return None;
            }
        };
        (self.only.is_empty() || self.only.iter().any(|only| only == kind)).then_some(kind)
    }

    /// Queues an event `copies` times. The id comes from the line's number, so all copies have the same id.
    pub(super) fn tell<T: Serialize>(
        &self,
        kind: &str,
        line: u64,
        at: DateTime<Utc>,
        object: T,
        copies: usize,
    ) {
        let envelope = Envelope {
            id: format!("evt_{line}"),
            object: "event",
            created: at.timestamp(),
            livemode: false,
            kind,
            data: Data { object },
        };
        let body = serde_json::to_vec(&envelope).expect("strings and numbers always serialize");
        self.queue(line, &body, EventFormat::Stripe, copies);
    }

    /// Queues an event of PayPal `copies` times, if the shop has an endpoint for it and its type is wanted.
    pub(super) fn tell_of_paypal(&self, event: &serde_json::Value, line: u64, copies: usize) {
        let is_wanted =
            self.only.is_empty() || self.only.iter().any(|only| event["event_type"] == **only);
        if self.has_paypal && is_wanted {
            self.queue(line, event.to_string().as_bytes(), EventFormat::PayPal, copies);
        }
    }

    fn queue(&self, line: u64, body: &[u8], format: EventFormat, copies: usize) {
        for _ in 0..copies {
            if self.queue.try_send(Event { line, body: body.to_owned(), format }).is_err() {
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    tracing::warn!(dropped, "webhooks were dropped, because too many are waiting");
                }
            }
        }
    }
}

struct Sender {
    client: Client,
    config: Arc<WebhookConfig>,
    /// Signs events of PayPal.
    api_key: SecretString,
    durable: Durable,
    events: Arc<Mutex<mpsc::Receiver<Event>>>,
}

impl Sender {
    async fn run(self) {
        loop {
            let event = self.events.lock().await.recv().await;
            let Some(event) = event else { return };
            if self.durable.wait(event.line).await.is_err() {
                return;
            }
            self.deliver(event).await;
        }
    }

    /// A request to the event's endpoint with its signature. Each attempt is signed again, because Stripe's signature is valid for five
    /// minutes.
    fn signed(&self, event: &Event) -> reqwest::RequestBuilder {
        match (event.format, &self.config.paypal) {
            (EventFormat::PayPal, Some(url)) => {
                let signed = paypal::sign(&self.api_key, &event.body, Utc::now());
                signed.into_iter().fold(self.client.post(url.clone()), |request, (name, value)| {
                    request.header(name, value)
                })
            }
            _ => {
                let signature = webhook::sign(&event.body, &self.config.secrets, Utc::now());
                let request = self.client.post(self.config.url.clone());
                request.header(webhook::SIGNATURE_HEADER, signature)
            }
        }
    }

    async fn deliver(&self, event: Event) {
        let mut pause = FIRST_PAUSE;
        for number in 1..=TRIES {
            let sent = self
                .signed(&event)
                .header("content-type", "application/json")
                .body(event.body.clone());
            match sent.send().await {
                Ok(response) if response.status().is_success() => return,
                Ok(response) => {
                    tracing::debug!(line = event.line, status = %response.status(), number,
                        "webhook refused");
                }
                Err(_) => tracing::debug!(line = event.line, number, "a webhook was not delivered"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tracing::warn!(
            line = event.line,
            "a webhook is no longer tried, because all attempts failed"
        );
    }
}
