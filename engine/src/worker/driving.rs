//! The instances that a worker process drives or is about to drive.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use crate::record::row::Row;

/// The instances whose driver has not begun yet.
pub(crate) type Handed = Arc<Mutex<mpsc::UnboundedReceiver<Driven>>>;

/// An instance that this process owns and drives or is about to drive.
pub(crate) struct Driven {
    pub(crate) id: Uuid,
    pub(crate) name: &'static str,
    pub(crate) origin: Origin,
    /// One of the permits of which [`crate::WorkerConfig::room`] sets the number. It is free again when the driver has ended.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Kept until its driver has ended.
    pub(crate) reserved: Reserved,
}

/// How an instance came to this process.
pub(crate) enum Origin {
    /// It was claimed: its row.
    Row(Box<Row>),
    /// Started here, and committed: a `Box<Instance<S>>` of the saga with that name.
    Started(Box<dyn std::any::Any + Send>),
    /// Started here in a transaction that may have been rolled back: its row is to be read.
    Unread(Uuid),
}

impl Origin {
    /// The epoch in which this process owns it. A new instance is in its first epoch.
    pub(crate) fn epoch(&self) -> i32 {
        match self {
            Self::Row(row) => row.epoch,
            Self::Started(_) | Self::Unread(_) => 1,
        }
    }
}

/// The instances that are driven in this process or about to be, each with the token of its newest [`Reserved`].
#[derive(Default)]
pub(crate) struct Driving {
    tokens: Mutex<HashMap<Uuid, u64>>,
    next_token: AtomicU64,
}

impl Driving {
    fn tokens(&self) -> MutexGuard<'_, HashMap<Uuid, u64>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, id: Uuid) -> bool {
        self.tokens().contains_key(&id)
    }

    /// Counts an instance as driven here until the returned value is dropped.
    pub(crate) fn reserve(self: &Arc<Self>, id: Uuid) -> Reserved {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        self.tokens().insert(id, token);
        Reserved { id, token, driving: self.clone() }
    }
}

/// Counts an instance as driven by this process, from its claim or its start until its driver has ended. The sweep gives a driver to every instance
/// that this process owns and does not drive. Without this mark an instance that waits for its first driver (its transaction is still open, or
/// many were claimed at once) would get two drivers.
pub(crate) struct Reserved {
    pub(crate) id: Uuid,
    token: u64,
    driving: Arc<Driving>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut tokens = self.driving.tokens();
        if tokens.get(&self.id) == Some(&self.token) {
            tokens.remove(&self.id);
        }
    }
}

/// A suspect that waits to be driven in a process of its own, with its permit.
pub(crate) struct Suspect {
    pub(crate) reserved: Reserved,
    pub(crate) _permit: OwnedSemaphorePermit,
}
