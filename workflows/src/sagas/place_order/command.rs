//! The command placeOrder: how an order starts.
//!
//! The command runs in the caller's transaction. A refusal comes at once and leaves nothing behind, because the caller rolls back. If the command is
//! accepted, the saga does the rest. The command returns the saga's id: the client sees it as the operation, and can wait for its end.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{Patience, PlaceOrder, Placement};
use crate::{
    order::place::{self, Asked, Locks, PlaceOrderRefusal, Placing},
    refusal::refusals,
    shop::{Context, config::Config},
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
    let start = start(&ctx.shop.config, &order);
    let operation_id = ctx.start::<PlaceOrder>(start).await?.id;
    Ok(Placed { order, operation_id })
}

/// The same for orders of different customers, each with its own cause. The answers are in the order of `asked`; [`place::begin_together`] says which orders
/// have none, and must be placed alone. A refused order leaves nothing behind. 5 round trips, whatever the number
/// of orders.
///
/// # Errors
/// The database's, or a saga cannot start: the transaction is to be rolled back.
pub async fn place_together(
    ctx: &mut Context<'_>,
    asked: &[Asked],
    locks: Locks,
) -> Result<Vec<Option<Result<Placed, PlaceOrderError>>>, PlaceOrderError> {
    let turns = place::begin_together(ctx, asked, locks).await.map_err(PlaceOrderRefusal::from)?;
    let begun = asked.iter().zip(&turns).filter_map(|(asked, turn)| {
        let order = turn.as_ref()?.as_ref().ok()?;
        Some((&asked.cause, start(&ctx.shop.config, order)))
    });
    let begun = begun.collect();
    let mut operations = ctx.start_each::<PlaceOrder>(begun).await?.into_iter();
    let placed = turns.into_iter().map(|turn| {
        let order = match turn? {
            Ok(order) => order,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        let operation_id = operations.next().expect("each order starts a saga").id;
        Some(Ok(Placed { order, operation_id }))
    });
    Ok(placed.collect())
}

/// The start of the saga that goes on with the order.
fn start(config: &Config, order: &Placing) -> Start<Placement> {
    let placement = Placement {
        order: order.order_id,
        payment_method: order.payment_method_id,
        amount: order.total_amount,
        patience: Patience::from(config.placement_patience),
    };
    Start::new(order.order_id.to_string(), placement)
}
