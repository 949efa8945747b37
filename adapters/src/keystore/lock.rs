//! The store's lock file. The processes that share the folder write one after the other.
//!
//! A process that holds the lock may be frozen, and a shared volume may hang. So every wait for the lock has an end, and readers do not take it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for another process to release the lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time between two attempts. It is short because a busy writer takes the lock again soon after it has released it.
const PAUSE: Duration = Duration::from_millis(2);

/// The lock file. A process holds it exclusively while it writes, or while it needs a read that no writer disturbs.
pub(super) struct LockFile {
    path: PathBuf,
    turn: Mutex<Turn>,
}

/// The threads of this process share the open file, which does not exclude them from each other. The mutex does.
struct Turn {
    file: File,
    /// When a thread waited in vain, unless another has held the lock since.
    in_vain: Option<Instant>,
}

/// The lock, held until this is dropped.
pub(super) struct Held<'l>(MutexGuard<'l, Turn>);

impl LockFile {
    /// The lock file at `path`, which is open as `file`.
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        Self { path, turn: Mutex::new(Turn { file, in_vain: None }) }
    }

    /// Takes the lock exclusively. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: another process does not release it.
    pub(super) fn hold(&self) -> io::Result<Held<'_>> {
        self.take(File::try_lock)
    }

    /// Takes the lock together with other readers. Otherwise the same as [`hold`](Self::hold).
    pub(super) fn hold_shared(&self) -> io::Result<Held<'_>> {
        self.take(File::try_lock_shared)
    }

    fn take(&self, attempt: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Held<'_>> {
        let began = Instant::now();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // If a thread waited in vain while this one stood in line, one attempt must do. Otherwise the waits would add up.
        let patience =
            if turn.in_vain.is_some_and(|at| at >= began) { Duration::ZERO } else { PATIENCE };
        let deadline = Instant::now() + patience;
        loop {
            match attempt(&turn.file) {
                Ok(()) => {
                    turn.in_vain = None;
                    return Ok(Held(turn));
                }
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    turn.in_vain = Some(Instant::now());
                    return Err(self.is_held());
                }
                Err(TryLockError::WouldBlock) => pause(),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn is_held(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "another process does not release the lock {}; end the process that `lslocks` names",
                self.path.display()
            ),
        )
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // If this fails, the next attempt of this process still succeeds, and the lock ends with the process.
        let _ = self.0.file.unlock();
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on a thread for blocking work")]
fn pause() {
    std::thread::sleep(PAUSE);
}
