//! The lease: one row per process, renewed on a connection of its own so that a full pool never looks like a death.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    base::build,
    database::{self, Waits, in_time, trouble::Trouble},
    worker::{config::WorkerConfig, contact::Contact, engine::Engine, shift::Shift},
};

/// Writes the lease row; answers since when it holds.
pub(crate) async fn register(
    engine: &Engine,
    config: &WorkerConfig,
    worker_id: Uuid,
) -> Result<Contact, sqlx::Error> {
    let asked = Instant::now();
    let registered = sqlx::query(
        "-- name: register worker
        with freed as (
            update saga.worker set lease_until = clock_timestamp() where $4 and name = $2
        )
        insert into saga.worker (worker_id, name, kinds, lease_until, build)
        values ($1, $2, $3, clock_timestamp() + $5 * interval '1 ms', $6)",
    )
    .bind(worker_id)
    .bind(&config.name)
    .bind(Json(engine.kinds()))
    .bind(config.sole)
    .bind(i64::try_from(config.lease.as_millis()).unwrap_or(i64::MAX))
    .bind(build::made_at())
    .execute(engine.pool());
    in_time(registered).await?;
    Ok(Contact::begin(asked, config.lease))
}

/// Renews every third of the lease until aborted, and does nothing else: nothing may hold it up. An outage is waited out: while it lasts
/// nobody else can take over either.
pub(crate) async fn renew(shift: Arc<Shift>, lease: Duration) {
    let mut connection: Option<PgConnection> = None;
    let mut ticks = tokio::time::interval(lease / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let trouble = Trouble::new("the worker's lease cannot be renewed; trying again");
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match renew_once(&shift, &mut connection, lease).await {
            Ok(true) => {
                trouble.end();
                shift.contact.renewed(asked);
            }
            Ok(false) => {
                tracing::warn!(worker_id = %shift.worker_id, "fenced: the lease row is gone, its instances belong to others");
                shift.lost();
                return;
            }
            Err(error) => {
                connection = None;
                trouble.begin_with(&error);
                ticks.reset_after(Duration::from_millis(500));
            }
        }
    }
}

async fn renew_once(
    shift: &Shift,
    connection: &mut Option<PgConnection>,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    if connection.is_none() {
        let options = shift.pool.connect_options().as_ref().clone();
        *connection = Some(database::connect(options, Waits::USUAL).await?);
    }
    let open = connection.as_mut().expect("it was just filled");
    let renewing = sqlx::query(
        "-- name: renew lease
        update saga.worker set lease_until = clock_timestamp() + $2 * interval '1 ms' where worker_id = $1",
    )
    .bind(shift.worker_id)
    .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
    .execute(open);
    Ok(in_time(renewing).await?.rows_affected() == 1)
}

/// After a drain: whatever could not be released is free at once. The row stays for a while: a start in a transaction still open
/// may name this worker as its owner, and is found by the row.
pub(crate) async fn sign_off(shift: &Shift) {
    let signing = sqlx::query(
        "-- name: sign worker off
        update saga.worker set lease_until = clock_timestamp(), signed_off = true where worker_id = $1",
    )
    .bind(shift.worker_id)
    .execute(&shift.pool);
    if let Err(error) = in_time(signing).await {
        tracing::warn!(%error, "could not sign off; the lease runs out by itself");
    }
}
