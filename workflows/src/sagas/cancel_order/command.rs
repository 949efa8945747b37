//! The command cancelOrder, for an order that is placed and for one that is still being placed.

use stepwise_engine::{Answer, Saga as _, SignalError, Start, StartError, inspect};
use uuid::Uuid;

use super::{
    super::{
        authorize_payment::{self, AuthorizePayment},
        place_order::{self, PlaceOrder},
    },
    CancelOrder, GiveBack, Input, Signal,
};
use crate::{
    order::{
        OrderStatus,
        cancel::{self, CancelOrderRefusal, Cancelling},
    },
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an order is not cancelled.
    pub enum CancelOrderError =
        Refused(CancelOrderRefusal) | Start(StartError) | Signal(SignalError)
        | Database(sqlx::Error);
}

/// Decides under the lock of the order's row. A placed order is cancelled at once, and a saga gives its money back. The placement of an order that is
/// still being placed is told to unwind, and a saga waits for its end. An order that is cancelled already gets the same answer again. Returns the
/// operation: the instance of that saga.
pub async fn cancel_order(
    ctx: &mut Context<'_>,
    command: &cancel::CancelOrder,
) -> Result<Uuid, CancelOrderError> {
    let order = command.order_id;
    let input = match cancel::begin(ctx, command).await? {
        Cancelling::Refund(back) => match GiveBack::of(order, back) {
            Some((amount, back)) => Input::GiveBack(amount, back),
            None => {
                tell_authorization(ctx, order).await?;
                Input::NothingToGiveBack(order)
            }
        },
        Cancelling::AlreadyCancelled => return earlier(ctx, order, OrderStatus::Cancelled).await,
        Cancelling::SignalPlacement => {
            return match tell_placement(ctx, order).await? {
                Some(placement) => await_placement(ctx, order, placement).await,
                None => earlier(ctx, order, OrderStatus::Placing).await,
            };
        }
    };
    Ok(ctx.start::<CancelOrder>(Start::new(order.to_string(), input)).await?.id)
}

/// Tells a saga that authorizes another payment for the order that none is needed any more. Without this it would find out when it books.
async fn tell_authorization(ctx: &mut Context<'_>, order: Uuid) -> Result<(), SignalError> {
    let (engine, cancelled) = (ctx.engine, authorize_payment::Signal::OrderCancelled);
    engine
        .signal_all::<AuthorizePayment>(ctx, &order.to_string(), "order-cancelled", cancelled)
        .await?;
    Ok(())
}

/// Signals the placement, and returns its id if a saga must wait for its end. `None`: an earlier cancellation waits already, or the placement unwinds
/// for another reason.
async fn tell_placement(
    ctx: &mut Context<'_>,
    order: Uuid,
) -> Result<Option<Uuid>, CancelOrderError> {
    let subject = order.to_string();
    let placement = inspect::latest_about(ctx, PlaceOrder::NAME, &subject).await?;
    let Some(placement) = placement else { return Ok(None) };
    let (id, cancel) = (placement.saga_id, place_order::Signal::CancelRequested);
    let awaited = match ctx.signal::<PlaceOrder>(id, "cancel-requested", cancel).await? {
        Answer::Applied | Answer::Kept => true,
        // The placement has ended, but its order is still `placing`.
        Answer::Refused => placement.is_final(),
        Answer::Duplicate => false,
    };
    Ok(awaited.then_some(id))
}

/// Starts the saga that waits for the end of the placement, however that ends.
async fn await_placement(
    ctx: &mut Context<'_>,
    order: Uuid,
    placement: Uuid,
) -> Result<Uuid, CancelOrderError> {
    let start = Start::new(order.to_string(), Input::PlacementUnwinds(order));
    let id = ctx.start::<CancelOrder>(start).await?.id;
    let (engine, ended) = (ctx.engine, Signal::PlacementEnded);
    engine.signal_at_end::<CancelOrder>(ctx, placement, id, "placement-ended", &ended).await?;
    Ok(id)
}

/// The earlier operation that has cancelled the order, or is doing so.
async fn earlier(
    ctx: &mut Context<'_>,
    order: Uuid,
    status: OrderStatus,
) -> Result<Uuid, CancelOrderError> {
    match inspect::latest_about(ctx, CancelOrder::NAME, &order.to_string()).await? {
        Some(earlier) => Ok(earlier.saga_id),
        // The placement unwinds for a reason of its own.
        None => Err(CancelOrderRefusal::InvalidStatusTransition(status).into()),
    }
}
