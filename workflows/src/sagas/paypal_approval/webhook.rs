//! News of an approval: hints to ask PayPal, never the last word.

use sqlx::PgConnection;
use stepwise_engine::{Engine, Saga as _, SignalError, WaitingOn, inspect};
use uuid::Uuid;

use super::{PayPalApproval, Signal};

/// Has PayPal asked about the approval of a method, if a customer is still to give it. The news has this id. False: nobody waits for the answer, or
/// PayPal is being asked. 2 round trips, 3 more to signal.
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
    // One that waits for an operator keeps the signal.
    let waits = |on| matches!(on, Some(WaitingOn::Signal | WaitingOn::Operator));
    let Some(approval) = approval.filter(|approval| waits(approval.waiting_on)) else {
        return Ok(false);
    };
    engine.signal::<PayPalApproval>(tx, approval.saga_id, id, Signal::Reported).await?;
    Ok(true)
}
