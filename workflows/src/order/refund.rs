//! Giving taken money back: what is decided at once ([`begin`]), and what follows once the gateway has given it back ([`complete`]) or has not
//! ([`fail`]). Between them a saga asks the gateway. Cancelling an order uses the second half as well.
//!
//! A refund is a row of its payment from the moment it is asked for, so refunds at the same moment know of each other: together they never ask for
//! more than was taken. A refund that the gateway has accepted counts as done. If it fails later, [`super::outside`] corrects the books.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    OrderStatus,
    store::{LockedOrder, lock_order},
};
use crate::{
    events::{DomainEvent, Told, tell},
    money::Money,
    payment::{
        PaymentState,
        gateway::Reference,
        store::{Balance, Transaction, transactions_of},
    },
    refusal::refusals,
    shop::Context,
};

/// The command.
#[derive(Debug, Clone)]
pub struct RefundPayment {
    /// The order whose payment is given back.
    pub order_id: Uuid,
    /// How much of it.
    pub amount: Money,
}

/// A refund that is asked for: the gateway is still to give the money back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunding {
    /// The refund's row in the books.
    pub row: Uuid,
    /// The gateway's reference of the authorization.
    pub reference: Reference,
}

refusals! {
    /// Why a payment is not refunded.
    #[derive(Debug, thiserror::Error)]
    pub enum RefundPaymentRefusal {
        /// There is no such order, and so no payment.
        #[error("There is no payment of such an order.")]
        PaymentNotFound => NotFound "payment_not_found",
        /// Zero, or in another currency.
        #[error("a refund is more than zero, in the currency of the payment")]
        InvalidAmount => Unprocessable "invalid_amount" at "/amount",
        /// Nothing was taken under the payment.
        #[error("nothing was taken under a payment that is {0}, so nothing can be refunded")]
        PaymentNotCaptured(PaymentState) => Conflict "payment_not_captured",
        /// The order was neither shipped nor cancelled.
        #[error("an order that is {0} gets its money back when it is cancelled")]
        OrderNotShipped(OrderStatus) => Conflict "order_not_shipped",
        /// Less is left than is asked for.
        #[error("{0} are left of the payment after what other refunds have given back or asked for")]
        RefundExceedsPayment(Money) => Unprocessable "refund_exceeds_payment" at "/amount",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Checks a refund against everything that was taken, given back and asked for, and notes that it is asked for. 3 round trips: lock customer, order
/// and payment; read the moves; write the refund. 1 row operation.
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &RefundPayment,
) -> Result<Refunding, RefundPaymentRefusal> {
    let RefundPayment { order_id, amount } = *command;
    let order = lock_order(ctx, order_id).await?.ok_or(RefundPaymentRefusal::PaymentNotFound)?;
    let currency = order.paid_amount()?.currency();
    if amount.amount().is_zero() || amount.currency() != currency {
        return Err(RefundPaymentRefusal::InvalidAmount);
    }
    let reference = order.authorization_id.filter(|_| order.payment_state.is_taken());
    let not_taken = RefundPaymentRefusal::PaymentNotCaptured(order.payment_state);
    let reference = Reference(reference.ok_or(not_taken)?);
    if !matches!(
        order.status,
        OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Cancelled
    ) {
        return Err(RefundPaymentRefusal::OrderNotShipped(order.status));
    }
    // Read under the lock, and not by the statement that waited for it: that one may not see what it has waited for.
    let left = Balance::of(&transactions_of(ctx, order.payment_id).await?, currency).left();
    if amount.amount() > left {
        let left = Money::stored(left, currency.code())?;
        return Err(RefundPaymentRefusal::RefundExceedsPayment(left));
    }
    let row = Uuid::now_v7();
    sqlx::query(
        "-- refund: begin
        insert into shop.payment_transaction
            (transaction_id, payment_id, kind, state, amount, currency, requested_at)
        values ($1, $2, 'refund', 'requested', $3, $4, $5)",
    )
    .bind(row)
    .bind(order.payment_id)
    .bind(amount.amount())
    .bind(currency.code())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    Ok(Refunding { row, reference })
}

/// The money that the gateway gave back.
#[derive(Debug, Clone)]
pub struct Refunded {
    /// The row of the void or refund that was asked for. `None` in what earlier builds have stored: the only one that is open.
    pub row: Option<Uuid>,
    /// The provider's reference of the void or the refund.
    pub refund_id: String,
    /// How much was released or refunded.
    pub amount: Money,
    /// The idempotency key the gateway was given.
    pub key: String,
    /// Whether the money had been taken, as the gateway says. Our books may not have it yet.
    pub captured: bool,
    /// How much had been taken, if the gateway was asked. `None`: as much as the books say, or else all.
    pub taken: Option<Money>,
}

impl Refunded {
    /// The row in the books that this settles.
    fn row_in<'a>(&self, moves: &'a [Transaction]) -> Option<&'a Transaction> {
        match self.row {
            Some(row) => moves.iter().find(|moved| moved.transaction_id == row),
            None => moves.iter().filter(|moved| moved.gives_back()).max_by_key(|m| m.is_open()),
        }
    }
}

