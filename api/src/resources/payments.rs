//! Payments: reading them with every move of money, and authorizing another one.

use chrono::{DateTime, Utc};
use poem_openapi::{Object, OpenApi, param::Path};
use stepwise_workflows::{
    order::authorize,
    payment::{self, MoveView, PaymentView, UnknownPayment},
    sagas::authorize_payment::{self, AuthorizePaymentError, authorize_payment},
};
use uuid::Uuid;

use super::{
    Group,
    answer::answer,
    operations::{self, Begun, OperationShape},
    shapes::{MoneyShape, UnreadableAmount},
    words::{MoveKinds, MoveStates, PaymentWords, Word},
};
use crate::door::{
    Ask,
    caller::{By, PaymentKeeper, PaymentReader},
    idempotency::RequiredKey,
    json::Body,
    prefer::Prefer,
    refuses::Refuses,
    reply::Done,
};

/// The operations about payments.
pub struct Payments;

/// A request to authorize another payment for an order whose authorization lapsed.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AuthorizePayment {
    order_id: Uuid,
    /// A payment method of the order's customer.
    payment_method_id: Uuid,
    /// The order's total.
    amount: MoneyShape,
}

answer! {
    /// A payment.
    #[oai(rename = "Payment", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct PaymentShape from payment: PaymentView {
        id: Uuid,
        order_id: Uuid,
        /// `authorizing`, `authorized`, `captured`, `partially_refunded`, `refunded`, `voided`, `declined`, or `unknown` while the gateway may have moved
        /// money and is being asked.
        status: Word<PaymentWords>,
        amount: MoneyShape,
        refunded_amount: MoneyShape,
        /// Kind and brand: `card:visa`.
        method: String,
        /// A code, such as `insufficient_funds`.
        failure_reason: Option<String>,
        /// Oldest first.
        transactions: Vec<TransactionShape>,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    }
}

answer! {
    /// A move of money, or a dispute.
    #[oai(rename = "PaymentTransaction", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct TransactionShape from made: MoveView {
        id: Uuid = made.transaction.transaction_id,
        /// `authorize`, `capture`, `void`, `refund` or `dispute`.
        kind: Word<MoveKinds> = made.transaction.kind.into(),
        /// `requested`, `succeeded`, `failed`, or `unknown` while the gateway is being asked. A dispute that the customer won has succeeded.
        state: Word<MoveStates> = made.transaction.state.into(),
        amount: MoneyShape,
        /// The gateway's reference.
        reference: Option<String> = made.transaction.reference,
        /// Why it failed: a code.
        reason: Option<String> = made.transaction.reason,
        requested_at: DateTime<Utc> = made.transaction.requested_at,
        settled_at: Option<DateTime<Utc>> = made.transaction.settled_at,
    }
}

#[OpenApi(prefix_path = "/v1/payments", tag = "Group::Payments")]
impl Payments {
    /// Get a payment with every move of money. An order may have several payments, one after the other.
    #[oai(path = "/:paymentId", method = "get", operation_id = "getPayment")]
    async fn get(
        &self,
        by: By<PaymentReader>,
        #[oai(name = "paymentId")] payment_id: Path<Uuid>,
    ) -> Result<Done<PaymentShape>, Refuses<UnknownPayment>> {
        let mut db = by.door.db.acquire().await?;
        let payment = payment::get_payment(&mut db, payment_id.0, by.own_customer()).await?;
        let payment = payment.ok_or(UnknownPayment::NotFound)?;
        Ok(Done::to(&by, &PaymentShape::from(payment)))
    }

    /// Authorize another payment for a pending or confirmed order whose authorization lapsed. 6 round trips besides begin and commit: 2 for the key, 4
    /// for the command and its saga.
    #[oai(path = "/authorizations", method = "post", operation_id = "authorizePayment")]
    async fn authorize(
        &self,
        by: By<PaymentKeeper>,
        #[oai(name = "Idempotency-Key")] key: RequiredKey,
        #[oai(name = "Prefer")] prefer: Prefer,
        body: Body<AuthorizePayment>,
    ) -> Result<
        Begun<200>,
        Refuses<((AuthorizePaymentError, UnreadableAmount), authorize_payment::Reason)>,
    > {
        let AuthorizePayment { order_id, payment_method_id, amount } = &body.value;
        let command = authorize::AuthorizePayment {
            order_id: *order_id,
            payment_method_id: *payment_method_id,
            amount: amount.read("/amount", "invalid_amount")?,
        };
        let ask = Ask::new("authorizePayment", &by, &key).with(&body);
        let begun = operations::begin(&by.door, &by, ask, prefer.0, async |ctx| {
            let id = authorize_payment(ctx, &command).await?;
            Ok(OperationShape::begun::<authorize_payment::AuthorizePayment>(id, command.order_id))
        });
        Ok(begun.await?)
    }
}
