//! Cancelling an order: what is decided at once ([`begin`]). Then a saga voids the authorization, or refunds what was captured; what follows once the
//! money is back is in [`super::refund`].
//! A cancellation that was accepted while the order was being placed looks what became of the order once
//! its placement has ended ([`after_placement`]), and cancels it if it stands all the same ([`cancel_as_asked`]).

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    OrderStatus,
    release::{self, Ending, Release, Voided, give_back},
    store::{LockedOrder, lock_order},
};
use crate::{
    events::{DomainEvent, Sealed, tell},
    money::Money,
    payment::{
        PaymentState,
        gateway::Reference,
        store::{Balance, Transaction, transactions_of},
    },
    privacy::KeyStoreError,
    refusal::refusals,
    shop::{Context, Shop},
    text::{self, BadField},
};

/// The command.
#[derive(Debug, Clone)]
pub struct CancelOrder {
    /// The order.
    pub order_id: Uuid,
    /// Why, in the caller's words.
    pub reason: String,
    /// The customer who asks; only their own orders are found. `None`: an admin asks.
    pub customer_id: Option<Uuid>,
}

/// The result of a cancellation that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelling {
    /// The order is cancelled and its stock free, for good; its money is to be given back.
    Refund(MoneyBack),
    /// The order is still being placed: nothing is decided yet, tell the placement to unwind.
    SignalPlacement,
    /// It was cancelled before: the answer is that of the first time.
    AlreadyCancelled,
}

/// The money to be given back for a cancelled order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyBack {
    /// The payment.
    pub payment_id: Uuid,
    /// The row of the void or refund in the books.
    pub row: Uuid,
    /// How much.
    pub amount: Money,
    /// How.
    pub how: HowBack,
}

/// How the money is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HowBack {
    /// It is only reserved: void the authorization.
    Void(Reference),
    /// It was taken: refund it.
    Refund(Reference),
    /// There is none any more: the authorization lapsed or all was refunded before.
    Nothing,
}

refusals! {
    /// Why an order cannot be cancelled.
    #[derive(Debug, thiserror::Error)]
    pub enum CancelOrderRefusal {
        /// It is unknown or belongs to another customer.
        #[error("There is no such order.")]
        OrderNotFound => NotFound "order_not_found",
        /// It is being shipped, on its way, or has arrived.
        #[error("the order is being shipped, or was shipped already")]
        AlreadyShipped => Conflict "already_shipped",
        /// It has ended otherwise.
        #[error("an order that is {0} cannot be cancelled")]
        InvalidStatusTransition(OrderStatus) => Conflict "invalid_status_transition",
        /// The reason is missing or not fit to be kept.
        #[error(transparent)]
        InvalidReason(#[from] BadField),
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Decides a cancellation under the lock of the order's row. A pending or confirmed order is
/// cancelled at once and its stock freed: from here on there is no way back. 6 round trips: lock
/// customer, order and payment; lock stock; write stock and audit; write order and the void or refund
/// asked for; record InventoryReleased and OrderCancelled, and count the message; publish
/// OrderCancelledNotification. One more if money was taken: read the moves. While placing 2: only the reason is
/// noted, and the caller signals the placement.
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &CancelOrder,
) -> Result<Cancelling, CancelOrderRefusal> {
    let reason = text::field("reason", &command.reason, 500)?;
    let order = lock_order(ctx, command.order_id)
        .await?
        .filter(|order| command.customer_id.is_none_or(|caller| caller == order.customer_id))
        .ok_or(CancelOrderRefusal::OrderNotFound)?;
    if order.is_being_shipped() {
        return Err(CancelOrderRefusal::AlreadyShipped);
    }
    match order.status {
        OrderStatus::Pending | OrderStatus::Confirmed => {
            let reason = sealed(ctx.shop, order.customer_id, &reason).await?;
            Ok(Cancelling::Refund(cancel(ctx, &order, reason).await?))
        }
        OrderStatus::Placing => {
            let reason = sealed(ctx.shop, order.customer_id, &reason).await?;
            note_reason(ctx, order.order_id, &reason).await?;
            Ok(Cancelling::SignalPlacement)
        }
        OrderStatus::Cancelled => Ok(Cancelling::AlreadyCancelled),
        OrderStatus::Shipped | OrderStatus::Delivered => Err(CancelOrderRefusal::AlreadyShipped),
        OrderStatus::Failed => Err(CancelOrderRefusal::InvalidStatusTransition(order.status)),
    }
}

/// The state of an order whose placement has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterPlacement {
    /// It is cancelled, its stock free and its cart open.
    Cancelled,
    /// It failed for another reason.
    Failed,
    /// It was placed and can be cancelled.
    Placed,
    /// It was placed, and is being shipped or on its way already.
    Shipped,
}

/// Looks, under the order's lock, what became of an order whose placement has ended. One that was left `placing` is cancelled
/// here: nobody else would end it. `None`: there is no such order. 2 round trips, and those of [`release`] if it is cancelled.
pub async fn after_placement(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    voided: Option<&Voided>,
) -> Result<Option<AfterPlacement>, sqlx::Error> {
    // Cancelling it may follow in this transaction, and locks the customer, who comes before the cart.
    sqlx::query(
        r#"-- cancel: lock customer
        select from shop.customer
        where customer_id = (select customer_id from shop."order" where order_id = $1) for share"#,
    )
    .bind(order_id)
    .execute(&mut **ctx)
    .await?;
    Ok(match release::release(ctx, order_id, &Ending::Cancelled, voided).await? {
        Release::NotFound => None,
        Release::Released | Release::NotPlacing(OrderStatus::Cancelled) => {
            Some(AfterPlacement::Cancelled)
        }
        Release::NotPlacing(OrderStatus::Pending | OrderStatus::Confirmed) => {
            let order = lock_order(ctx, order_id).await?;
            Some(match order.is_some_and(|order| order.is_being_shipped()) {
                true => AfterPlacement::Shipped,
                false => AfterPlacement::Placed,
            })
        }
        Release::NotPlacing(OrderStatus::Shipped | OrderStatus::Delivered) => {
            Some(AfterPlacement::Shipped)
        }
        Release::NotPlacing(OrderStatus::Failed | OrderStatus::Placing) => {
            Some(AfterPlacement::Failed)
        }
    })
}

/// Cancels a placed order for the reason that was noted while it was being placed. `None`: it cannot be cancelled, or nobody has asked
/// for it. 6 round trips, one more if money was taken.
pub async fn cancel_as_asked(
    ctx: &mut Context<'_>,
    order_id: Uuid,
) -> Result<Option<MoneyBack>, sqlx::Error> {
    let order = lock_order(ctx, order_id).await?.filter(|order| !order.is_being_shipped());
    let Some(order) = order else { return Ok(None) };
    let (OrderStatus::Pending | OrderStatus::Confirmed, Some(reason)) =
        (order.status, order.cancel_reason.clone())
    else {
        return Ok(None);
    };
    cancel(ctx, &order, Sealed::from_text(reason)).await.map(Some)
}

/// Free text may name anybody, so it is sealed before it is written anywhere.
async fn sealed(shop: &Shop, customer: Uuid, reason: &str) -> Result<Sealed, KeyStoreError> {
    let key = shop.keys.get(customer).await?.ok_or(KeyStoreError::Destroyed)?;
    Ok(Sealed::new(&key, customer, "reason", &reason))
}

async fn note_reason(
    tx: &mut PgConnection,
    order_id: Uuid,
    reason: &Sealed,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- cancel: note why, while placing
        update shop."order" set cancel_reason = $2, updated_at = saga.now()
        where order_id = $1 and cancel_reason is null"#,
    )
    .bind(order_id)
    .bind(reason.as_text())
    .execute(tx)
    .await?;
    Ok(())
}

