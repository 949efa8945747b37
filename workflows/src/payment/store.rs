//! Payments in SQL.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

/// One move of money.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Transaction {
    /// Its own id.
    pub transaction_id: Uuid,
    /// `authorize`, `capture`, `void`, `refund` or `dispute`.
    pub kind: String,
    /// `requested`, `succeeded`, `failed` or `unknown`.
    pub state: String,
    /// How much, in the payment's currency.
    pub amount: Decimal,
    /// The key the provider was given; `None`: not settled yet, or not asked for by this shop.
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
