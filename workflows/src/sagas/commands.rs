//! How a guest's cart and an order start, how an order is shipped and cancelled, how a payment at PayPal is approved, how another payment is authorized
//! for an order, and how its money is given back. Also how a payment method is saved and removed.
//!
//! The commands run in the caller's transaction. A refusal comes at once and leaves nothing behind, because the caller rolls back. If the command is
//! accepted, a saga does the rest. The command returns its id: the client sees it as the operation, and can wait for its end.

use stepwise_engine::{Answer, Saga as _, SignalError, Start, StartError, inspect};
use uuid::Uuid;

use super::{
    authorize_payment::{self, AuthorizePayment},
    authorizing::Patience,
    cancel_order::{self, CancelOrder, GiveBack},
    cart_expiry::{self, CartExpiry},
    keep_payment_method::{self, KeepPaymentMethod},
    paypal_approval::{self, PayPalApproval},
    place_order::{self, PlaceOrder, Placement},
    refund_payment::{Refund, RefundPayment},
    ship_order::{ShipOrder, Shipment},
};
use crate::{
    cart::{self, Guest},
    customer::{
        attachment::ASKED,
        method::{self, AddPaymentMethod, PaymentMethodRefusal, PaymentMethodView},
        paypal::{self, InitiatePayPal, InitiatePayPalRefusal},
    },
    order::{
        OrderStatus,
        authorize::{self, AuthorizePaymentRefusal},
        cancel::{self, CancelOrderRefusal, Cancelling},
        place::{self, PlaceOrderRefusal, Placing},
        refund::{self, RefundPaymentRefusal, Refunding},
        ship::{self, ShipOrderRefusal},
    },
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
    #[derive(Debug, thiserror::Error)]
    pub enum PlaceOrderError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] PlaceOrderRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Reserves the stock, writes the order, and starts the saga that authorizes the payment. 5 round trips, whatever the number of lines: 4 of
/// [`place::begin`], and the start.
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

refusals! {
    /// Why an order is not shipped.
    #[derive(Debug, thiserror::Error)]
    pub enum ShipOrderError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] ShipOrderRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
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

async fn has_ended(ctx: &mut Context<'_>, order: Uuid) -> Result<bool, ShipOrderRefusal> {
    let shipment = inspect::latest_about(ctx, ShipOrder::NAME, &order.to_string()).await?;
    Ok(shipment.is_none_or(|shipment| shipment.is_final()))
}

refusals! {
    /// Why no payment is authorized.
    #[derive(Debug, thiserror::Error)]
    pub enum AuthorizePaymentError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] AuthorizePaymentRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Writes another payment of an order whose authorization lapsed, and starts the saga that authorizes it. Answers the operation: the instance of
/// that saga. 4 round trips: 3 of [`authorize::begin`], and the start.
pub async fn authorize_payment(
    ctx: &mut Context<'_>,
    command: &authorize::AuthorizePayment,
) -> Result<Uuid, AuthorizePaymentError> {
    let begun = authorize::begin(ctx, command).await?;
    let request = authorize_payment::Request {
        order: command.order_id,
        payment: begun.payment_id,
        payment_method: command.payment_method_id,
        amount: begun.amount,
        patience: Patience::from(ctx.shop.config.placement_patience),
    };
    let start = Start::new(command.order_id.to_string(), request);
    Ok(ctx.start::<AuthorizePayment>(start).await?.id)
}

refusals! {
    /// Why an order is not cancelled.
    #[derive(Debug, thiserror::Error)]
    pub enum CancelOrderError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] CancelOrderRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
        /// The placement could not be signalled.
        #[error(transparent)]
        Signal(#[from] SignalError),
    }
}

