//! The health of a relay, as it reports it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Reads how a relay is, from outside and at any time. Cheap to clone; outlives the relay.
///
/// ```
/// use stepwise_engine::outbox::{Relay, RelayHealth, RelayReport, RelayState};
///
/// fn is_ready(relay: &RelayHealth) -> Result<(), String> {
///     let RelayReport { state, restarts, .. } = relay.report();
///     match state {
///         RelayState::Working => Ok(()),
///         RelayState::Hindered { reason } => Err(format!("{reason} (restarted {restarts} times)")),
///         RelayState::Stopped => Err("it does not run".to_owned()),
///     }
/// }
/// # fn f(relay: Relay) {
/// let health = relay.health(); // before the relay runs: that consumes it
/// # is_ready(&health).ok();
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RelayHealth {
    lease: Duration,
    facts: Arc<Mutex<Facts>>,
}

/// How a relay is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayReport {
    /// Whether it does its work.
    pub state: RelayState,
    /// Time since its leases were renewed; `None`: not yet.
    pub renewed: Option<Duration>,
    /// Time since it moved published messages to the feed; `None`: not yet.
    pub published: Option<Duration>,
    /// The number of shards that it publishes. 0 is in order while other relays publish all.
    pub held_shards: usize,
    /// Messages with the publisher.
    pub in_flight: usize,
    /// How often its tasks were ended and started again because they hung.
    pub restarts: u64,
}

/// Whether a relay does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayState {
    /// It works.
    Working,
    /// It runs, but makes no progress.
    Hindered {
        /// Why, without secrets and personal data.
        reason: String,
    },
    /// It has not begun, or has ended.
    Stopped,
}

#[derive(Debug)]
struct Facts {
    running: bool,
    /// When the tasks began that run now.
    started: Instant,
    /// When the renewing task last had an answer, also a bad one.
    asked: Instant,
    /// When the publishing task last did anything.
    turned: Instant,
    renewed: Option<Instant>,
    published: Option<Instant>,
    /// Why the leases could not be renewed.
    refusal: Option<String>,
    held_shards: usize,
    in_flight: usize,
    restarts: u64,
}

impl RelayHealth {
    pub(super) fn new(lease: Duration) -> Self {
        let now = Instant::now();
        let facts = Facts {
            running: false,
            started: now,
            asked: now,
            turned: now,
            renewed: None,
            published: None,
            refusal: None,
            held_shards: 0,
            in_flight: 0,
            restarts: 0,
        };
        Self { lease, facts: Arc::new(Mutex::new(facts)) }
    }

    /// How the relay is now.
    #[must_use]
    pub fn report(&self) -> RelayReport {
        let facts = self.facts();
        RelayReport {
            state: facts.state(self.lease),
            renewed: facts.renewed.map(|at| at.elapsed()),
            published: facts.published.map(|at| at.elapsed()),
            held_shards: facts.held_shards,
            in_flight: facts.in_flight,
            restarts: facts.restarts,
        }
    }

    pub(super) fn note_start(&self) {
        let now = Instant::now();
        let mut facts = self.facts();
        facts.running = true;
        (facts.started, facts.asked, facts.turned) = (now, now, now);
        (facts.held_shards, facts.in_flight) = (0, 0);
    }

    pub(super) fn note_restart(&self) {
        self.facts().restarts += 1;
    }

    pub(super) fn note_end(&self) {
        let mut facts = self.facts();
        facts.running = false;
        (facts.held_shards, facts.in_flight) = (0, 0);
    }

    pub(super) fn note_renewal(&self, held_shards: usize) {
        let now = Instant::now();
        let mut facts = self.facts();
        (facts.asked, facts.renewed, facts.refusal) = (now, Some(now), None);
        facts.held_shards = held_shards;
    }

    pub(super) fn note_refusal(&self, reason: String) {
        let mut facts = self.facts();
        facts.asked = Instant::now();
        facts.refusal = Some(reason);
    }

    pub(super) fn note_turn(&self, in_flight: usize) {
        let mut facts = self.facts();
        facts.turned = Instant::now();
        facts.in_flight = in_flight;
    }

    pub(super) fn note_published(&self) {
        self.facts().published = Some(Instant::now());
    }

    /// Why the tasks must be started again, if they must: the task that renews or the one that
    /// publishes has made no step for a whole lease. A database that answers with an error is no
    /// reason, because starting again would not help.
    pub(super) fn hanging(&self) -> Option<&'static str> {
        let facts = self.facts();
        if facts.asked.elapsed() > self.lease {
            Some("its leases were not renewed within their time")
        } else if facts.turned.elapsed() > self.lease {
            Some("the task that publishes did not move for the time of a lease")
        } else {
            None
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn state(&self, lease: Duration) -> RelayState {
        if !self.running {
            return RelayState::Stopped;
        }
        let renewed = self.renewed.unwrap_or(self.started).elapsed();
        let reason = if renewed > lease {
            let why = self.refusal.as_deref().unwrap_or("the database does not answer");
            format!("its leases were not renewed for {} s: {why}", renewed.as_secs())
        } else if self.turned.elapsed() > lease {
            format!("it has not moved for {} s", self.turned.elapsed().as_secs())
        } else {
            return RelayState::Working;
        };
        RelayState::Hindered { reason }
    }
}
