//! Payments at PayPal: the customer approves an amount there, and pays one order with it.

use poem_openapi::{Object, OpenApi};
use stepwise_engine::Saga as _;
use stepwise_workflows::{
    customer::paypal,
    sagas::{
        commands::{self, InitiatePayPalError, Initiated},
        paypal_approval::{self, PayPalApproval},
    },
};

use super::{
    Group,
    operations::{self, Begun, OperationShape},
    shapes::MoneyShape,
    wallet::MethodShape,
};
use crate::door::{
    Ask,
    caller::{By, CustomerOnly},
    idempotency::RequiredKey,
    json::Body,
    prefer::Prefer,
    problem::Problem,
    refuses::Refuses,
};

/// The operations about payments at PayPal.
pub struct PayPal;

/// A request to pay an order at PayPal.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct InitiatePayPal {
    /// The total of the order.
    amount: MoneyShape,
    /// The page to which PayPal sends the customer after an approval. Its origin must be one of the shop's.
    return_url: String,
    /// The page to which PayPal sends a customer who does not approve. Its origin must be one of the shop's.
    cancel_url: String,
}

#[OpenApi(prefix_path = "/v1/payments", tag = "Group::Customers")]
impl PayPal {
    /// Start a payment at PayPal. The operation has the link where the customer approves the amount, and its result is a payment method
    /// that pays one order of exactly that amount. 5 round trips besides begin and commit.
    #[oai(path = "/paypal", method = "post", operation_id = "initiatePayPal")]
    async fn initiate(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "Prefer")] prefer: Prefer,
        body: Body<InitiatePayPal>,
    ) -> Result<Begun<201, MethodShape>, Refuses<(InitiatePayPalError, paypal_approval::Reason)>>
    {
        let ask = Ask::new("initiatePayPal", &by, &key).with(&body);
        let InitiatePayPal { amount, return_url, cancel_url } = body.value;
        let command = paypal::InitiatePayPal {
            customer_id: by.id,
            amount: amount.read("/amount", "invalid_amount")?,
            return_url,
            cancel_url,
        };
        let door = &by.door;
        let accepted: Result<_, Problem> = door
            .command(ask, async |ctx| {
                let initiated = commands::initiate_paypal(ctx, &command);
                let Initiated { payment_method_id, operation_id } = initiated.await?;
                let kind = PayPalApproval::NAME;
                let operation = OperationShape::begun(operation_id, kind, payment_method_id);
                Ok(operation.accepted(&by))
            })
            .await;
        Ok(operations::wait(door, &by, accepted?, prefer.0).await?)
    }
}
