//! getPayment.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use stepwise_engine::inspect;
use uuid::Uuid;

use super::{
    PaymentState,
    store::{Transaction, transactions_of},
};
use crate::{money::Money, refusal::refusals};

refusals! {
    /// Why a payment is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownPayment {
        /// Unknown, or somebody else's.
        #[error("There is no such payment.")]
        NotFound => NotFound "payment_not_found",
    }
}

/// A payment with every move of money.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentView {
    /// The payment.
    pub id: Uuid,
    /// The order that it pays for.
    pub order_id: Uuid,
    /// Its state; `unknown` while the gateway may have moved money and is being asked.
    pub status: String,
    /// The amount.
    pub amount: Money,
    /// How much of it was given back.
    pub refunded_amount: Money,
    /// Kind and brand, such as `card:visa`.
    pub method: String,
    /// Why it failed: a code.
    pub failure_reason: Option<String>,
    /// Every move of money, and every dispute, oldest first.
    pub transactions: Vec<MoveView>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A move of money as callers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct MoveView {
    /// The amount.
    pub amount: Money,
    /// Everything else.
    pub transaction: Transaction,
}

#[derive(sqlx::FromRow)]
struct Row {
    order_id: Uuid,
    state: String,
    amount: Decimal,
    currency: String,
    refunded_amount: Decimal,
    method: String,
    failure_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// One payment. `customer_id`: only a payment of this customer; `None`: any payment. 2 round trips, 1 more while its money moves.
///
/// # Errors
/// The database's.
pub async fn get_payment(
    connection: &mut PgConnection,
    payment_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<PaymentView>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "-- payment: get
        select order_id, state, amount, currency, refunded_amount, method, failure_reason, created_at, updated_at
        from shop.payment where payment_id = $1 and ($2::uuid is null or customer_id = $2)",
    )
    .bind(payment_id)
    .bind(customer_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut moves = transactions_of(connection, payment_id).await?;
    let mut status = row.state;
    let unsettled =
        moves.iter_mut().filter(|row| row.settled_at.is_none() && row.kind != "dispute");
    let unsettled: Vec<&mut Transaction> = unsettled.collect();
    let subject = [row.order_id.to_string()];
    if !unsettled.is_empty() && !inspect::in_doubt(connection, &subject).await?.is_empty() {
        PaymentState::Unknown.as_str().clone_into(&mut status);
        for row in unsettled {
            PaymentState::Unknown.as_str().clone_into(&mut row.state);
        }
    }
    let money = |amount| Money::stored(amount, &row.currency);
    let transactions = moves
        .into_iter()
        .map(|transaction| Ok(MoveView { amount: money(transaction.amount)?, transaction }));
    Ok(Some(PaymentView {
        id: payment_id,
        order_id: row.order_id,
        status,
        amount: money(row.amount)?,
        refunded_amount: money(row.refunded_amount)?,
        method: row.method,
        failure_reason: row.failure_reason,
        transactions: transactions.collect::<Result<_, sqlx::Error>>()?,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}
