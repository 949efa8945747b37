//! The command placeOrder: how an order starts.
//!
//! The command runs in the caller's transaction. A refusal comes at once and leaves nothing behind, because the caller rolls back. If the command is
//! accepted, the saga does the rest. The command returns the saga's id: the client sees it as the operation, and can wait for its end.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{Patience, PlaceOrder, Placement};
use crate::{
    order::place::{self, PlaceOrderRefusal, Placing},
    refusal::refusals,
    shop::Context,
};

/// A placement that has begun.
pub struct Placed {
    /// The order, `placing`.
    pub order: Placing,
    /// The operation: the instance of [`PlaceOrder`] that goes on with the order.
    pub operation_id: Uuid,
}

refusals! {
    /// Why an order is not being placed.
    pub enum PlaceOrderError = Refused(PlaceOrderRefusal) | Start(StartError);
}

/// Reserves the stock, writes the order, and starts the saga that authorizes the payment. 5 round trips, whatever the number of lines: 4 of
/// [`place::begin`], and the start. One more with an approval at PayPal.
pub async fn place_order(
    ctx: &mut Context<'_>,
    command: &place::PlaceOrder,
) -> Result<Placed, PlaceOrderError> {
    let order = place::begin(ctx, command).await?;
    let placement = Placement {
        order: order.order_id,
        payment_method: order.payment_method_id,
        amount: order.total_amount,
        patience: Patience::from(ctx.shop.config.placement_patience),
    };
    let start = Start::new(order.order_id.to_string(), placement);
    let operation_id = ctx.start::<PlaceOrder>(start).await?.id;
    Ok(Placed { order, operation_id })
}
