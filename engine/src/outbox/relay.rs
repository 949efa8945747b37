//! The loop that publishes.
//!
//! It keeps a window of messages with the publisher, one per subject, and moves those confirmed to
//! the feed, as many at a time as have come in while the last batch was being written. It is never
//! the truth: killed at any point, it or another relay reads the table and goes on.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::lease::{self, Epochs};
use super::{Feed, Outgoing, Publisher, Rejection, WRITTEN, feed, store};
use crate::database::{self, Listener};
use crate::inbox;

/// How a relay behaves. The defaults are meant to be kept; tests shorten them.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// How long another relay waits for one that does not answer any more.
    pub lease: Duration,
    /// Messages with the publisher at the same time.
    pub window: usize,
    /// The longest time between two looks at the table.
    pub poll: Duration,
    /// How long published messages can be read again from the feed.
    pub keep: Duration,
    /// How long a stopping relay waits for confirmations.
    pub drain: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            window: 64,
            poll: Duration::from_secs(1),
            keep: Duration::from_secs(7 * 24 * 3600),
            drain: Duration::from_secs(6),
        }
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// A relay that has found nothing for so long asks to be notified.
const DROWSY: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Nobody repeats a message to us after that time.
const REPETITIONS: Duration = Duration::from_secs(30 * 24 * 3600);
const TIDY: Duration = Duration::from_secs(5);

type Settled = (Outgoing, Result<(), Rejection>);

/// Publishes what the outbox holds, for as long as [`Relay::run`] runs.
pub struct Relay {
    pool: PgPool,
    publisher: Arc<dyn Publisher>,
    settings: RelaySettings,
    owner: Uuid,
    held: Epochs,
    held_until: Instant,
    renew_at: Instant,
    queue: VecDeque<Outgoing>,
    in_flight: FuturesUnordered<BoxFuture<'static, Settled>>,
    confirmed: Vec<Outgoing>,
    rejected: Vec<(Outgoing, String)>,
    /// Subjects with a message anywhere between the table and the table.
    busy: HashSet<String>,
    look_at: Instant,
    pause: Duration,
    asleep: bool,
    resume_at: Instant,
    trouble: Duration,
    tidy_at: Instant,
}

impl Relay {
    /// A relay that does nothing until it runs.
    pub fn new(pool: PgPool, publisher: Arc<dyn Publisher>, settings: RelaySettings) -> Self {
        let now = Instant::now();
        Self {
            pool,
            publisher,
            settings,
            owner: Uuid::now_v7(),
            held: Epochs::default(),
            held_until: now,
            renew_at: now,
            queue: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            confirmed: Vec::new(),
            rejected: Vec::new(),
            busy: HashSet::new(),
            look_at: now,
            pause: SHORTEST_PAUSE,
            asleep: false,
            resume_at: now,
            trouble: SHORTEST_PAUSE,
            tidy_at: now,
        }
    }

    /// Ends all leases, so that a relay starting now need not wait for its dead predecessor's to
    /// expire. Of another relay that lives it costs copies, never order or loss.
    pub async fn free_all(pool: &PgPool) -> Result<(), sqlx::Error> {
        lease::free_all(pool).await
    }

