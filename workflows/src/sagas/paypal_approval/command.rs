//! The command initiatePayPal.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{Input, PayPalApproval};
use crate::{
    customer::paypal::{self, InitiatePayPal, InitiatePayPalRefusal},
    refusal::refusals,
    shop::Context,
};

/// A payment method that its customer is to approve at PayPal.
pub struct Initiated {
    /// The payment method.
    pub payment_method_id: Uuid,
    /// The operation: the instance of [`PayPalApproval`] that makes the method usable.
    pub operation_id: Uuid,
}

refusals! {
    /// Why no approval is asked for at PayPal.
    pub enum InitiatePayPalError = Refused(InitiatePayPalRefusal) | Start(StartError);
}

/// Adds a payment method that cannot be used yet, and starts the saga that has its customer approve it. 3 round trips: 2 of
/// [`paypal::begin`], and the start.
pub async fn initiate_paypal(
    ctx: &mut Context<'_>,
    command: &InitiatePayPal,
) -> Result<Initiated, InitiatePayPalError> {
    let payment_method_id = paypal::begin(ctx, command).await?;
    let start = Start::new(payment_method_id.to_string(), Input::Open(payment_method_id));
    let operation_id = ctx.start::<PayPalApproval>(start).await?.id;
    Ok(Initiated { payment_method_id, operation_id })
}
