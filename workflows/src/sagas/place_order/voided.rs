//! The money that a placement reserved and released again, as the engine's ledger knows it.

use sqlx::PgConnection;
use stepwise_engine::{EffectStatus, Saga as _, StepError, inspect};
use uuid::Uuid;

use super::{PlaceOrder, placement::AUTHORIZATION};
use crate::order::release::Voided;

/// The money that was reserved for the order and that the unwinding of its placement has released. By the time this is asked, the undo of Confirm has
/// a commit of its own, since the undo of Create comes after it. Round trips: 2.
pub(in crate::sagas) async fn voided(
    tx: &mut PgConnection,
    order: Uuid,
) -> Result<Option<Voided>, StepError> {
    let Some(placement) = inspect::latest_about(tx, PlaceOrder::NAME, &order.to_string()).await?
    else {
        return Err(StepError::Broken(format!("order {order} is released by no placement")));
    };
    let effects = inspect::effects(tx, placement.saga_id).await?;
    let undone = effects
        .into_iter()
        .find(|effect| effect.kind == AUTHORIZATION && effect.status == EffectStatus::Undone);
    Ok(undone.and_then(|effect| {
        let (key, void_key) = (effect.key().to_string(), effect.undo_key().to_string());
        Some(Voided {
            // A confirm without an answer has no reference. That of the void is the authorization's own id.
            authorization_id: effect.reference.or(effect.undo_reference)?,
            key,
            void_key,
        })
    }))
}
