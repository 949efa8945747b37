//! What a worker process holds: instances that it drives, or is about to.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use crate::{record::row::Row, worker::shift::Shift};

/// What is held and not begun yet.
pub(crate) type Handed = Arc<Mutex<mpsc::UnboundedReceiver<Held>>>;

/// An instance that this process holds, with its place in the room.
pub(crate) struct Held {
    pub(crate) id: Uuid,
    pub(crate) name: &'static str,
    pub(crate) position: Position,
    pub(crate) place: OwnedSemaphorePermit,
    /// Kept until its driver has ended.
    pub(crate) reserved: Reserved,
}

/// Where a held instance stands.
pub(crate) enum Position {
    /// As claimed.
    Row(Box<Row>),
    /// Born here: a `Box<Instance<S>>` of the saga with that name.
    Born(Box<dyn std::any::Any + Send>),
}

impl Position {
    /// The epoch in which it is held. A new instance is in its first.
    pub(crate) fn epoch(&self) -> i32 {
        match self {
            Self::Row(row) => row.epoch,
            Self::Born(_) => 1,
        }
    }
}

/// Counts an instance as driven by this process, from its claim or its start until its driver has ended. The sweep takes an instance that this
/// process owns and does not drive for a forgotten one and gives it a driver; without this, one that waits for its first driver (because
/// the transaction that starts it is still open, or many were claimed at once) would get two.
pub(crate) struct Reserved {
    pub(crate) id: Uuid,
    pub(crate) token: u64,
    pub(crate) shift: Weak<Shift>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(shift) = self.shift.upgrade() else { return };
        let mut driving = shift.driving.lock().unwrap_or_else(PoisonError::into_inner);
        if driving.get(&self.id) == Some(&self.token) {
            driving.remove(&self.id);
        }
    }
}

/// A suspect that waits to be driven apart, with its place in the room.
pub(crate) struct Penned {
    pub(crate) reserved: Reserved,
    pub(crate) _place: OwnedSemaphorePermit,
}
