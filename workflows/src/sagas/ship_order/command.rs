//! The command shipOrder.

use stepwise_engine::{Saga as _, Start, StartError, inspect};
use uuid::Uuid;

use super::{ShipOrder, Shipment};
use crate::{
    order::ship::{self, ShipOrderRefusal},
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an order is not shipped.
    pub enum ShipOrderError = Refused(ShipOrderRefusal) | Start(StartError);
}

/// Marks a confirmed order as being shipped, and starts the saga that takes the money and ships it. Answers the operation: the instance that ends
/// it. 3 round trips: 2 of [`ship::begin`], and the start.
pub async fn ship_order(
    ctx: &mut Context<'_>,
    command: &ship::ShipOrder,
) -> Result<Uuid, ShipOrderError> {
    let order = command.order_id;
    let begun = match ship::begin(ctx, command).await {
        // An operator has ended the saga that was to ship it: this one takes its place.
        Err(ShipOrderRefusal::BeingShipped) if has_ended(ctx, order).await? => {
            ship::withdraw(ctx, order, "handed_over").await.map_err(ShipOrderRefusal::from)?;
            ship::begin(ctx, command).await
        }
        begun => begun,
    };
    let ship::Shipping { reference, amount } = begun?;
    let start = Start::new(order.to_string(), Shipment { order, reference, amount });
    Ok(ctx.start::<ShipOrder>(start).await?.id)
}

/// Has the latest shipment of the order ended?
async fn has_ended(ctx: &mut Context<'_>, order: Uuid) -> Result<bool, ShipOrderRefusal> {
    let shipment = inspect::latest_about(ctx, ShipOrder::NAME, &order.to_string()).await?;
    Ok(shipment.is_none_or(|shipment| shipment.is_final()))
}
