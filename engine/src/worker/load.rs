//! Giving up a claimed row that cannot be read.

use crate::{
    base::build,
    database::in_time,
    instance::upcast::{Misfit, Unreadable},
    store::{self, instance::Fence},
    worker::state::Worker,
};

/// Gives up a row that this binary cannot read. If a newer version of the saga or a newer build has written it, it waits for a worker that can read
/// it. Otherwise the instance gets stuck with the reason, instead of being claimed again and again. While the database is away, the row stays owned
/// and the sweep finds it.
pub(crate) async fn give_up_unreadable(worker: &Worker, fence: &Fence, error: &Unreadable) {
    let (pool, id) = (&worker.pool, fence.id);
    let given_up = match error {
        Unreadable::Stored(misfit @ (Misfit::Unknown(_) | Misfit::OfNewerBuild(_))) => {
            tracing::info!(saga_id = %id, %error, "an instance waits for a worker that can read it");
            let unread_by = matches!(misfit, Misfit::OfNewerBuild(_)).then(build::made_at);
            in_time(store::leave(pool, fence, unread_by)).await
        }
        Unreadable::Stored(misfit) => {
            tracing::error!(saga_id = %id, %error, "an instance cannot be read");
            in_time(store::stick(pool, fence, &misfit.to_string())).await
        }
        Unreadable::Database(_) | Unreadable::Unstorable(_) => {
            return tracing::warn!(saga_id = %id, %error, "an instance could not be read now; the sweep tries again");
        }
    };
    match given_up {
        Ok(()) => worker.engine.wake_waiters(id),
        Err(error) => {
            tracing::error!(saga_id = %id, %error, "an instance that cannot be read could not be given up")
        }
    }
}
