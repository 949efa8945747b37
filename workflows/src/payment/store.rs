//! Payments in SQL.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PaymentState;
use crate::{
    money::Money,
    order::{cancel::Refunded, store::LockedOrder},
    payment::gateway::{MethodToken, Reference},
};

/// Settles the void or refund of a cancelled order; the caller holds order and payment. The order
/// counts the two notifications that follow. 1 round trip, 3 row operations.
pub async fn given_back(
    tx: &mut PgConnection,
    order: &LockedOrder,
    state: PaymentState,
    refund: &Refunded,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- payment: given back
        with told as (
            update shop."order" set published_count = published_count + 2,
                updated_at = saga.now()
            where order_id = $1
        ), moved as (
            update shop.payment_transaction
            set state = 'succeeded', reference = $5, key = $6, settled_at = saga.now()
            where payment_id = $2 and kind in ('void', 'refund') and settled_at is null
        )
        update shop.payment set state = $3, event_count = event_count + 1,
            refunded_amount = refunded_amount + case when $3 = 'refunded' then $4 else 0 end,
            updated_at = saga.now()
        where payment_id = $2"#,
    )
    .bind(order.order_id)
    .bind(order.payment_id)
    .bind(state.as_str())
    .bind(refund.amount.amount())
    .bind(&refund.refund_id)
    .bind(&refund.key)
    .execute(tx)
    .await?;
    Ok(())
}

/// Keeps the provider's reference of a payment that is being authorized, so that webhooks about it
/// find it, and whether its outcome is unknown for now. Changes nothing once it is decided.
pub async fn note_attempt(
    tx: &mut PgConnection,
    payment_id: Uuid,
    reference: &Reference,
    is_unknown: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- payment: note an attempt
        with moved as (
            update shop.payment_transaction set state = case when $3 then 'unknown' else state end,
                reference = $2
            where payment_id = $1 and kind = 'authorize' and settled_at is null
        )
        update shop.payment set authorization_id = $2,
            state = case when $3 then 'unknown' else 'authorizing' end, updated_at = saga.now()
        where payment_id = $1 and state in ('authorizing', 'unknown')",
    )
    .bind(payment_id)
    .bind(&reference.0)
    .bind(is_unknown)
    .execute(tx)
    .await?;
    Ok(())
}

/// What an authorization needs from our database.
#[derive(Debug, Clone)]
pub struct Chargeable {
    /// The payment.
    pub payment_id: Uuid,
    /// The order's total.
    pub amount: Money,
    /// The gateway's token of the method it is paid with.
    pub method: MethodToken,
}

/// Reads what the payment in force of an order is to be authorized with, without a lock; `None`:
/// no such order, or the method was erased.
pub async fn chargeable(
    connection: &mut PgConnection,
    order_id: Uuid,
) -> Result<Option<Chargeable>, sqlx::Error> {
    let row: Option<(Uuid, Decimal, String, String)> = sqlx::query_as(
        r#"-- payment: chargeable
        select p.payment_id, p.amount, p.currency, m.token
        from shop."order" o
        join shop.payment p using (payment_id)
        join shop.payment_method m using (payment_method_id)
        where o.order_id = $1"#,
    )
    .bind(order_id)
    .fetch_optional(connection)
    .await?;
    row.map(|(payment_id, amount, currency, token)| {
        let amount = Money::stored(amount, &currency)?;
        Ok(Chargeable { payment_id, amount, method: MethodToken(token) })
    })
    .transpose()
}

/// The order that a provider's reference belongs to: who a webhook is about.
pub async fn order_of_authorization(
    connection: &mut PgConnection,
    reference: &Reference,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "-- payment: order of an authorization
        select order_id from shop.payment where authorization_id = $1",
    )
    .bind(&reference.0)
    .fetch_optional(connection)
    .await
}

/// One move of money.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Transaction {
    /// Its own id.
    pub transaction_id: Uuid,
    /// `authorize`, `capture`, `void` or `refund`.
    pub kind: String,
    /// `requested`, `succeeded`, `failed` or `unknown`.
    pub state: String,
    /// How much, in the payment's currency.
    pub amount: Decimal,
    /// The key the provider was given.
    pub key: Option<String>,
    /// The provider's reference.
    pub reference: Option<String>,
    /// Why it failed: a code.
    pub reason: Option<String>,
    /// When it was asked for, business time.
    pub requested_at: DateTime<Utc>,
    /// When it was settled.
    pub settled_at: Option<DateTime<Utc>>,
}

/// Every move of money of a payment, oldest first.
pub async fn transactions_of(
    connection: &mut PgConnection,
    payment_id: Uuid,
) -> Result<Vec<Transaction>, sqlx::Error> {
    sqlx::query_as(
        "-- payment: transactions
        select transaction_id, kind, state, amount, key, reference, reason, requested_at,
               settled_at
        from shop.payment_transaction where payment_id = $1 order by transaction_id",
    )
    .bind(payment_id)
    .fetch_all(connection)
    .await
}