    /// Publishes until told to stop; then waits for the confirmations still open and gives the
    /// leases back. Trouble with database or publisher is logged and waited out.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut hints = WRITTEN.subscribe();
        let mut listening = std::pin::pin!(listen(self.pool.clone()));
        while !stop.is_cancelled() {
            self.renew().await;
            self.look().await;
            self.send();
            let nap = self.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(settled) = self.in_flight.next() => self.settle(settled).await,
                () = tokio::time::sleep_until(nap) => self.write().await,
                _ = hints.changed() => self.look_soon(),
                () = &mut listening => {}
            }
            self.tidy().await;
        }
        self.finish().await;
    }

    fn next_due(&self) -> Instant {
        let mut due = self.renew_at.min(self.tidy_at);
        let may_send = self.in_flight.len() < self.settings.window && !self.queue.is_empty();
        if may_send || !self.confirmed.is_empty() || !self.rejected.is_empty() {
            due = due.min(self.resume_at);
        }
        let may_look = self.queue.is_empty() && !self.window_is_full();
        if may_look && Instant::now() < self.held_until {
            due = due.min(self.look_at.max(self.resume_at));
        }
        due
    }

    fn window_is_full(&self) -> bool {
        self.in_flight.len() * 2 > self.settings.window
    }

    fn look_soon(&mut self) {
        self.look_at = Instant::now();
        self.pause = SHORTEST_PAUSE;
    }

    /// Renews the leases when it is time. While they cannot be renewed they run out, and with them
    /// the right to send.
    async fn renew(&mut self) {
        let now = Instant::now();
        if now < self.renew_at {
            return;
        }
        match lease::take(&self.pool, self.owner, self.settings.lease).await {
            Ok(held) => {
                self.held = held;
                self.held_until = now + self.settings.lease;
                self.renew_at = now + self.settings.lease / 3;
            }
            Err(error) => {
                warn!(%error, "the relay could not renew its leases");
                self.renew_at = Instant::now() + self.settings.lease / 10;
            }
        }
    }

    /// Fetches the heads of subjects that are not busy, when there is room for them.
    async fn look(&mut self) {
        let now = Instant::now();
        let due = now >= self.look_at && now >= self.resume_at && now < self.held_until;
        if !due || !self.queue.is_empty() || self.window_is_full() {
            return;
        }
        match store::heads(&self.pool, &self.held.shards()).await {
            Ok(heads) => {
                self.queue
                    .extend(heads.into_iter().filter(|head| !self.busy.contains(&head.subject)));
                self.busy.extend(self.queue.iter().map(|head| head.subject.clone()));
            }
            Err(error) => warn!(%error, "the relay could not read the outbox"),
        }
        let idle = self.queue.is_empty();
        if idle {
            self.look_at = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(self.settings.poll);
        } else {
            self.pause = SHORTEST_PAUSE;
        }
        self.fall_asleep_or_wake(idle).await;
    }

    /// Tells publishers whether to notify. What is committed before they can know is found by the
    /// next look, at most one poll later.
    async fn fall_asleep_or_wake(&mut self, idle: bool) {
        let asleep = idle && self.in_flight.is_empty() && self.pause > DROWSY;
        if asleep == self.asleep || self.held.shards().is_empty() {
            return;
        }
        match store::sleep(&self.pool, asleep).await {
            Ok(()) => self.asleep = asleep,
            Err(error) => warn!(%error, "the relay could not say that it sleeps or wakes"),
        }
    }

    /// Hands queued messages to the publisher until the window is full.
    fn send(&mut self) {
        let now = Instant::now();
        if now < self.resume_at {
            return;
        }
        while self.in_flight.len() < self.settings.window
            && let Some(message) = self.queue.pop_front()
        {
            if now >= self.held_until || !self.held.holds(message.shard) {
                self.busy.remove(&message.subject);
                continue;
            }
            let publisher = Arc::clone(&self.publisher);
            let sending = async move {
                let answer = publisher.publish(&message).await;
                (message, answer)
            };
            self.in_flight.push(sending.boxed());
        }
    }

    /// Takes in one answer and all others that are there already, then writes them down.
    async fn settle(&mut self, first: Settled) {
        self.sort(first);
        while let Some(Some(settled)) = self.in_flight.next().now_or_never() {
            self.sort(settled);
        }
        self.write().await;
    }

    fn sort(&mut self, (message, answer): Settled) {
        match answer {
            Ok(()) => {
                self.trouble = SHORTEST_PAUSE;
                self.confirmed.push(message);
            }
            Err(Rejection::Unavailable { reason }) => {
                let now = Instant::now();
                if now >= self.resume_at {
                    if self.trouble == SHORTEST_PAUSE {
                        warn!(%reason, "nothing can be published at the moment; messages wait");
                    }
                    self.trouble = (self.trouble * 2).min(LONGEST_PAUSE);
                    self.resume_at = now + self.trouble;
                }
                // Nobody's fault: what waits is read again when it is time.
                self.busy.remove(&message.subject);
                for waiting in self.queue.drain(..) {
                    self.busy.remove(&waiting.subject);
                }
            }
            Err(rejection) => {
                warn!(
                    message_id = %message.message_id, kind = message.kind, %rejection,
                    "a message was not taken; its subject waits"
                );
                metrics::counter!("stepwise_outbox_rejected_total").increment(1);
                self.rejected.push((message, rejection.to_string()));
            }
        }
    }

    /// Writes down what was confirmed and what was rejected. Kept for the next time when the
    /// database does not take it.
    async fn write(&mut self) {
        if !self.confirmed.is_empty() {
            match store::mark_published(&self.pool, self.owner, &self.held, &self.confirmed).await {
                Ok(moved) => self.moved(&moved.into_iter().collect()),
                Err(error) => self.wait_for_database(&error),
            }
        }
        if !self.rejected.is_empty() {
            match store::postpone(&self.pool, self.owner, &self.rejected).await {
                Ok(()) => {
                    for (message, _) in self.rejected.drain(..) {
                        self.busy.remove(&message.subject);
                    }
                }
                Err(error) => self.wait_for_database(&error),
            }
        }
    }

    fn moved(&mut self, moved: &HashSet<Uuid>) {
        for message in self.confirmed.drain(..) {
            self.busy.remove(&message.subject);
            if !moved.contains(&message.message_id) && self.held.holds(message.shard) {
                info!(shard = message.shard, "fenced: another relay publishes this shard now");
                self.held.lose(message.shard);
            }
        }
        metrics::counter!("stepwise_outbox_published_total").increment(moved.len() as u64);
        if !moved.is_empty() {
            feed::hint();
            // The next message of each subject may be waiting.
            self.look_soon();
        }
    }

    fn wait_for_database(&mut self, error: &sqlx::Error) {
        warn!(%error, "the relay could not write down what was published");
        self.resume_at = Instant::now() + Duration::from_millis(200);
    }

    /// Every 5 s: lets the publisher look after itself and forgets what neither
    /// the feed nor the inbox need keep.
    async fn tidy(&mut self) {
        let now = Instant::now();
        if now < self.tidy_at {
            return;
        }
        self.tidy_at = now + TIDY;
        self.publisher.attend().await;
        let feed = Feed::new(self.pool.clone());
        if let Err(error) = feed.forget(&self.held.shards(), self.settings.keep).await {
            warn!(%error, "old messages of the feed could not be forgotten");
        }
        if let Err(error) = inbox::forget(&self.pool, REPETITIONS).await {
            warn!(%error, "old entries of the inbox could not be forgotten");
        }
    }

    async fn finish(mut self) {
        let enough = Instant::now() + self.settings.drain;
        while let Ok(Some(settled)) = tokio::time::timeout_at(enough, self.in_flight.next()).await {
            self.settle(settled).await;
        }
        self.write().await;
        if let Err(error) = lease::release(&self.pool, self.owner).await {
            warn!(%error, "the relay could not give its leases back; they run out by themselves");
        }
    }
}

/// Turns notes from other processes into hints. Without it, messages are found by polling.
async fn listen(pool: PgPool) {
    loop {
        let listened: Result<(), sqlx::Error> = async {
            let mut listener = Listener::open(&pool, store::WAKE).await?;
            loop {
                listener.next().await?;
                super::hint();
            }
        }
        .await;
        if let Err(error) = listened
            && !database::note(&error)
        {
            warn!(%error, "the relay hears no notes at the moment and polls instead");
        }
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
}
