//! Another payment for an order whose authorization lapsed: what is decided at once ([`begin`]), and what follows once the money is reserved
//! ([`complete`]) or is not ([`give_up`]). Between them the saga asks the gateway.
//!
//! The new payment is in force only when its money is reserved. Until then the order keeps the payment that lapsed. So a cancellation meanwhile has
//! nothing to give back: [`complete`] finds the order cancelled, under the lock of its row, and the saga releases what it has reserved.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    OrderStatus,
    place::Authorized,
    release::Voided,
    store::{LockedOrder, lock_order},
};
use crate::{
    customer::paypal::{self, NotUsable},
    events::{DomainEvent, tell},
    integration::Notification,
    money::Money,
    payment::{PaymentFailure, PaymentState},
    refusal::refusals,
    shop::Context,
};

/// The command.
#[derive(Debug, Clone)]
pub struct AuthorizePayment {
    /// The order.
    pub order_id: Uuid,
    /// One of the payment methods of the order's customer.
    pub payment_method_id: Uuid,
    /// The order's total.
    pub amount: Money,
}

/// A payment whose money is still to be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorizing {
    /// The payment, `authorizing`.
    pub payment_id: Uuid,
    /// The amount to reserve.
    pub amount: Money,
}

refusals! {
    /// Why no payment is authorized.
    #[derive(Debug, thiserror::Error)]
    pub enum AuthorizePaymentRefusal {
        /// Unknown.
        #[error("There is no such order.")]
        OrderNotFound => NotFound "order_not_found",
        /// It is neither pending nor confirmed.
        #[error("no payment is authorized for an order that is {0}")]
        InvalidStatusTransition(OrderStatus) => Conflict "invalid_status_transition",
        /// The payment in force has not lapsed.
        #[error("the order has a payment already, which is {0}")]
        AlreadyAuthorized(PaymentState) => Conflict "already_authorized",
        /// Another payment of the order is being authorized or given back, or the order is being shipped.
        #[error("the order is being shipped, or a payment is being authorized already")]
        Busy => Conflict "operation_in_progress",
        /// Not the order's total.
        #[error("the amount must be the order's total, {0}")]
        AmountMismatch(Money) => Unprocessable "amount_mismatch" at "/amount",
        /// The order's customer has no such method.
        #[error("there is no such payment method")]
        PaymentMethodNotFound => NotFound "payment_method_not_found",
        /// It is an approval at PayPal that does not pay this order.
        #[error(transparent)]
        PayPal(#[from] NotUsable),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Writes another payment of a pending or confirmed order whose payment in force has lapsed. 3 round trips: lock customer, order and payment;
/// read the method; write payment and move. 2 row operations. One round trip more for a method that pays once (`paypal::pay`).
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &AuthorizePayment,
) -> Result<Authorizing, AuthorizePaymentRefusal> {
    use AuthorizePaymentRefusal as Refusal;

    let order = lock_order(ctx, command.order_id).await?.ok_or(Refusal::OrderNotFound)?;
    if !is_open(&order) {
        return Err(Refusal::InvalidStatusTransition(order.status));
    }
    if order.is_being_shipped() {
        return Err(Refusal::Busy);
    }
    if !matches!(order.payment_state, PaymentState::Voided | PaymentState::Declined) {
        return Err(Refusal::AlreadyAuthorized(order.payment_state));
    }
    let amount = order.total_amount()?;
    if command.amount != amount {
        return Err(Refusal::AmountMismatch(amount));
    }
    let (method, has_another): (Option<String>, bool) = sqlx::query_as(
        "-- authorize: read method
        select (select case when kind = 'card' then 'card:' || brand else kind end from shop.payment_method
                where payment_method_id = $1 and customer_id = $2 and removed_at is null),
               exists (select from shop.payment where order_id = $3 and state not in ('refunded', 'voided', 'declined'))",
    )
    .bind(command.payment_method_id)
    .bind(order.customer_id)
    .bind(order.order_id)
    .fetch_one(&mut **ctx)
    .await?;
    if has_another {
        return Err(Refusal::Busy);
    }
    let method = method.ok_or(Refusal::PaymentMethodNotFound)?;
    if method == paypal::KIND {
        paypal::pay(ctx, command.payment_method_id, order.order_id, amount).await?;
    }
    let payment_id = Uuid::now_v7();
    sqlx::query(
        "-- authorize: begin
        with paid as (
            insert into shop.payment
                (payment_id, order_id, customer_id, payment_method_id, method, state, amount,
                 currency, created_at, updated_at)
            values ($1, $2, $3, $4, $5, 'authorizing', $6, $7, $9, $9)
        )
        insert into shop.payment_transaction
            (transaction_id, payment_id, kind, state, amount, currency, requested_at)
        values ($8, $1, 'authorize', 'requested', $6, $7, $9)",
    )
    .bind(payment_id)
    .bind(order.order_id)
    .bind(order.customer_id)
    .bind(command.payment_method_id)
    .bind(method)
    .bind(amount.amount())
    .bind(amount.currency().code())
    .bind(Uuid::now_v7())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    Ok(Authorizing { payment_id, amount })
}

fn is_open(order: &LockedOrder) -> bool {
    matches!(order.status, OrderStatus::Pending | OrderStatus::Confirmed)
}

/// The result for a payment whose money is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The order is paid by it.
    InForce,
    /// The order was cancelled meanwhile: nothing was changed, and the money is to be released.
    NotWanted,
    /// There is no such payment that is being authorized.
    NotFound,
}

/// Puts a payment in force whose money is reserved, and tells of it. 4 round trips: lock customer, order and payment; lock the new payment; write
/// order and payment; record PaymentAuthorized. 3 row operations, 1 event.
pub async fn complete(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    payment_id: Uuid,
    authorized: &Authorized,
) -> Result<Reserved, sqlx::Error> {
    let Some(order) = lock_order(ctx, order_id).await? else { return Ok(Reserved::NotFound) };
    if !is_open(&order) {
        return Ok(Reserved::NotWanted);
    }
    let Some(payment) = lock_authorizing(ctx, payment_id).await? else {
        return Ok(Reserved::NotFound);
    };
    ctx.learn_now(order.now);
    let told = tell([DomainEvent::PaymentAuthorized {
        payment_id,
        order_id,
        amount: payment.amount()?,
        authorization_id: authorized.authorization_id.clone(),
        payment_method: payment.method,
        authorized_at: order.now,
    }]);
    sqlx::query(
        r#"-- authorize: complete
        with paid as (
            update shop.payment set state = 'authorized', authorization_id = $3,
                event_count = event_count + $5, updated_at = $6
            where payment_id = $2
        ), moved as (
            update shop.payment_transaction set state = 'succeeded', key = $4, reference = $3,
                settled_at = $6
            where payment_id = $2 and kind = 'authorize' and settled_at is null
        )
        update shop."order" set payment_id = $2, version = version + 1, updated_at = $6
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(payment_id)
    .bind(&authorized.authorization_id)
    .bind(&authorized.key)
    .bind(told.count())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    ctx.record(told.after(payment.event_count)).await?;
    Ok(Reserved::InForce)
}

/// Ends a payment whose money is not reserved after all, with the money that was reserved and given back. A failure is told to partners;
/// `None`: the order was cancelled. Does nothing if the payment has ended already. 3 round trips, 2 more to publish PaymentFailedNotification: lock
/// customer, order and payment; lock the new payment; write it.
pub async fn give_up(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    payment_id: Uuid,
    failure: Option<&PaymentFailure>,
    voided: Option<&Voided>,
) -> Result<(), sqlx::Error> {
    let Some(order) = lock_order(ctx, order_id).await? else { return Ok(()) };
    let Some(payment) = lock_authorizing(ctx, payment_id).await? else { return Ok(()) };
    ctx.learn_now(order.now);
    let state = match (voided, failure) {
        (Some(voided), _) => voided.payment_state(),
        (None, Some(failure)) => failure.ends_as(),
        (None, None) => PaymentState::Voided,
    };
    sqlx::query(
        "-- authorize: give up
        with paid as (
            update shop.payment set state = $2, failure_reason = $3, authorization_id = $4,
                ask_at = case when $2 = 'authorized' then $7 end, updated_at = $7
            where payment_id = $1
        ), moved as (
            update shop.payment_transaction set settled_at = $7, reference = $4, key = $5,
                state = case when $4 is null then 'failed' else 'succeeded' end,
                reason = case when $4 is null then coalesce($3, 'order_cancelled') end
            where payment_id = $1 and kind = 'authorize' and settled_at is null
            returning payment_id, amount, currency
        )
        insert into shop.payment_transaction
            (transaction_id, payment_id, kind, state, amount, currency, key, reference,
             requested_at, settled_at)
        select $8, payment_id, 'void', 'succeeded', amount, currency, $6, $4, $7, $7
        from moved where $6 is not null",
    )
    .bind(payment_id)
    .bind(state.as_str())
    .bind(failure.map(PaymentFailure::code))
    .bind(voided.map(|voided| &voided.authorization_id))
    .bind(voided.map(|voided| &voided.key))
    .bind(voided.and_then(|voided| voided.void_key.as_ref()))
    .bind(order.now)
    .bind(Uuid::now_v7())
    .execute(&mut **ctx)
    .await?;
    let Some(failure) = failure else { return Ok(()) };
    let failed = Notification::PaymentFailed {
        order_id,
        customer_id: order.customer_id,
        amount: payment.amount()?,
        failure_reason: failure.code().to_owned(),
    };
    ctx.record_and_publish([], Some(failed)).await
}

/// A payment that is being authorized, locked.
#[derive(sqlx::FromRow)]
struct LockedPayment {
    method: String,
    amount: Decimal,
    currency: String,
    event_count: i64,
}

impl LockedPayment {
    fn amount(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.amount, &self.currency)
    }
}

/// The caller has locked the order.
async fn lock_authorizing(
    tx: &mut PgConnection,
    payment_id: Uuid,
) -> Result<Option<LockedPayment>, sqlx::Error> {
    sqlx::query_as(
        "-- authorize: lock the new payment
        select method, amount, currency, event_count from shop.payment
        where payment_id = $1 and state = 'authorizing' for update",
    )
    .bind(payment_id)
    .fetch_optional(tx)
    .await
}