async fn cancel(
    ctx: &mut Context<'_>,
    order: &LockedOrder,
    reason: Sealed,
) -> Result<MoneyBack, sqlx::Error> {
    let order_id = order.order_id;
    let moves = match order.payment_state.is_taken() {
        true => transactions_of(ctx, order.payment_id).await?,
        false => Vec::new(),
    };
    let back = money_back(order, &moves)?;
    ctx.learn_now(order.now);
    let released = give_back(ctx, order_id, "order_cancelled").await?;
    let told = tell([DomainEvent::OrderCancelled {
        order_id,
        order_number: order.order_number.clone(),
        customer_id: order.customer_id,
        reason: reason.clone(),
        line_items: order.line_items().to_vec(),
        cancelled_at: order.now,
        refund_amount: back.amount,
    }]);
    sqlx::query(
        r#"-- cancel: write
        with asked as (
            insert into shop.payment_transaction
                (transaction_id, payment_id, kind, state, amount, currency, requested_at)
            select $3, $4, $5, 'requested', $6, $7, $9 where $5 is not null
        )
        update shop."order" set status = 'cancelled', cancel_reason = $2, version = version + 1,
            event_count = event_count + $8, updated_at = $9
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(reason.as_text())
    .bind(back.row)
    .bind(back.payment_id)
    .bind(match back.how {
        HowBack::Void(_) => Some("void"),
        HowBack::Refund(_) => Some("refund"),
        HowBack::Nothing => None,
    })
    .bind(back.amount.amount())
    .bind(back.amount.currency().code())
    .bind(told.count())
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    ctx.record(released.into_iter().chain(told.after(order.event_count))).await?;
    Ok(back)
}

/// The money to give back: what is reserved, or what is left of what was taken. Not all that was authorized need have been taken, and a
/// part may be back already.
fn money_back(order: &LockedOrder, moves: &[Transaction]) -> Result<MoneyBack, sqlx::Error> {
    let paid = order.paid_amount()?;
    let left = Money::stored(Balance::of(moves, paid.currency()).left(), paid.currency().code())?;
    let reference = order.authorization_id.clone().map(Reference);
    let (how, amount) = match (order.payment_state, reference) {
        (PaymentState::Authorized, Some(reference)) => (HowBack::Void(reference), paid),
        (state, Some(reference)) if state.is_taken() && left.amount() > Decimal::ZERO => {
            (HowBack::Refund(reference), left)
        }
        _ => (HowBack::Nothing, Money::zero(paid.currency())),
    };
    Ok(MoneyBack { payment_id: order.payment_id, row: Uuid::now_v7(), amount, how })
}
