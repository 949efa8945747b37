//! The command authorizePayment.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{AuthorizePayment, Patience, Request};
use crate::{
    order::authorize::{self, AuthorizePaymentRefusal},
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why no payment is authorized.
    pub enum AuthorizePaymentError = Refused(AuthorizePaymentRefusal) | Start(StartError);
}

/// Writes another payment of an order whose authorization lapsed, and starts the saga that authorizes it. Answers the operation: the instance of
/// that saga. 4 round trips: 3 of [`authorize::begin`], and the start.
pub async fn authorize_payment(
    ctx: &mut Context<'_>,
    command: &authorize::AuthorizePayment,
) -> Result<Uuid, AuthorizePaymentError> {
    let begun = authorize::begin(ctx, command).await?;
    let request = Request {
        order: command.order_id,
        payment: begun.payment_id,
        payment_method: command.payment_method_id,
        amount: begun.amount,
        patience: Patience::from(ctx.shop.config.placement_patience),
    };
    let start = Start::new(command.order_id.to_string(), request);
    Ok(ctx.start::<AuthorizePayment>(start).await?.id)
}