/// Books that the gateway has given money back, and records PaymentRefunded, from which RefundProcessedNotification follows. The sagas that refund a
/// payment or cancel an order call this after the gateway's answer. If the void or refund was booked before, nothing changes and nothing is recorded.
/// Returns false if no such void or refund was asked for, the amount is in another currency, or nothing was reserved or taken under the payment. 5 round
/// trips: lock customer, order and payment; read the moves; write them; record, and count the message; publish.
pub async fn complete(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    refund: &Refunded,
) -> Result<bool, sqlx::Error> {
    let Some(order) = lock_order(ctx, order_id).await? else { return Ok(false) };
    let moves = transactions_of(ctx, order.payment_id).await?;
    let Some(row) = refund.row_in(&moves) else { return Ok(false) };
    if !row.is_open() {
        return Ok(true);
    }
    let currency = order.paid_amount()?.currency();
    if [Some(refund.amount), refund.taken].iter().flatten().any(|m| m.currency() != currency) {
        return Ok(false);
    }
    ctx.learn_now(order.now);
    let mut settled = Settled { row: row.transaction_id, kind: "refund", ..Settled::default() };
    match order.payment_state {
        PaymentState::Authorized if !refund.captured => settled.kind = "void",
        PaymentState::Authorized => {
            settled.taken = Some(refund.taken.map_or_else(|| order.paid_amount(), Ok)?);
        }
        state if state.is_taken() => {}
        // Released outside of the shop meanwhile.
        PaymentState::Voided => {
            fail(ctx, order_id, refund.row, None, DONE_OUTSIDE).await?;
            return Ok(true);
        }
        _ => return Ok(false),
    }
    let told = tell([given_back(&order, refund.amount, &refund.refund_id)]);
    let mut balance = Balance::of(&moves, currency);
    balance.captured += settled.taken.map_or_else(Default::default, Money::amount);
    balance.refunded += refund.amount.amount();
    settle(ctx, &order, refund, &settled, balance, &told).await?;
    ctx.record(told.after(order.payment_event_count)).await?;
    Ok(true)
}

/// The event that money of the order's payment is back.
pub(super) fn given_back(order: &LockedOrder, amount: Money, refund_id: &str) -> DomainEvent {
    DomainEvent::PaymentRefunded {
        payment_id: order.payment_id,
        order_id: order.order_id,
        refund_amount: amount,
        refund_id: refund_id.to_owned(),
        refunded_at: order.now,
        customer_id: order.customer_id,
    }
}

/// The settling of an open row.
#[derive(Default)]
struct Settled {
    row: Uuid,
    /// `void` or `refund`: a void that met captured money was a refund.
    kind: &'static str,
    /// A capture that the books did not have, which comes before the refund.
    taken: Option<Money>,
}

/// Settles the void or refund; the caller holds order and payment. 1 round trip, 3 or 4 row operations.
async fn settle(
    tx: &mut PgConnection,
    order: &LockedOrder,
    refund: &Refunded,
    settled: &Settled,
    balance: Balance,
    told: &Told,
) -> Result<(), sqlx::Error> {
    let (state, given_back) = match settled.kind {
        "void" => (PaymentState::Voided, order.refunded_amount()?.amount()),
        // More than was authorized may have been taken outside.
        _ => (balance.state(), balance.given_back().min(order.paid_amount()?.amount())),
    };
    sqlx::query(
        r#"-- refund: complete
        with taken as (
            insert into shop.payment_transaction
                (transaction_id, payment_id, kind, state, amount, currency, reference, requested_at, settled_at)
            select $8, payment_id, 'capture', 'succeeded', $9, currency, authorization_id, $7, $7
            from shop.payment where payment_id = $1 and $9 is not null
        ), moved as (
            update shop.payment_transaction
            set state = 'succeeded', kind = $10, amount = $3, reference = $4, key = $5, settled_at = $7
            where transaction_id = $11
        ), shown as (
            -- The order shows its payment, so its entity tag changes.
            update shop."order" set version = version + 1, updated_at = $7 where order_id = $13
        )
        update shop.payment set state = $2, event_count = event_count + $6, refunded_amount = $12,
            updated_at = $7, ask_at = null
        where payment_id = $1"#,
    )
    .bind(order.payment_id)
    .bind(state.as_str())
    .bind(refund.amount.amount())
    .bind(&refund.refund_id)
    .bind(&refund.key)
    .bind(told.count())
    .bind(order.now)
    .bind(Uuid::now_v7())
    .bind(settled.taken.map(Money::amount))
    .bind(settled.kind)
    .bind(settled.row)
    .bind(given_back)
    .bind(order.order_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// The reason of a void or refund that somebody outside of the shop was faster with.
pub const DONE_OUTSIDE: &str = "done_outside";

/// Settles a void or refund as not done, for this reason (a code): the payment's balance stays as it is. `row` is `None` in what earlier builds have
/// stored: the only one that is open. `key`: the one that the gateway was given, if it has answered. 1 round trip.
pub async fn fail(
    tx: &mut PgConnection,
    order_id: Uuid,
    row: Option<Uuid>,
    key: Option<&str>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- refund: fail
        update shop.payment_transaction
        set state = 'failed', key = $3, reason = $4, settled_at = saga.now()
        where payment_id = (select payment_id from shop."order" where order_id = $1)
            and ($2::uuid is null or transaction_id = $2)
            and kind in ('void', 'refund') and settled_at is null"#,
    )
    .bind(order_id)
    .bind(row)
    .bind(key)
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(())
}

/// Settles as not done every void or refund of an order that was asked for, except these rows: the sagas that were to settle the others were handed
/// over to a person. Returns true if there were some. 1 round trip.
pub async fn withdraw_others(
    tx: &mut PgConnection,
    order_id: Uuid,
    except: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let withdrawn = sqlx::query(
        r#"-- refund: withdraw others
        update shop.payment_transaction
        set state = 'failed', reason = 'handed_over', settled_at = saga.now()
        where payment_id = (select payment_id from shop."order" where order_id = $1)
            and transaction_id <> all($2) and kind in ('void', 'refund') and settled_at is null"#,
    )
    .bind(order_id)
    .bind(except)
    .execute(tx)
    .await?;
    Ok(withdrawn.rows_affected() > 0)
}
