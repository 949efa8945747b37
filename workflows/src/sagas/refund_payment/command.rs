//! The command refundPayment.

use stepwise_engine::{Saga as _, Start, StartError, inspect};
use uuid::Uuid;

use super::{super::cancel_order::CancelOrder, Refund, RefundPayment};
use crate::{
    order::refund::{self, RefundPaymentRefusal, Refunding},
    refusal::refusals,
    shop::Context,
};

/// The tag with the row that an instance of [`RefundPayment`] settles.
const REFUND_ROW: &str = "refund";

refusals! {
    /// Why a payment is not refunded.
    pub enum RefundPaymentError = Refused(RefundPaymentRefusal) | Start(StartError);
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
