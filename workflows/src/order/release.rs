//! The way back of an order that could not be placed: its stock, its cart, and its end.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    OrderStatus,
    store::{LockedOrder, lock_placement},
};
use crate::{
    events::Numbered,
    integration::Notification,
    inventory::{self, Movement, MovementKind},
    payment::{PaymentFailure, PaymentState},
    shop::Context,
};

/// Why an order is not placed after all, which decides how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The payment was not authorized: the order ends `failed`.
    Failed(PaymentFailure),
    /// It was cancelled while it was being placed: the order ends `cancelled`.
    Cancelled,
}

impl Ending {
    fn status(&self) -> OrderStatus {
        match self {
            Self::Failed(_) => OrderStatus::Failed,
            Self::Cancelled => OrderStatus::Cancelled,
        }
    }

    fn payment_state(&self) -> PaymentState {
        match self {
            Self::Failed(failure) => failure.ends_as(),
            Self::Cancelled => PaymentState::Voided,
        }
    }

    fn failure(&self) -> Option<&PaymentFailure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Cancelled => None,
        }
    }
}

/// Money that was reserved for the order and given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// The gateway's reference of the authorization.
    pub authorization_id: String,
    /// The key under which it was confirmed.
    pub key: String,
    /// The key under which it was voided; `None`: not by a void of ours. Somebody at the provider may have taken the money, and the books do not know
    /// which moves have given it back.
    pub void_key: Option<String>,
}

impl Voided {
    /// The state in which the payment is left. Where the books do not know the moves, it is `authorized` and the gateway is asked at once.
    pub(super) fn payment_state(&self) -> PaymentState {
        match self.void_key {
            Some(_) => PaymentState::Voided,
            None => PaymentState::Authorized,
        }
    }
}

/// The result for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Its stock is free, its cart open; it is `failed` or `cancelled`.
    Released,
    /// It was no longer `placing`: nothing was changed.
    NotPlacing(OrderStatus),
    /// There is no such order.
    NotFound,
}

/// Gives back the stock of an order that is being placed, opens its cart and ends it. There was no
/// OrderPlaced, so there is no OrderCancelled. 5 round trips, one more to publish
/// PaymentFailedNotification: lock cart, order and payment; lock stock by (product, variant); write
/// stock and audit; write the rest (with the authorization and its void, if there were some); record
/// InventoryReleased and count the message.
pub async fn release(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    ending: &Ending,
    voided: Option<&Voided>,
) -> Result<Release, sqlx::Error> {
    let Some(placement) = lock_placement(ctx, order_id).await? else {
        return Ok(Release::NotFound);
    };
    let order = placement.order;
    if order.status != OrderStatus::Placing {
        return Ok(Release::NotPlacing(order.status));
    }
    ctx.learn_now(order.now);
    let reason = if ending.failure().is_some() { "payment_failed" } else { "order_cancelled" };
    let told = give_back(ctx, order_id, reason).await?;
    write(ctx, &order, ending, voided).await?;
    let failed = match ending.failure() {
        None => None,
        Some(failure) => Some(Notification::PaymentFailed {
            order_id,
            customer_id: order.customer_id,
            amount: order.paid_amount()?,
            failure_reason: failure.code().to_owned(),
        }),
    };
    ctx.record_and_publish(told, failed).await?;
    Ok(Release::Released)
}

async fn write(
    tx: &mut PgConnection,
    order: &LockedOrder,
    ending: &Ending,
    voided: Option<&Voided>,
) -> Result<(), sqlx::Error> {
    let failure = ending.failure().map(PaymentFailure::code);
    let state = voided.map_or_else(|| ending.payment_state(), Voided::payment_state);
    sqlx::query(
        r#"-- release: end the order
        with ended as (
            update shop."order" set status = $4, failure_reason = $6, version = version + 1,
                updated_at = $7
            where order_id = $1
        ), paid as (
            update shop.payment set state = $5, failure_reason = $6, authorization_id = $8,
                ask_at = case when $5 = 'authorized' then $7 end, updated_at = $7
            where payment_id = $2
        ), moved as (
            update shop.payment_transaction set settled_at = $7, reference = $8, key = $9,
                state = case when $8 is null then 'failed' else 'succeeded' end,
                reason = case when $8 is null then coalesce($6, 'order_cancelled') end
            where payment_id = $2 and kind = 'authorize' and settled_at is null
            returning payment_id, amount, currency
        ), voided as (
            insert into shop.payment_transaction
                (transaction_id, payment_id, kind, state, amount, currency, key, reference,
                 requested_at, settled_at)
            select $10, payment_id, 'void', 'succeeded', amount, currency, $11, $8,
                   $7, $7
            from moved where $11 is not null
        )
        update shop.cart set checkout_order_id = null, version = version + 1
        where cart_id = $3 and checkout_order_id = $1"#,
    )
    .bind(order.order_id)
    .bind(order.payment_id)
    .bind(order.cart_id)
    .bind(ending.status().as_str())
    .bind(state.as_str())
    .bind(failure)
    .bind(order.now)
    .bind(voided.map(|voided| &voided.authorization_id))
    .bind(voided.map(|voided| &voided.key))
    .bind(Uuid::now_v7())
    .bind(voided.and_then(|voided| voided.void_key.as_ref()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Releases the stock that the order's placement and people have reserved for it. The caller has locked the order's row, and
/// records the events. 2 round trips; 1 if nothing is reserved.
pub(super) async fn give_back(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    reason: &str,
) -> Result<Vec<Numbered>, sqlx::Error> {
    let held = inventory::lock_held_by(ctx, order_id).await?;
    let actor = ctx.cause.actor.id();
    let movements: Vec<Movement> = held
        .into_iter()
        .map(|held| Movement {
            kind: MovementKind::ReleaseFromOrder(held.quantity + held.by_hand),
            before: held.stock,
            actor,
            reason: reason.to_owned(),
            order_id: Some(order_id),
        })
        .collect();
    if movements.is_empty() {
        return Ok(Vec::new());
    }
    inventory::write(ctx, &movements).await
}
