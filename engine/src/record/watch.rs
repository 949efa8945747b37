//! An effect that was given up and may still come, as a commit carries it.

use crate::base::json::{Json, Unstorable};

/// An effect that somebody is to look at again.
#[derive(Debug, Clone)]
pub(crate) struct NewWatch {
    pub(crate) step_no: i32,
    /// The step that made it, and that is taken back.
    pub(crate) step: Json,
    pub(crate) lasts_ms: i64,
}

impl NewWatch {
    /// # Errors
    /// Why it cannot be stored.
    pub(crate) fn check_storable(&self) -> Result<(), Unstorable> {
        self.step.text().map(|_| ())
    }
}
