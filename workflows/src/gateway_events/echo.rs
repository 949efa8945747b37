//! The most common event: the echo of a call that was answered anyway, or is about to be.

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use stepwise_engine::database;

use super::{
    books::read,
    decide::{Decision, decide},
    hear::hearing,
};
use crate::payment::gateway::{GatewayEvent, News};

/// Whether nothing is to be done about an event: the books say already what it says, or the saga that authorizes the payment learns it from its own call.
/// A capture, a refund or a foreign void during that call is no echo: it is to come again once the books have the payment.
/// Round trips: 1, or 2 while the payment is being authorized, outside any transaction.
///
/// # Errors
/// The database's; the gateway sends the event again.
pub async fn is_echo(pool: &PgPool, event: &GatewayEvent) -> Result<bool, sqlx::Error> {
    let News::Authorization(_, found) = &event.news else { return Ok(false) };
    let look = |mut db: PoolConnection<Postgres>| async move {
        let known = read(&mut db, &found.reference, found.order_id, &event.news).await?;
        let Some(known) = known else { return Ok::<_, sqlx::Error>(false) };
        match decide(&known, &event.news) {
            Decision::Nothing => Ok(true),
            Decision::Signal(kind) => Ok(hearing(&mut db, &known, kind).await?.is_needless()),
            _ => Ok(false),
        }
    };
    database::ask(pool, look).await
}
