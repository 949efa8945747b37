//! One line in the log when trouble begins, one when it ends.

use std::fmt::Display;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::database;

/// Something that may go on failing for long, and is logged when it begins and when it ends.
pub(super) struct Trouble {
    what: &'static str,
    since: Option<Instant>,
}

impl Trouble {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, since: None }
    }

    pub(super) fn begin(&mut self, why: &dyn Display) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            warn!(%why, "{}", self.what);
        }
    }

    /// The same for an error of the database. A database that is away has a line of its own.
    pub(super) fn begin_with(&mut self, error: &sqlx::Error) {
        if !database::note(error) {
            self.begin(error);
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(since) = self.since.take() {
            info!(lasted_s = since.elapsed().as_secs_f32(), "no longer: {}", self.what);
        }
    }
}
