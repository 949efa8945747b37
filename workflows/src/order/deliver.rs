//! deliverOrder.

use uuid::Uuid;

use super::{OrderStatus, store::lock_order};
use crate::{
    events::{DomainEvent, tell},
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an order is not delivered.
    #[derive(Debug, thiserror::Error)]
    pub enum DeliverOrderRefusal {
        /// Unknown.
        #[error("There is no such order.")]
        OrderNotFound => NotFound "order_not_found",
        /// It is not on its way.
        #[error("an order that is {0} cannot be delivered")]
        InvalidStatusTransition(OrderStatus) => Conflict "invalid_status_transition",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Notes that a shipped order has arrived. 3 round trips: lock customer, order and payment; write the order; record the event. 2 row
/// operations.
pub async fn deliver_order(
    ctx: &mut Context<'_>,
    order_id: Uuid,
) -> Result<(), DeliverOrderRefusal> {
    let order = lock_order(ctx, order_id).await?.ok_or(DeliverOrderRefusal::OrderNotFound)?;
    if order.status != OrderStatus::Shipped {
        return Err(DeliverOrderRefusal::InvalidStatusTransition(order.status));
    }
    ctx.learn_now(order.now);
    let told = tell([DomainEvent::OrderDelivered {
        order_id,
        order_number: order.order_number,
        delivered_at: order.now,
    }]);
    sqlx::query(
        r#"-- deliver: write
        update shop."order" set status = 'delivered', version = version + 1,
            event_count = event_count + $2, updated_at = $3
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(told.count())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    Ok(ctx.record(told.after(order.event_count)).await?)
}
