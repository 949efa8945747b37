//! TODO

mod feed;
mod order;
mod sharing;
mod tasks;
mod trouble;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{store::migrations::migrations, testing::Database};

/// Answers as told, per subject, and remembers everything it was handed.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Outgoing>>,
    answers: Mutex<HashMap<String, Rejection>>,
    away: Mutex<bool>,
    /// While locked, no call of `publish` returns.
    gate: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Publisher for Recorder {
    async fn publish(&self, message: &Outgoing) -> Result<Accepted, Rejection> {
        if *self.away.lock().expect("not poisoned") {
            return Err(Rejection::Unavailable { reason: "away".into() });
        }
        let answer = self.answers.lock().expect("not poisoned").get(&message.subject).cloned();
        self.seen.lock().expect("not poisoned").push(message.clone());
        drop(self.gate.lock().await);
        answer.map_or(Ok(Accepted::ByAll), Err)
    }

    fn state(&self) -> PublisherState {
        PublisherState::Connected
    }
}

impl Recorder {
    /// The sequences handed over for a subject, in order of arrival.
    fn sequences(&self, subject: &str) -> Vec<i64> {
        let seen = self.seen.lock().expect("not poisoned");
        seen.iter().filter(|one| one.subject == subject).map(|one| one.sequence).collect()
    }

    fn count(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    fn answer(&self, subject: &str, rejection: Option<Rejection>) {
        let mut answers = self.answers.lock().expect("not poisoned");
        match rejection {
            Some(rejection) => answers.insert(subject.to_owned(), rejection),
            None => answers.remove(subject),
        };
    }
}

fn message(subject: &str, sequence: i64) -> Message {
    Message::new("test.happened.v1", "/test", subject, sequence, json!({ "sequence": sequence }))
}

async fn write(pool: &PgPool, messages: &[Message]) {
    let mut tx = pool.begin().await.expect("begin");
    publish_all(&mut tx, messages).await.expect("publish");
    tx.commit().await.expect("commit");
    hint();
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    health: RelayHealth,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("a relay does not panic");
    }

    /// As good as a kill: the loop is gone at its next await.
    async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

fn start<P: Publisher + 'static>(
    pool: &PgPool,
    publisher: &Arc<P>,
    settings: RelaySettings,
) -> Running {
    let stop = CancellationToken::new();
    let publisher: Arc<dyn Publisher> = Arc::<P>::clone(publisher);
    let relay = Relay::new(pool.clone(), publisher, settings);
    let health = relay.health();
    Running { task: tokio::spawn(relay.run(stop.clone())), stop, health }
}

fn brisk() -> RelaySettings {
    RelaySettings {
        lease: Duration::from_millis(600),
        poll: Duration::from_millis(100),
        ..RelaySettings::default()
    }
}

/// Waits for a condition; fails after 10 s with what was expected.
async fn until<F: Future<Output = bool>>(expected: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a statement of that name waits for a lock.
async fn waits_for_a_lock(pool: &PgPool, name: &str) {
    until(&format!("{name} waits for a lock"), || async {
        let waiting: i64 = sqlx::query_scalar(
            "-- test: who waits
             select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and starts_with(query, '-- ' || $1)",
        )
        .bind(name)
        .fetch_one(pool)
        .await
        .expect("activity");
        waiting > 0
    })
    .await;
}

async fn drained(pool: &PgPool) {
    until("the outbox is empty", || async { lag(pool).await.expect("lag").messages == 0 }).await;
}

/// The whole feed, per subject.
async fn fed(pool: &PgPool) -> HashMap<String, Vec<i64>> {
    let feed = Feed::new(pool.clone());
    let mut position = feed.oldest().await.expect("oldest");
    let mut fed: HashMap<String, Vec<i64>> = HashMap::new();
    loop {
        let batch = feed.after(&position).await.expect("after");
        let Some(last) = batch.last() else { return fed };
        position = last.position.clone();
        for one in batch {
            fed.entry(one.message.subject).or_default().push(one.message.sequence);
        }
    }
}
