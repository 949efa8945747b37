//! Business time that a test moves.

use std::time::Duration;

use sqlx::PgPool;

use crate::store::wake::WAKE_CHANNEL;

/// The business clock of a database (`saga.now()`): timers, retries and every business time follow it, leases and time-outs do not.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// use std::time::Duration;
/// use stepwise_engine::{Engine, testing::Clock};
///
/// # async fn f(engine: &Engine, seat: uuid::Uuid) -> Result<(), sqlx::Error> {
/// // The host says nothing for three days, which takes a test no time.
/// Clock::of(engine.pool()).advance(Duration::from_secs(3 * 86_400)).await;
/// engine.wait_for_end(seat, Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Clock {
    pool: PgPool,
}

impl Clock {
    /// The clock of that database.
    #[must_use]
    pub fn of(pool: &PgPool) -> Self {
        Self { pool: pool.clone() }
    }

    /// Lets business time jump forward, and wakes the workers to look at once.
    ///
    /// # Panics
    /// When the database does not answer: a test cannot go on.
    pub async fn advance(&self, by: Duration) {
        let statement = "-- name: advance clock
            with moved as (update saga.clock set offset_by = offset_by + $1 * interval '1 ms' returning 1)
            select pg_notify($2, '') from moved";
        self.tell(statement, i64::try_from(by.as_millis()).unwrap_or(i64::MAX)).await;
    }

    /// Business time is real time again.
    ///
    /// # Panics
    /// When the database does not answer: a test cannot go on.
    pub async fn reset(&self) {
        let statement = "-- name: reset clock
            with moved as (update saga.clock set offset_by = $1 * interval '1 ms' returning 1)
            select pg_notify($2, '') from moved";
        self.tell(statement, 0).await;
    }

    async fn tell(&self, statement: &'static str, ms: i64) {
        sqlx::query(statement)
            .bind(ms)
            .bind(WAKE_CHANNEL)
            .execute(&self.pool)
            .await
            .expect("a test's database answers");
    }
}
