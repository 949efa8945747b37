//! The connections of a worker's loops: the claims, each batcher and the upkeep have one of their own.

use sqlx::{Executor as _, PgConnection, PgPool};

use crate::database::{self, Waits, in_time};

/// The connection of a loop, opened if there is none.
pub(crate) async fn connect<'a>(
    pool: &PgPool,
    connection: &'a mut Option<PgConnection>,
) -> Result<&'a mut PgConnection, sqlx::Error> {
    if connection.is_none() {
        let options = pool.connect_options().as_ref().clone();
        let mut fresh = database::connect(options, Waits::USUAL).await?;
        in_time(fresh.execute(PLANNER)).await?;
        *connection = Some(fresh);
    }
    Ok(connection.as_mut().expect("it was just filled"))
}

/// Every statement of the engine finds its rows by primary key or by the index of due instances. These settings keep the planner from other plans
/// (it may have planned while the tables were empty), and from planning again for each array.
pub(crate) const PLANNER: &str = "-- name: set planner
set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_bitmapscan = off; set jit = off;
set plan_cache_mode = force_generic_plan";
