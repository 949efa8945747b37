//! Makes instances that wait for their next attempt due at once, because the provider that did not answer is back.

use std::time::Duration;

use crate::{store::wake::WAKE_CHANNEL, worker::engine::Engine};

/// The number of instances that each statement makes due. The statement has it as a literal, for the planner.
const BATCH: i64 = 256;

/// They become due, at random, within so much time: a provider that has just come back is not to be run over.
const SPREAD: Duration = Duration::from_millis(250);

/// The index says what is due when; no more of it is read than the longest usual wait between attempts. An instance that waits for a late effect
/// has a timer, and goes on waiting.
const RETRY_NOW: &str = "-- name: retry now
with waiting as materialized (
    select i.shard, i.saga_id from saga.instance i
    where i.priority in (0, 1, 2) and i.wake_at > (select saga.now()) + ($2 + 1) * $3 * interval '1 ms'
        and i.wake_at <= (select saga.now()) + interval '61 seconds'
        and i.waiting_on = 'retry' and i.timer_at is null and i.name = any($1)
    order by i.wake_at limit 256
    for no key update skip locked
),
due as (
    update saga.instance i set wake_at = saga.now() + ($2 + random()) * $3 * interval '1 ms'
    from waiting w where i.shard = w.shard and i.saga_id = w.saga_id
    returning 1
)
select count(*), pg_notify($4, '')::text from due";

impl Engine {
    /// Makes the instances of these sagas that wait for their next attempt due now, instead of at the end of their wait: call it when
    /// a provider is known to answer again. Reaches waits of up to a minute, which is as long as [`crate::Retry::default`] waits.
    ///
    /// They become due at random, about a thousand a second. Several processes may call it at once: an instance that is due already is left alone.
    /// Returns how many there were. Round trips: 1 for each 256 instances. Row operations: 1 an instance.
    ///
    /// # Errors
    /// The database's.
    pub async fn retry_now(&self, sagas: &[&str]) -> Result<u64, sqlx::Error> {
        let mut all = 0;
        for nth in 0_i32.. {
            let (due, _): (i64, String) = sqlx::query_as(RETRY_NOW)
                .bind(sagas)
                .bind(nth)
                .bind(SPREAD.as_secs_f64() * 1_000.0)
                .bind(WAKE_CHANNEL)
                .fetch_one(self.pool())
                .await?;
            all += due.cast_unsigned();
            if due < BATCH {
                break;
            }
        }
        Ok(all)
    }
}
