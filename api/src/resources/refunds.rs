//! Refunds: money that was taken for an order and is given back, all of it or a part.

use poem_openapi::{Object, OpenApi};
use stepwise_workflows::{
    order::refund,
    sagas::refund_payment::{self, RefundPaymentError, refund_payment},
};
use uuid::Uuid;

use super::{
    Group,
    operations::{self, Begun, OperationShape},
    shapes::MoneyShape,
};
use crate::door::{
    Ask,
    caller::{By, PaymentKeeper},
    idempotency::RequiredKey,
    json::Body,
    prefer::Prefer,
    refuses::Refuses,
};

/// The operations about refunds.
pub struct Refunds;

/// A request to give money back.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RefundPayment {
    /// The order whose payment is given back. It is shipped, delivered or cancelled.
    order_id: Uuid,
    /// More than zero, at most what was taken and is neither given back nor asked for by another refund.
    amount: MoneyShape,
}

#[OpenApi(prefix_path = "/v1/payments/refunds", tag = "Group::Payments")]
impl Refunds {
    /// Give back money that was taken for an order, all of it or a part. Several refunds of one payment may run at once. Money that is only reserved
    /// is given back when the order is cancelled. 6 round trips besides begin and commit: 2 for the key, 4 for the command and its saga.
    #[oai(path = "/", method = "post", operation_id = "refundPayment")]
    async fn refund(
        &self,
        by: By<PaymentKeeper>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "Prefer")] prefer: Prefer,
        body: Body<RefundPayment>,
    ) -> Result<Begun<200>, Refuses<(RefundPaymentError, refund_payment::Reason)>> {
        let order_id = body.value.order_id;
        let amount = body.value.amount.read("/amount", "invalid_amount")?;
        let command = refund::RefundPayment { order_id, amount };
        let ask = Ask::new("refundPayment", &by, &key).with(&body);
        let begun = operations::begin(&by.door, &by, ask, prefer.0, async |ctx| {
            let operation_id = refund_payment(ctx, &command).await?;
            Ok(OperationShape::begun::<refund_payment::RefundPayment>(operation_id, order_id))
        });
        Ok(begun.await?)
    }
}
