//! The settings of a worker process: one JSON argument, from the test that starts it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// The settings of a worker process.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Told {
    /// Of its lease row and its log.
    pub(crate) name: String,
    pub(crate) database: String,
    /// The address of the outside world.
    pub(crate) outside: PathBuf,
    pub(crate) role: Role,
    pub(crate) lease: Duration,
    pub(crate) drain: Duration,
    pub(crate) poll: Duration,
    /// The instances of an earlier process of that name are free at once.
    pub(crate) sole: bool,
    /// Aborts at the nth site that it comes to, counted from 1.
    pub(crate) abort_at: Option<usize>,
    pub(crate) sabotage: Option<Sabotage>,
    /// Of [`crate::letter::Letter`].
    pub(crate) release: u16,
    /// The instances of dead workers are driven in child processes.
    pub(crate) quarantine: bool,
}

/// The task of the process.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Drives instances.
    Work,
    /// Drives the suspects that its parent, a worker, names.
    Quarantined,
    /// Publishes the outbox to the outside world.
    Relay,
}

/// The protection that is left out, to see whether the checker notices.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Commits do not test (epoch, seq).
    Fence,
    /// An unknown outcome is taken for one that did not happen.
    Probe,
}
