//! Payments in SQL.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PaymentState;
use crate::order::{cancel::Refunded, store::LockedOrder};

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
