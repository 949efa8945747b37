//! Payments at PayPal: the customer approves an amount there, and pays one order with it.

use poem_openapi::{Object, OpenApi};
use stepwise_workflows::{
    customer::paypal,
    sagas::paypal_approval::{
        self, InitiatePayPalError, Initiated, PayPalApproval, initiate_paypal,
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
        let begun = operations::begin(&by.door, &by, ask, prefer.0, async |ctx| {
            let initiated = initiate_paypal(ctx, &command).await?;
            let Initiated { payment_method_id, operation_id } = initiated;
            Ok(OperationShape::begun::<PayPalApproval>(operation_id, payment_method_id))
        });
        Ok(begun.await?)
    }
}
