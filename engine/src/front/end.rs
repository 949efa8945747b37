//! Waiting, in this process, for the end of an instance.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    inspect::{self, Summary},
    worker::engine::Engine,
};

impl Engine {
    /// Waits until an instance has ended or needs a person, `patience` at most, and returns it as it is then; `None` if there is no such
    /// instance. It looks at once when the instance ends in this process, and once a second in any case. Round trips: 1 each look.
    ///
    /// # Errors
    /// The database's.
    pub async fn wait_for_end(
        &self,
        id: Uuid,
        patience: Duration,
    ) -> Result<Option<Summary>, sqlx::Error> {
        let until = Instant::now() + patience;
        let mut ended = self.watch(id);
        loop {
            let summary = inspect::summary(self.pool(), id).await?;
            let over = summary
                .as_ref()
                .is_none_or(|seen| seen.status.is_final() || seen.status.needs_operator());
            if over || Instant::now() >= until {
                return Ok(summary);
            }
            let look = until.min(Instant::now() + Duration::from_secs(1));
            // Whether it was told or the time is over, the row decides.
            let _ = timeout_at(look, ended.changed()).await;
        }
    }
}
