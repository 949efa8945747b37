//! Watched effects: a provider may act after the engine has given a call up.
//!
//! A fence in Postgres does not stop a request outside. A worker that was frozen before it sent its request may send it after its successor has
//! asked, got the answer "never seen", and unwound. If the terms of a call say so ([`crate::Terms::watch`]), the commit that gives the effect up
//! leaves a row in `saga.watch`. Workers probe such effects, less and less often, until the watch ends. It does not end before the instance has
//! ended, and for an unwound instance not before the provider has answered once more. If the effect is found, one transaction records it as confirmed
//! and returns the instance from `unwound` to `unwinding`, with that one undo open.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::{
    base::status::Status,
    database::{all_in_time, in_time},
    instance::upcast::Unreadable,
    record::kinds::Kinds,
    store::{
        self,
        family::write_own,
        watch::{DUE, Watched, make_room},
    },
    worker::{drives::Found, state::Worker},
};

/// Claims the watches that are due, and probes them in tasks beside the claim loop. Round trips: 1.
///
/// # Errors
/// The database's.
pub(crate) async fn look(
    worker: &Arc<Worker>,
    connection: &mut PgConnection,
    known: &Kinds,
) -> Result<(), sqlx::Error> {
    let due: Vec<Watched> =
        sqlx::query_as(DUE).bind(&known.names).bind(&known.versions).fetch_all(connection).await?;
    for watched in due {
        let worker = worker.clone();
        worker.clone().beside(async move {
            if let Err(error) = probe(&worker, &watched).await {
                // One line for each watch. It is probed again, less and less often.
                if let Watched { saga_id, step_no, attempt: 1, .. } = watched {
                    tracing::warn!(%saga_id, step_no, %error, "a watched effect could not be probed; it is probed again later");
                }
            }
        });
    }
    Ok(())
}

/// Asks the provider about one watched effect. An effect that is found reopens its instance.
pub(crate) async fn probe(worker: &Worker, watched: &Watched) -> Result<(), Unreadable> {
    let Some(kind) = worker.engine.kind(&watched.saga.name) else { return Ok(()) };
    let found = if watched.look { kind.find(watched).await? } else { Found::Nothing };
    if let Found::Effect(reference) = found {
        let reopening = async {
            let mut tx = worker.pool.begin().await?;
            let row = store::lock_instance(&mut tx, watched.shard, watched.saga_id).await?;
            let Some(row) = row.filter(|row| row.status == Status::Unwound) else { return Ok(()) };
            make_room(&mut tx, watched).await?;
            let commit = kind.reopen(row, watched, reference)?;
            write_own(&mut tx, &commit).await?;
            tx.commit().await?;
            tracing::warn!(saga_id = %watched.saga_id, step_no = watched.step_no, "a late effect was found; it is being taken back");
            worker.hint.notify_one();
            Ok(())
        };
        return all_in_time(reopening).await;
    }
    if watched.over && found == Found::Nothing {
        let ending = sqlx::query(
            "-- name: end watch
            delete from saga.watch where shard = $1 and saga_id = $2 and step_no = $3",
        )
        .bind(watched.shard)
        .bind(watched.saga_id)
        .bind(watched.step_no)
        .execute(&worker.pool);
        in_time(ending).await?;
    }
    Ok(())
}