impl From<sqlx::Error> for CancelOrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(error.into())
    }
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
            Some((amount, back)) => cancel_order::Input::GiveBack(amount, back),
            None => {
                tell_authorization(ctx, order).await?;
                cancel_order::Input::NothingToGiveBack(order)
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
    let input = cancel_order::Input::PlacementUnwinds(order);
    let id = ctx.start::<CancelOrder>(Start::new(order.to_string(), input)).await?.id;
    let ended = cancel_order::Signal::PlacementEnded;
    let engine = ctx.engine;
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

refusals! {
    /// Why a payment is not refunded.
    #[derive(Debug, thiserror::Error)]
    pub enum RefundPaymentError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] RefundPaymentRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Notes a refund in the books, and starts the saga that gives the money back. Several refunds of one payment may run at once. Answers the operation:
/// the instance that ends it. 4 round trips: 3 of [`refund::begin`], and the start.
pub async fn refund_payment(
    ctx: &mut Context<'_>,
    command: &refund::RefundPayment,
) -> Result<Uuid, RefundPaymentError> {
    let refund::RefundPayment { order_id: order, amount } = *command;
    let begun = match refund::begin(ctx, command).await {
        Err(RefundPaymentRefusal::RefundExceedsPayment(_))
            if withdraw_ended(ctx, order).await? =>
        {
            refund::begin(ctx, command).await
        }
        begun => begun,
    };
    let Refunding { row, reference } = begun?;
    let start = Start::new(order.to_string(), Refund { order, row, reference, amount });
    let start = start.key(row.to_string()).tag(REFUND_ROW, row.to_string());
    Ok(ctx.start::<RefundPayment>(start).await?.id)
}

/// The tag with the row that an instance of [`RefundPayment`] settles.
const REFUND_ROW: &str = "refund";

/// Withdraws the refunds of an order whose sagas were ended by an operator, who has decided about their money: nobody else would settle them. Whether
/// there were some. 3 round trips.
async fn withdraw_ended(ctx: &mut Context<'_>, order: Uuid) -> Result<bool, RefundPaymentRefusal> {
    let subject = order.to_string();
    let cancelling = inspect::open_about(ctx, CancelOrder::NAME, &subject).await?;
    if !cancelling.is_empty() {
        return Ok(false);
    }
    let running = inspect::open_about(ctx, RefundPayment::NAME, &subject).await?;
    let running: Vec<Uuid> =
        running.iter().filter_map(|saga| saga.tags.get(REFUND_ROW)?.parse().ok()).collect();
    Ok(refund::withdraw_others(ctx, order, &running).await?)
}

refusals! {
    /// Why no approval is asked for at PayPal.
    #[derive(Debug, thiserror::Error)]
    pub enum InitiatePayPalError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] InitiatePayPalRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// A payment method that its customer is to approve at PayPal.
pub struct Initiated {
    /// The payment method.
    pub payment_method_id: Uuid,
    /// The operation: the instance of [`PayPalApproval`] that makes the method usable.
    pub operation_id: Uuid,
}

/// Adds a payment method that cannot be used yet, and starts the saga that has its customer approve it. 3 round trips: 2 of
/// [`paypal::begin`], and the start.
pub async fn initiate_paypal(
    ctx: &mut Context<'_>,
    command: &InitiatePayPal,
) -> Result<Initiated, InitiatePayPalError> {
    let payment_method_id = paypal::begin(ctx, command).await?;
    let input = paypal_approval::Input::Open(payment_method_id);
    let start = Start::new(payment_method_id.to_string(), input);
    let operation_id = ctx.start::<PayPalApproval>(start).await?.id;
    Ok(Initiated { payment_method_id, operation_id })
}

/// Makes a guest with an empty cart, and starts the saga that deletes both when the guest has left. 2 round trips.
///
/// # Errors
/// The saga could not be started, or the database failed.
pub async fn create_guest_cart(ctx: &mut Context<'_>) -> Result<Guest, StartError> {
    let guest = cart::create_guest_cart(ctx).await?;
    let after = cart::lifetime(ctx.shop, true);
    ctx.start::<CartExpiry>(cart_expiry::start(guest.cart_id, after)).await?;
    Ok(guest)
}

refusals! {
    /// Why a payment method is not saved or removed.
    #[derive(Debug, thiserror::Error)]
    pub enum KeepMethodError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] PaymentMethodRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Saves a payment method, and starts the saga that attaches it at the gateway. The method can be used at once. 2 round trips: to save it, and the start.
pub async fn add_payment_method(
    ctx: &mut Context<'_>,
    command: &AddPaymentMethod,
) -> Result<PaymentMethodView, KeepMethodError> {
    let added = method::save(ctx, command, Some(ASKED)).await?;
    let method = added.payment_method_id;
    let start = Start::new(method.to_string(), keep_payment_method::Input::Attach(method));
    ctx.start::<KeepPaymentMethod>(start.key("attach")).await?;
    Ok(added)
}

/// Removes a payment method, and starts the saga that detaches it at the gateway, if it was attached. 3 round trips: 2 to remove it, and the start.
pub async fn remove_payment_method(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    method: Uuid,
) -> Result<(), KeepMethodError> {
    if method::remove(ctx, customer_id, method).await? {
        let start = Start::new(method.to_string(), keep_payment_method::Input::Detach(method));
        ctx.start::<KeepPaymentMethod>(start.key("detach")).await?;
    }
    Ok(())
}
