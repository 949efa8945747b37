//! The approval of an order that it does not pay after all.

use stepwise_engine::{Start, StartError, StepError};
use uuid::Uuid;

use super::{Input, PayPalApproval};
use crate::{customer::paypal, shop::Context};

/// Starts the saga that asks PayPal whether the approval can pay another order, if the order was to be paid with one; `method` names which. The caller
/// has ended the payment. 1 round trip, and the start.
pub(in crate::sagas) async fn give_back(
    ctx: &mut Context<'_>,
    order: Uuid,
    method: Option<Uuid>,
) -> Result<(), StepError> {
    let used = paypal::used_by(ctx, order, method).await?;
    let Some((method, reference)) = used else { return Ok(()) };
    let start = Start::new(method.to_string(), Input::GiveBack(method, reference));
    match ctx.start::<PayPalApproval>(start).await {
        Ok(_) => Ok(()),
        Err(StartError::Database(error)) => Err(error.into()),
        Err(refused) => Err(StepError::Broken(refused.to_string())),
    }
}
