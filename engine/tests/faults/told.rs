//! What a worker process is told: one JSON argument, from the test that starts it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What a worker process is told.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Told {
    /// Of its lease row and its log.
    pub(crate) name: String,
    pub(crate) database: String,
    /// Where the outside world listens.
    pub(crate) outside: PathBuf,
    pub(crate) role: Role,
    pub(crate) lease: Duration,
    pub(crate) drain: Duration,
    pub(crate) poll: Duration,
    /// What an earlier process of that name held is free at once.
    pub(crate) sole: bool,
    /// Aborts at the nth site that it comes to, counted from 1.
    pub(crate) abort_at: Option<usize>,
    pub(crate) sabotage: Option<Sabotage>,
    /// Of [`crate::letter::Letter`].
    pub(crate) release: u16,
    /// What dead workers held is driven in child processes.
    pub(crate) quarantine: bool,
}

/// What the process does.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Drives instances.
    Work,
    /// Drives the suspects that its parent, a worker, names.
    Quarantined,
    /// Publishes the outbox to the outside world.
    Relay,
}

/// What is left out, to see whether the checker notices.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Commits do not test (epoch, seq).
    Fence,
    /// An unknown outcome is taken for one that did not happen.
    Probe,
}
