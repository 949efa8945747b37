//! Notifications, over a connection that is known to live.

use std::time::Duration;

use sqlx::{
    Executor as _, PgPool,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};

use super::{
    Waits, bounded,
    turn::{LONGEST, in_turn},
    within,
};

/// After so long without a notification the connection is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Listens on one channel, over a connection outside every pool: a pool would wait for it without a limit.
pub(crate) struct Listener(PgListener);

impl Listener {
    /// Listens on `channel` of the database of this pool.
    pub(crate) async fn open(pool: &PgPool, channel: &str) -> Result<Self, sqlx::Error> {
        let options = bounded(pool.connect_options().as_ref().clone(), Waits::USUAL);
        let single = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LONGEST)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options);
        let mut listener = in_turn(PgListener::connect_with(&single)).await?;
        within(ANSWER, listener.listen(channel)).await?;
        Ok(Self(listener))
    }

    /// The next notification. Notifications that are sent while the connection is being replaced are lost.
    pub(crate) async fn next(&mut self) -> Result<PgNotification, sqlx::Error> {
        loop {
            match tokio::time::timeout(QUIET, self.0.recv()).await {
                Ok(received) => return received,
                Err(_) => {
                    let alive = self.0.execute("-- name: listener lives\nselect 1");
                    within(ANSWER, alive).await?;
                }
            }
        }
    }
}
