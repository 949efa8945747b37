//! News of an approval: hints to ask PayPal, never the last word.

use sqlx::PgConnection;
use stepwise_engine::{Engine, Saga as _, SignalError, inspect};
use uuid::Uuid;

use super::{PayPalApproval, Signal};
use crate::customer::paypal;

/// Makes the saga of the approval with this reference ask PayPal. False: it has ended. `None`: it is not an approval of this shop. 1 round trip more than [`ask_again`].
///
/// # Errors
/// The database's or the engine's.
pub async fn report(
    engine: &Engine,
    tx: &mut PgConnection,
    reference: &str,
    id: &str,
) -> Result<Option<bool>, SignalError> {
    let Some(method) = paypal::referred_to(tx, reference).await? else { return Ok(None) };
    ask_again(engine, tx, method, id).await.map(Some)
}

/// Makes the saga of a pending approval ask PayPal, because of news with this id. False: the saga has ended. 1 round trip,
/// and those of a signal.
///
/// # Errors
/// The database's or the engine's.
pub async fn ask_again(
    engine: &Engine,
    tx: &mut PgConnection,
    payment_method_id: Uuid,
    id: &str,
) -> Result<bool, SignalError> {
    let subject = payment_method_id.to_string();
    let approval = inspect::latest_about(tx, PayPalApproval::NAME, &subject).await?;
    // One that is asking already keeps the signal and asks once more: its question may have been answered before the news.
    let Some(approval) = approval.filter(|approval| !approval.is_final()) else {
        return Ok(false);
    };
    engine.signal::<PayPalApproval>(tx, approval.saga_id, id, Signal::Reported).await?;
    Ok(true)
}
