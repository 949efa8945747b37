//! Payments in SQL.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PaymentState;
use crate::money::{Currency, Money};

/// One move of money.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Transaction {
    /// Its own id.
    pub transaction_id: Uuid,
    /// `authorize`, `capture`, `void`, `refund` or `dispute`.
    pub kind: String,
    /// `requested`, `succeeded`, `failed` or `unknown`.
    pub state: String,
    /// How much.
    pub amount: Decimal,
    /// The currency of the amount: the payment's, or the move is in no balance.
    pub currency: String,
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

impl Transaction {
    /// Whether the move is asked for and not settled yet.
    pub fn is_open(&self) -> bool {
        self.settled_at.is_none()
    }

    /// Whether the move gives money back, reserved or taken.
    pub fn gives_back(&self) -> bool {
        matches!(&*self.kind, "refund" | "void")
    }

    /// The amount with its currency.
    pub(crate) fn money(&self) -> Result<Money, sqlx::Error> {
        Money::stored(self.amount, &self.currency)
    }
}

/// The sums of a payment's moves, in the payment's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// How much was taken.
    pub captured: Decimal,
    /// How much of it was given back. A refund that the gateway has accepted counts until it fails.
    pub refunded: Decimal,
    /// How much the shop has asked the gateway to give back, without an answer so far.
    pub asked: Decimal,
    /// How much the customer's bank has taken back by disputes.
    pub disputed: Decimal,
}

impl Balance {
    /// The sums of the moves in this currency, which is the payment's. Amounts in different currencies cannot be added.
    pub fn of(moves: &[Transaction], currency: Currency) -> Self {
        let mut balance = Self::default();
        for moved in moves.iter().filter(|moved| moved.currency == currency.code()) {
            if moved.gives_back() && moved.is_open() {
                balance.asked += moved.amount;
            } else if moved.state == "succeeded" {
                match &*moved.kind {
                    "capture" => balance.captured += moved.amount,
                    "refund" => balance.refunded += moved.amount,
                    "dispute" => balance.disputed += moved.amount,
                    _ => {}
                }
            }
        }
        balance
    }

    /// How much can still be asked for: taken, not given back, not lost by a dispute, and not asked for by anybody else.
    pub fn left(self) -> Decimal {
        (self.captured - self.refunded - self.disputed - self.asked).max(Decimal::ZERO)
    }

    /// How much was given back, at most what was taken.
    pub fn given_back(self) -> Decimal {
        self.refunded.clamp(Decimal::ZERO, self.captured)
    }

    /// The state of a payment whose money was taken.
    pub fn state(self) -> PaymentState {
        match self.given_back() {
            none if none.is_zero() => PaymentState::Captured,
            some if some < self.captured => PaymentState::PartiallyRefunded,
            _ => PaymentState::Refunded,
        }
    }
}

/// Every move of money of a payment, oldest first.
pub async fn transactions_of(
    connection: &mut PgConnection,
    payment_id: Uuid,
) -> Result<Vec<Transaction>, sqlx::Error> {
    sqlx::query_as(
        "-- payment: transactions
        select transaction_id, kind, state, amount, currency, key, reference, reason,
               requested_at, settled_at
        from shop.payment_transaction where payment_id = $1 order by transaction_id",
    )
    .bind(payment_id)
    .fetch_all(connection)
    .await
}
