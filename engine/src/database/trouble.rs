//! One line in the log when trouble begins, one when it ends.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::database;

/// Work that may fail again and again for long. A loop that tries again and again calls [`begin`](Self::begin) after each failure and
/// [`end`](Self::end) after each success; the log gets one line when the trouble begins and one when it is over.
///
/// ```
/// use stepwise_engine::Trouble;
///
/// static TROUBLE: Trouble = Trouble::new("the stock cannot be counted; trying again");
///
/// for counted in [Err("no answer"), Err("no answer"), Ok(3)] {
///     match counted {
///         Ok(_) => TROUBLE.end(), // logs that it works again
///         Err(why) => TROUBLE.begin(&why), // logs the first failure only
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    since: Mutex<Option<Instant>>,
}

impl Trouble {
    /// No trouble yet; `what` says in the log what fails.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what, since: Mutex::new(None) }
    }

    /// It failed.
    pub fn begin(&self, why: &dyn Display) {
        let mut since = self.since();
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::warn!(%why, "{}", self.what);
        }
    }

    /// It failed with an error of the database. A database that is away has a line of its own ([`database::note`]).
    pub fn begin_with(&self, error: &sqlx::Error) {
        if !database::note(error) {
            self.begin(error);
        }
    }

    /// It works.
    pub fn end(&self) {
        if let Some(since) = self.since().take() {
            tracing::info!(lasted_s = since.elapsed().as_secs_f32(), "no longer: {}", self.what);
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
