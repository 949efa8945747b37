//! The loop that publishes.
//!
//! It keeps a window of messages with the publisher, one per subject, and moves confirmed messages to
//! the feed. One batch has all confirmations that arrived while the last batch was being written.
//! Each message is sent by a task of its own. So nothing that this loop waits for delays the sending,
//! and a panic of the publisher costs one message one try.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Accepted, Outgoing, Publisher, PublisherState, Rejection, RelaySettings, WRITTEN, feed,
    health::RelayHealth,
    lease::Holding,
    store::{self, Confirmed, Head},
};
use crate::database::{trouble::Trouble, within};

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// After so long without a message a relay asks to be notified.
const DROWSY: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Between two looks at a publisher that is away.
const AWAY: Duration = Duration::from_millis(100);

const STATEMENT: Duration = Duration::from_secs(5);

/// After so long without a refusal, the log says that messages are taken again.
const TAKEN_AGAIN: Duration = Duration::from_secs(60);

type Answered = (Head, Result<Accepted, Rejection>);

pub(super) struct Publishing {
    pool: PgPool,
    publisher: Arc<dyn Publisher>,
    settings: RelaySettings,
    owner: Uuid,
    holding: Arc<Holding>,
    health: RelayHealth,
    queue: VecDeque<Head>,
    in_flight: JoinSet<Answered>,
    confirmed: Vec<Confirmed>,
    rejected: Vec<(Outgoing, String)>,
    /// Subjects whose message has been read from the table and not been marked there yet.
    busy: HashSet<String>,
    look_at: Instant,
    /// No hint makes it look before this time, so that one look finds the messages of several commits.
    rested_at: Instant,
    pause: Duration,
    asleep: bool,
    resume_at: Instant,
    backoff: Duration,
    away: Trouble,
    unavailable: Trouble,
    database: Trouble,
    refusals: Trouble,
    refused_at: Instant,
}

impl Publishing {
    pub(super) fn new(
        pool: PgPool,
        publisher: Arc<dyn Publisher>,
        settings: RelaySettings,
        owner: Uuid,
        holding: Arc<Holding>,
        health: RelayHealth,
    ) -> Self {
        let now = Instant::now();
        Self {
            pool,
            publisher,
            settings,
            owner,
            holding,
            health,
            queue: VecDeque::new(),
            in_flight: JoinSet::new(),
            confirmed: Vec::new(),
            rejected: Vec::new(),
            busy: HashSet::new(),
            look_at: now,
            rested_at: now,
            pause: SHORTEST_PAUSE,
            asleep: false,
            resume_at: now,
            backoff: SHORTEST_PAUSE,
            away: Trouble::new("the publisher takes no messages; they wait"),
            unavailable: Trouble::new("nothing can be published; messages wait"),
            database: Trouble::new("the relay cannot read or write its tables; messages wait"),
            refusals: Trouble::new(
                "some receiver does not take its messages; the others get theirs",
            ),
            refused_at: now,
        }
    }

