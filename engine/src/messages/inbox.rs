//! Messages from others, each handled once.
//!
//! Call [`first_time`] in the handler's own transaction, before anything else, and acknowledge the
//! message only after the commit. A copy that arrives while the first is being handled waits for
//! that transaction: if it commits the copy is known, if it rolls back the copy is handled instead.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use crate::base::{id::shard_of, limits};

/// Returns true if this message of `source` was not handled before. `false`: do nothing and acknowledge it.
/// 1 row operation, 1 round trip.
///
/// # Errors
/// The database's; then the message is not to be acknowledged. [`sqlx::Error::Encode`] for a source or an id that cannot be stored.
pub async fn first_time(
    tx: &mut PgConnection,
    source: &str,
    message_id: &str,
) -> Result<bool, sqlx::Error> {
    limits::check_name("source of a message", source)?;
    limits::check_name("id of a message", message_id)?;
    let written = sqlx::query(
        "-- inbox: first time
         insert into saga.inbox (shard, source, message_id) values ($1, $2, $3)
         on conflict on constraint a_message_is_handled_once do nothing",
    )
    .bind(shard_of(message_id))
    .bind(source)
    .bind(message_id)
    .execute(tx)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Forgets at most 5,000 messages handled longer ago than `keep`, which must exceed the time in
/// which a sender may repeat one. Returns how many; call it again while that is 5,000.
///
/// # Errors
/// The database's.
pub async fn forget(pool: &PgPool, keep: Duration) -> Result<u64, sqlx::Error> {
    let forgotten = sqlx::query(
        "-- inbox: forget
         delete from saga.inbox where ctid = any (array(
             select ctid from saga.inbox
             where handled_at < clock_timestamp() - make_interval(secs => $1) limit 5000))",
    )
    .bind(keep.min(limits::WAIT).as_secs_f64())
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}

#[cfg(test)]
mod tests;
