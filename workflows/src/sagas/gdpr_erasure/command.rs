//! The command requestGdprErasure, and erasing somebody again whom a restored backup has brought back.

use stepwise_engine::{Saga as _, Start, StartError, inspect};
use uuid::Uuid;

use super::GdprErasure;
use crate::{
    erasure::{self, Begun, ErasureRefusal, Orders},
    refusal::refusals,
    shop::Context,
};

/// The command.
#[derive(Debug, Clone, Copy)]
pub struct RequestGdprErasure {
    /// The customer.
    pub customer_id: Uuid,
    /// Must be true.
    pub confirmation: bool,
}

refusals! {
    /// Why nobody is erased.
    pub enum RequestErasureError =
        Refused(ErasureRefusal) | Start(StartError) | Database(sqlx::Error);
}

/// Freezes the account, ends its sessions, and starts the saga that erases the customer. Answers the operation: the instance of that saga, or of an
/// earlier request. Round trips: 2 of [`erasure::begin`], and the start.
pub async fn request_gdpr_erasure(
    ctx: &mut Context<'_>,
    command: &RequestGdprErasure,
) -> Result<Uuid, RequestErasureError> {
    if !command.confirmation {
        return Err(ErasureRefusal::ConfirmationRequired.into());
    }
    start(ctx, command.customer_id, Orders::MustBeOver).await
}

/// Erases somebody again who was erased after the backup from which the database was restored. Nothing refuses it.
pub async fn erase_again(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
) -> Result<Uuid, RequestErasureError> {
    start(ctx, customer_id, Orders::DoNotMatter).await
}

async fn start(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    orders: Orders,
) -> Result<Uuid, RequestErasureError> {
    let subject = customer_id.to_string();
    match erasure::begin(ctx, customer_id, orders).await? {
        Begun::Frozen(person) => {
            Ok(ctx.start::<GdprErasure>(Start::new(subject, person)).await?.id)
        }
        Begun::Already => {
            let earlier = inspect::latest_about(ctx, GdprErasure::NAME, &subject).await?;
            Ok(earlier.ok_or(ErasureRefusal::NotFound)?.saga_id)
        }
    }
}