    /// Publishes until told to stop; then waits for the confirmations still open.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut hints = WRITTEN.subscribe();
        while !stop.is_cancelled() {
            self.health.note_turn(self.in_flight.len());
            if self.is_available() {
                self.look().await;
                self.send();
            }
            let nap = self.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(answered) = self.in_flight.join_next() => self.take_answers(answered).await,
                () = tokio::time::sleep_until(nap) => self.write().await,
                _ = hints.changed() => self.look_soon(),
            }
        }
        let enough = Instant::now() + self.settings.drain;
        while let Ok(Some(answered)) =
            tokio::time::timeout_at(enough, self.in_flight.join_next()).await
        {
            self.take_answers(answered).await;
        }
        self.write().await;
    }

    /// Whether the publisher takes messages at all. While it does not, nothing is read.
    fn is_available(&mut self) -> bool {
        match self.publisher.state() {
            PublisherState::Connected => {
                self.away.end();
                return true;
            }
            PublisherState::Blocked { reason }
            | PublisherState::Disconnected { reason }
            | PublisherState::Destroyed { reason } => self.away.begin(&reason),
        }
        self.resume_at = self.resume_at.max(Instant::now() + AWAY);
        false
    }

    fn next_due(&self) -> Instant {
        let mut due = Instant::now() + self.settings.poll.min(self.settings.lease / 4);
        let may_send = self.in_flight.len() < self.settings.window && !self.queue.is_empty();
        if may_send || !self.confirmed.is_empty() || !self.rejected.is_empty() {
            due = due.min(self.resume_at);
        }
        if self.queue.is_empty() && !self.window_is_full() {
            due = due.min(self.look_at.max(self.resume_at));
        }
        due
    }

    fn window_is_full(&self) -> bool {
        self.in_flight.len() * 2 > self.settings.window
    }

    fn look_soon(&mut self) {
        self.look_at = self.look_at.min(self.rested_at);
        self.pause = SHORTEST_PAUSE;
    }

    /// Fetches the heads of subjects that are not busy, when there is room for them.
    async fn look(&mut self) {
        let now = Instant::now();
        let due = now >= self.look_at && now >= self.resume_at;
        if !due || !self.queue.is_empty() || self.window_is_full() {
            return;
        }
        let shards = self.holding.shards();
        if shards.is_empty() {
            self.look_at = now + SHORTEST_PAUSE;
            return;
        }
        match within(STATEMENT, store::heads(&self.pool, &shards)).await {
            Ok(heads) => {
                let free = |head: &Head| !self.busy.contains(&head.message.subject);
                self.queue.extend(heads.into_iter().filter(free));
                self.busy.extend(self.queue.iter().map(|head| head.message.subject.clone()));
                self.database.end();
            }
            Err(error) => self.wait_for_database(&error),
        }
        let idle = self.queue.is_empty();
        self.rested_at = Instant::now() + SHORTEST_PAUSE;
        if idle {
            self.look_at = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(self.settings.poll);
        } else {
            self.look_at = self.rested_at;
            self.pause = SHORTEST_PAUSE;
        }
        self.fall_asleep_or_wake(idle).await;
    }

    /// Tells writers whether to notify. Messages that are committed before the writers know are found
    /// by the next look, at most one poll later.
    async fn fall_asleep_or_wake(&mut self, idle: bool) {
        let asleep = idle && self.in_flight.is_empty() && self.pause > DROWSY;
        if asleep == self.asleep {
            return;
        }
        match within(STATEMENT, store::sleep(&self.pool, self.owner, asleep)).await {
            Ok(()) => self.asleep = asleep,
            Err(error) => self.wait_for_database(&error),
        }
    }

    /// Hands queued messages to the publisher until the window is full.
    fn send(&mut self) {
        if Instant::now() < self.resume_at {
            return;
        }
        while self.in_flight.len() < self.settings.window
            && let Some(head) = self.queue.pop_front()
        {
            if !self.holding.begin(head.message.shard) {
                self.busy.remove(&head.message.subject);
                continue;
            }
            let publisher = Arc::clone(&self.publisher);
            self.in_flight.spawn(async move {
                let sending = AssertUnwindSafe(publisher.publish(&head.message)).catch_unwind();
                let answer = sending.await.unwrap_or_else(|_| {
                    Err(Rejection::Unreadable { reason: "the publisher panicked".into() })
                });
                (head, answer)
            });
        }
        self.health.note_turn(self.in_flight.len());
    }

    /// Takes one answer and all others that have arrived, and writes them by one commit.
    async fn take_answers(&mut self, first: Result<Answered, tokio::task::JoinError>) {
        // Messages that were handed over together are often answered together.
        tokio::task::yield_now().await;
        let mut next = Some(first);
        while let Some(answered) = next {
            // An error means that a task was aborted: then everything ends.
            if let Ok(answered) = answered {
                self.sort(answered);
            }
            next = self.in_flight.try_join_next();
        }
        self.write().await;
    }

    fn sort(&mut self, (Head { message, tries }, answer): Answered) {
        match answer {
            Ok(accepted) => {
                self.backoff = SHORTEST_PAUSE;
                self.unavailable.end();
                let refusal = match accepted {
                    Accepted::ByAll => {
                        if self.refused_at.elapsed() > TAKEN_AGAIN {
                            self.refusals.end();
                        }
                        None
                    }
                    Accepted::RefusedBySome { reason } => {
                        metrics::counter!("stepwise_outbox_refused_by_partner_total").increment(1);
                        self.refused_at = Instant::now();
                        self.refusals.begin(&reason);
                        Some(reason)
                    }
                };
                self.confirmed.push(Confirmed { message, refusal });
            }
            Err(Rejection::Unavailable { reason }) => {
                let now = Instant::now();
                if now >= self.resume_at {
                    if self.publisher.state() == PublisherState::Connected {
                        self.unavailable.begin(&reason);
                    }
                    self.backoff = (self.backoff * 2).min(LONGEST_PAUSE);
                    self.resume_at = now + self.backoff;
                }
                // No message is to blame: they are read again later.
                self.forget(&message);
                for waiting in self.queue.drain(..) {
                    self.busy.remove(&waiting.message.subject);
                }
            }
            Err(rejection) => {
                metrics::counter!("stepwise_outbox_rejected_total").increment(1);
                if tries == 0 {
                    warn!(
                        message_id = %message.message_id, kind = message.kind, %rejection,
                        "a message was not taken; its subject waits"
                    );
                }
                self.rejected.push((message, rejection.to_string()));
            }
        }
    }

    /// The message is no longer under way.
    fn forget(&mut self, message: &Outgoing) {
        self.busy.remove(&message.subject);
        self.holding.end(message.shard);
    }

    /// Writes which messages were confirmed and which were rejected. If the database fails, they are
    /// kept for the next time.
    async fn write(&mut self) {
        if !self.confirmed.is_empty() {
            let epochs = self.holding.epochs();
            let marking = store::mark_published(&self.pool, self.owner, &epochs, &self.confirmed);
            match within(STATEMENT, marking).await {
                Ok(moved) => self.moved(&moved.into_iter().collect()),
                Err(error) => self.wait_for_database(&error),
            }
        }
        if !self.rejected.is_empty() {
            let postponing = store::postpone(&self.pool, self.owner, &self.rejected);
            match within(STATEMENT, postponing).await {
                Ok(()) => {
                    for (message, _) in std::mem::take(&mut self.rejected) {
                        self.forget(&message);
                    }
                }
                Err(error) => self.wait_for_database(&error),
            }
        }
    }

    fn moved(&mut self, moved: &HashSet<Uuid>) {
        let mut fenced = BTreeSet::new();
        for Confirmed { message, .. } in std::mem::take(&mut self.confirmed) {
            self.forget(&message);
            if !moved.contains(&message.message_id) {
                fenced.insert(message.shard);
            }
        }
        for shard in fenced {
            info!(shard, "fenced: another relay publishes this shard now");
            self.holding.lose(shard);
        }
        metrics::counter!("stepwise_outbox_published_total").increment(moved.len() as u64);
        self.database.end();
        if !moved.is_empty() {
            self.health.note_published();
            feed::hint();
            // The next message of each subject may be waiting.
            self.look_soon();
        }
    }

    fn wait_for_database(&mut self, error: &sqlx::Error) {
        self.database.begin_with(error);
        self.resume_at = Instant::now() + Duration::from_millis(200);
    }
}
