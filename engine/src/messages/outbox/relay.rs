//! Runs the tasks of a relay, and starts them again when they hang.
//!
//! Five tasks, none of which waits for another: one renews the leases, one publishes, one keeps the
//! publisher connected, one deletes old messages, one listens for notifications. If the leases are
//! not renewed within their time, or publishing makes no progress, the relay would look alive and do
//! nothing. So its tasks are ended and started again, and log, metric and state say so.
//!
//! No task has state that must not be lost: after a kill at any point, this or another relay reads
//! the tables and continues.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::{
    Publisher,
    health::RelayHealth,
    housekeeping,
    lease::{self, Holding},
    publishing::Publishing,
};

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

/// How long ended tasks may take to stop, and the leases to be released.
const GOODBYE: Duration = Duration::from_secs(2);

/// Publishes what the outbox holds, for as long as [`Relay::run`] runs.
///
/// ```
/// use std::sync::Arc;
/// use stepwise_engine::outbox::{Embedded, Relay, RelaySettings};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn f(pool: sqlx::PgPool) -> Result<(), tokio::task::JoinError> {
/// // No broker: messages go to the feed. One window of messages is enough for it.
/// let settings = RelaySettings { window: 16, ..RelaySettings::default() };
/// let relay = Relay::new(pool, Arc::new(Embedded), settings);
/// let stop = CancellationToken::new();
/// let running = tokio::spawn(relay.run(stop.clone()));
/// // ... until the process is told to end:
/// stop.cancel();
/// running.await?;
/// # Ok(()) }
/// ```
pub struct Relay {
    pool: PgPool,
    publisher: Arc<dyn Publisher>,
    settings: RelaySettings,
    owner: Uuid,
    health: RelayHealth,
}

/// The task that has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Publishing,
    Other,
}

impl Relay {
    /// A relay that does nothing until it runs.
    pub fn new(pool: PgPool, publisher: Arc<dyn Publisher>, settings: RelaySettings) -> Self {
        let health = RelayHealth::new(settings.lease);
        Self { pool, publisher, settings, owner: Uuid::now_v7(), health }
    }

    /// A handle that tells how the relay is, also while it runs and after it has ended.
    #[must_use]
    pub fn health(&self) -> RelayHealth {
        self.health.clone()
    }

    /// Ends all leases, so that a relay that starts now need not wait for those of its dead
    /// predecessor. If another relay is alive, it causes copies, but no loss and no disorder.
    pub async fn free_all(pool: &PgPool) -> Result<(), sqlx::Error> {
        lease::free_all(pool).await
    }

    /// Publishes until told to stop. Then it waits for the open confirmations and releases the
    /// leases. While the database or the publisher fails, it logs that and tries again.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            self.health.note_start();
            let mut tasks = self.start(&stop);
            let ended = self.watch(&mut tasks, &stop).await;
            if tokio::time::timeout(GOODBYE, tasks.shutdown()).await.is_err() {
                error!("a task of the relay does not end; it is abandoned");
            }
            let Err(why) = ended else { break };
            self.health.note_restart();
            metrics::counter!("stepwise_relay_restarts_total").increment(1);
            error!(why, "the relay hung; its tasks are started again");
        }
        self.health.note_end();
        match tokio::time::timeout(GOODBYE, lease::release(&self.pool, self.owner)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "the relay could not release its leases; they run out by themselves");
            }
            Err(_) => {
                warn!("the relay could not release its leases in time; they run out by themselves")
            }
        }
    }

    fn start(&self, stop: &CancellationToken) -> JoinSet<Task> {
        let Self { pool, publisher, settings, owner, health } = self;
        let holding = Arc::new(Holding::default());
        let mut tasks = JoinSet::new();
        let mut other = |task: futures::future::BoxFuture<'static, ()>| {
            tasks.spawn(async move {
                task.await;
                Task::Other
            });
        };
        let renewing =
            lease::keep(pool.clone(), *owner, settings.lease, Arc::clone(&holding), health.clone());
        other(Box::pin(renewing));
        other(Box::pin(housekeeping::attend(Arc::clone(publisher))));
        let house = housekeeping::keep_house(pool.clone(), Arc::clone(&holding), settings.keep);
        other(Box::pin(house));
        other(Box::pin(housekeeping::listen(pool.clone())));
        let publishing = Publishing::new(
            pool.clone(),
            Arc::clone(publisher),
            settings.clone(),
            *owner,
            holding,
            health.clone(),
        );
        let stop = stop.clone();
        tasks.spawn(async move {
            publishing.run(stop).await;
            Task::Publishing
        });
        tasks
    }

    /// Waits until publishing has ended as told, or something hangs or panics.
    async fn watch(
        &self,
        tasks: &mut JoinSet<Task>,
        stop: &CancellationToken,
    ) -> Result<(), &'static str> {
        let enough = async {
            stop.cancelled().await;
            tokio::time::sleep(self.settings.drain + GOODBYE).await;
        };
        let mut enough = std::pin::pin!(enough);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(Ok(Task::Publishing)) | None => return Ok(()),
                    Some(Ok(Task::Other)) => {}
                    Some(Err(error)) if error.is_panic() => {
                        error!(%error, "a task of the relay panicked");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        return Err("one of its tasks panicked");
                    }
                    Some(Err(_)) => {}
                },
                () = tokio::time::sleep(self.settings.lease / 10) => {
                    if !stop.is_cancelled() && let Some(why) = self.health.hanging() {
                        return Err(why);
                    }
                }
                () = &mut enough => return Ok(()),
            }
        }
    }
}
