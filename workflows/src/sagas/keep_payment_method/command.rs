//! The commands addPaymentMethod and removePaymentMethod.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{Input, KeepPaymentMethod};
use crate::{
    customer::{
        attachment::ASKED,
        method::{self, AddPaymentMethod, PaymentMethodRefusal, PaymentMethodView},
    },
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why a payment method is not saved or removed.
    pub enum KeepMethodError = Refused(PaymentMethodRefusal) | Start(StartError);
}

/// Saves a payment method, and starts the saga that attaches it at the gateway. The method can be used at once. A token that the customer has saved
/// already is the method that is there, and nothing is started. 3 round trips: 2 to save it, and the start.
pub async fn add_payment_method(
    ctx: &mut Context<'_>,
    command: &AddPaymentMethod,
) -> Result<PaymentMethodView, KeepMethodError> {
    let saved = method::save(ctx, command, Some(ASKED)).await?;
    if saved.is_new {
        let method = saved.method.payment_method_id;
        let start = Start::new(method.to_string(), Input::Attach(method));
        ctx.start::<KeepPaymentMethod>(start.key("attach")).await?;
    }
    Ok(saved.method)
}

/// Removes a payment method, and starts the saga that detaches it at the gateway, if it was attached. 3 round trips: 2 to remove it, and the start.
pub async fn remove_payment_method(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    method: Uuid,
) -> Result<(), KeepMethodError> {
    if method::remove(ctx, customer_id, method).await? {
        detach(ctx, method).await?;
    }
    Ok(())
}

/// Starts the saga that detaches a removed method at the gateway.
pub(in crate::sagas) async fn detach(
    ctx: &mut Context<'_>,
    method: Uuid,
) -> Result<(), StartError> {
    let start = Start::new(method.to_string(), Input::Detach(method));
    ctx.start::<KeepPaymentMethod>(start.key("detach")).await?;
    Ok(())
}
