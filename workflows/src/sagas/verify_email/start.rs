//! How the saga starts: with the registration of a customer, in one transaction.

use stepwise_engine::{Start, StartError};

use super::VerifyEmail;
use crate::{
    customer::{
        CustomerView,
        register::{Prepared, RegisterRefusal, register_customer},
    },
    shop::Context,
};

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The command is refused.
    #[error(transparent)]
    Refused(#[from] RegisterRefusal),
    /// A surprise of the engine.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Opens an account, unverified, and starts the saga that sends the verification mail. 4 round trips.
pub async fn register(
    ctx: &mut Context<'_>,
    prepared: Prepared,
) -> Result<CustomerView, RegisterError> {
    let customer = register_customer(ctx, prepared).await?.customer;
    let id = customer.customer_id;
    ctx.start::<VerifyEmail>(Start::new(id.to_string(), id)).await?;
    Ok(customer)
}
