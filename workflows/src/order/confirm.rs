//! confirmOrder.

use uuid::Uuid;

use super::{OrderStatus, store::lock_order};
use crate::{
    events::{DomainEvent, tell},
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an order is not confirmed.
    #[derive(Debug, thiserror::Error)]
    pub enum ConfirmOrderRefusal {
        /// Unknown.
        #[error("There is no such order.")]
        OrderNotFound => NotFound "order_not_found",
        /// It is not pending.
        #[error("an order that is {0} cannot be confirmed")]
        InvalidStatusTransition(OrderStatus) => Conflict "invalid_status_transition",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Takes a pending order on for fulfilment. 3 round trips: lock customer, order and payment; write the order; record the event. 2 row
/// operations.
pub async fn confirm_order(
    ctx: &mut Context<'_>,
    order_id: Uuid,
) -> Result<(), ConfirmOrderRefusal> {
    let order = lock_order(ctx, order_id).await?.ok_or(ConfirmOrderRefusal::OrderNotFound)?;
    if order.status != OrderStatus::Pending {
        return Err(ConfirmOrderRefusal::InvalidStatusTransition(order.status));
    }
    ctx.learn_now(order.now);
    let confirmed_by = ctx.cause.actor.id();
    let told = tell([DomainEvent::OrderConfirmed {
        order_id,
        order_number: order.order_number,
        confirmed_at: order.now,
        confirmed_by,
    }]);
    sqlx::query(
        r#"-- confirm: write
        update shop."order" set status = 'confirmed', confirmed_by = $2, version = version + 1,
            event_count = event_count + $3, updated_at = $4
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(confirmed_by)
    .bind(told.count())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    Ok(ctx.record(told.after(order.event_count)).await?)
}
