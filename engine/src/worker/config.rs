//! The settings of a worker, and how long finished work is kept.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use uuid::Uuid;

use crate::worker::hooks::Hooks;

/// How a worker works. `Default` suits two cores.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::{Retention, WorkerConfig};
///
/// let config = WorkerConfig {
///     name: std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned()),
///     lease: Duration::from_secs(10), // another worker takes over sooner, and less patience with the database
///     retention: Retention { journal: Duration::from_secs(30 * 86_400), ..Retention::default() },
///     ..WorkerConfig::default()
/// };
/// assert!(config.drain > config.lease);
/// ```
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Shown to operators.
    pub name: String,
    /// How many instances are driven at once.
    pub room: usize,
    /// Batchers: connections that commit the transitions of many instances by one statement each (group commit).
    pub batchers: usize,
    /// How long the lease lasts; renewed every third of it.
    pub lease: Duration,
    /// How long a graceful stop waits for attempts in flight.
    pub drain: Duration,
    /// How often it looks for work when no hint arrives.
    pub poll: Duration,
    /// No other living process works under this name: instances of an earlier process of the name are free at once.
    pub sole: bool,
    /// How long finished work is kept.
    pub retention: Retention,
    /// How instances of a dead worker are driven apart from the others. `None`: they are driven in this process.
    pub quarantine: Option<Quarantine>,
    /// For tests of the engine only.
    #[doc(hidden)]
    pub hooks: Hooks,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            room: 4_000,
            batchers: 2,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            poll: Duration::from_secs(1),
            sole: false,
            retention: Retention::default(),
            quarantine: None,
            hooks: Hooks::default(),
        }
    }
}

/// How a worker starts the child processes in which suspects are driven.
///
/// ```
/// use stepwise_engine::{WorkerConfig, quarantine::Quarantine};
/// use tokio::process::Command;
///
/// let config = WorkerConfig {
///     // The program itself, whose `quarantined` command calls `quarantine::quarantined`.
///     quarantine: Some(Quarantine::by(|| {
///         let mut child = Command::new("/usr/local/bin/shop");
///         child.arg("quarantined");
///         child
///     })),
///     ..WorkerConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct Quarantine(pub(crate) Arc<dyn Fn() -> Command + Send + Sync>);

impl Quarantine {
    /// Starts them with this command, which must end in [`quarantined`](crate::quarantine::quarantined) with an engine that knows the same sagas.
    pub fn by(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self(Arc::new(command))
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quarantine")
    }
}

/// The instances that a quarantine process has to drive: the line that its parent writes to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The parent process, which owns these instances.
    pub(crate) parent: Uuid,
    pub(crate) suspects: Vec<Uuid>,
}

impl Assignment {
    /// The name under which children of that parent work.
    pub(crate) fn name(parent: Uuid) -> String {
        format!("quarantine of {parent}")
    }
}

/// How long finished work is kept, in real time.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::Retention;
///
/// const DAY: Duration = Duration::from_secs(86_400);
/// let ten_years_of_orders = Retention { finished: 10 * 365 * DAY, ..Retention::default() };
/// assert_eq!(ten_years_of_orders.journal, 90 * DAY, "it is not needed to continue an instance");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// The journal, by whole days.
    pub journal: Duration,
    /// Finished instances, with their effects and signals; bulks that are not running.
    pub finished: Duration,
}

impl Default for Retention {
    /// 90 days of journal, finished instances for a year.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self { journal: DAY * 90, finished: DAY * 365 }
    }
}
