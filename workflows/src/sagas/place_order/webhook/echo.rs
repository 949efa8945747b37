//! The most common event: the echo of a call that was answered anyway.

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use stepwise_engine::database;

use super::{Decision, decide, read};
use crate::payment::gateway::{GatewayEvent, News};

/// Whether the books say already what an event says, so that nothing is to be done. Round trips: 1, outside any transaction.
///
/// # Errors
/// The database's; the gateway sends the event again.
pub async fn is_echo(pool: &PgPool, event: &GatewayEvent) -> Result<bool, sqlx::Error> {
    let News::Authorization(_, found) = &event.news else { return Ok(false) };
    let read = |mut db: PoolConnection<Postgres>| async move {
        read(&mut db, &found.reference, found.order_id, &event.news).await
    };
    let known = database::ask(pool, read).await?;
    Ok(known.is_some_and(|known| matches!(decide(&known, &event.news), Decision::Nothing)))
}
