//! The commands verifyCustomerEmail and resendVerification.

use stepwise_engine::{SignalError, Start};
use uuid::Uuid;

use super::{super::account_mail::AskError, Input, Proof, RegisterCustomer, Signal};
use crate::{
    customer::{
        CustomerView,
        mailed::account_or_nobody,
        register::{self, VerifyRefusal},
    },
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an address is not verified.
    pub enum VerifyError = Refused(VerifyRefusal) | Signal(SignalError);
}

/// Marks the address as verified, and ends the sagas that wait for it. 4 round trips, and 1 for each of these sagas.
pub async fn verify_customer_email(
    ctx: &mut Context<'_>,
    token: &str,
) -> Result<CustomerView, VerifyError> {
    let customer = register::verify_customer_email(ctx, token).await?;
    let (engine, subject) = (ctx.engine, customer.customer_id.to_string());
    engine.signal_all::<RegisterCustomer>(ctx, &subject, "verified", Signal::Verified).await?;
    Ok(customer)
}

/// Asks for another verification mail with a new token. It does the same for every address, so that its time does not tell which ones have an
/// account: the saga finds out. 2 round trips.
pub async fn resend_verification(ctx: &mut Context<'_>, email: &str) -> Result<(), AskError> {
    let (customer, token) = (account_or_nobody(ctx, email).await?, Uuid::now_v7());
    let input = Input::AskedAgain(Proof { customer, token });
    let start = Start::new(customer.to_string(), input).key(token.to_string());
    ctx.start::<RegisterCustomer>(start).await?;
    Ok(())
}
