//! Reading a claimed row: giving types to it, or giving it up.

use crate::{
    base::build,
    database::in_time,
    instance::upcast::{Misfit, Unreadable},
    store::{self, instance::Fence},
    worker::shift::Shift,
};

/// A held row that this binary cannot read is left to a newer one, if a newer version of the saga or a newer build has written it; otherwise it waits for a person, with the
/// reason, instead of being claimed again and again. While the database is away the sweep brings it back.
pub(crate) async fn give_up_unreadable(shift: &Shift, fence: &Fence, error: &Unreadable) {
    let (pool, id) = (&shift.pool, fence.id);
    let given_up = match error {
        Unreadable::Stored(misfit @ (Misfit::Unknown { .. } | Misfit::OfNewerBuild(_))) => {
            tracing::info!(saga_id = %id, %error, "left to a worker that knows it");
            let unread_by = matches!(misfit, Misfit::OfNewerBuild(_)).then(build::made_at);
            in_time(store::leave(pool, fence, unread_by)).await
        }
        Unreadable::Stored(misfit) => {
            tracing::error!(saga_id = %id, %error, "an instance cannot be read");
            in_time(store::stick(pool, fence, &misfit.to_string())).await
        }
        Unreadable::Database(_) | Unreadable::Unstorable(_) => {
            return tracing::warn!(saga_id = %id, %error, "left to the sweep");
        }
    };
    match given_up {
        Ok(()) => shift.engine.ended(id),
        Err(error) => tracing::error!(saga_id = %id, %error, "and could not be given up"),
    }
}
