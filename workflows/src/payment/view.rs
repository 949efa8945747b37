//! getPayment.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use stepwise_engine::inspect;
use uuid::Uuid;

use super::{PaymentState, store::Transaction};
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

/// A payment and one of its moves. Each payment has one at least.
#[derive(sqlx::FromRow)]
struct Row {
    order_id: Uuid,
    status: String,
    total: Decimal,
    paid_currency: String,
    refunded_amount: Decimal,
    method: String,
    failure_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[sqlx(flatten)]
    moved: Transaction,
}

/// One payment. `customer_id`: only a payment of this customer; `None`: any payment. 1 round trip, 1 more while its money moves.
///
/// # Errors
/// The database's.
pub async fn get_payment(
    connection: &mut PgConnection,
    payment_id: Uuid,
    customer_id: Option<Uuid>,
) -> Result<Option<PaymentView>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "-- payment: get
        select p.order_id, p.state as status, p.amount as total, p.currency as paid_currency, p.refunded_amount, p.method,
               p.failure_reason, p.created_at, p.updated_at, t.transaction_id, t.kind, t.state, t.amount, t.currency, t.key,
               t.reference, t.reason, t.requested_at, t.settled_at
        from shop.payment p join shop.payment_transaction t using (payment_id)
        where p.payment_id = $1 and ($2::uuid is null or p.customer_id = $2) order by t.transaction_id",
    )
    .bind(payment_id)
    .bind(customer_id)
    .fetch_all(&mut *connection)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let is_moving = |row: &Row| row.moved.settled_at.is_none() && row.moved.kind != "dispute";
    let subject = [first.order_id.to_string()];
    let is_in_doubt =
        rows.iter().any(is_moving) && !inspect::in_doubt(connection, &subject).await?.is_empty();
    let money = |amount| Money::stored(amount, &first.paid_currency);
    let unknown = || PaymentState::Unknown.as_str().to_owned();
    let transactions = rows.iter().map(|row| {
        let mut transaction = row.moved.clone();
        if is_in_doubt && is_moving(row) {
            transaction.state = unknown();
        }
        Ok(MoveView { amount: transaction.money()?, transaction })
    });
    Ok(Some(PaymentView {
        id: payment_id,
        order_id: first.order_id,
        status: if is_in_doubt { unknown() } else { first.status.clone() },
        amount: money(first.total)?,
        refunded_amount: money(first.refunded_amount)?,
        method: first.method.clone(),
        failure_reason: first.failure_reason.clone(),
        transactions: transactions.collect::<Result<_, sqlx::Error>>()?,
        created_at: first.created_at,
        updated_at: first.updated_at,
    }))
}
