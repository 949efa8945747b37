//! Shipping an order: what is decided at once ([`begin`]), and what follows once its money is taken ([`complete`]) or refused
//! ([`withdraw`]). Between them the saga captures the payment.
//!
//! While the money is being taken, the order stays `confirmed`, but it has a tracking number already: that marks it as being shipped, and it cannot
//! be cancelled.

use uuid::Uuid;

use super::{
    OrderStatus,
    store::{LockedOrder, lock_order},
};
use crate::{
    events::{DomainEvent, tell},
    inventory::{self, Movement, MovementKind},
    money::Money,
    payment::{
        PaymentState,
        gateway::Reference,
        store::{Balance, transactions_of},
    },
    refusal::refusals,
    shop::Context,
    text::{self, BadField, BadText},
};

/// The command.
#[derive(Debug, Clone)]
pub struct ShipOrder {
    /// The order.
    pub order_id: Uuid,
    /// The carrier's number of the parcel, at most 100 characters.
    pub tracking_number: String,
    /// The carrier, at most 100 characters.
    pub carrier: String,
}

/// An order that is being shipped: its money is still to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipping {
    /// The gateway's reference of the authorization.
    pub reference: Reference,
    /// The amount to take.
    pub amount: Money,
}

refusals! {
    /// Why an order is not shipped.
    #[derive(Debug, thiserror::Error)]
    pub enum ShipOrderRefusal {
        /// Unknown.
        #[error("There is no such order.")]
        OrderNotFound => NotFound "order_not_found",
        /// It is not confirmed.
        #[error("an order that is {0} cannot be shipped")]
        InvalidStatusTransition(OrderStatus) => Conflict "invalid_status_transition",
        /// It is being shipped already.
        #[error("the order is being shipped already")]
        BeingShipped => Conflict "operation_in_progress",
        /// The tracking number is empty.
        #[error("an order is shipped with the carrier's tracking number")]
        MissingTracking => Unprocessable "missing_tracking" at "/trackingNumber",
        /// Tracking number or carrier are not fit to be kept.
        #[error(transparent)]
        InvalidText(#[from] BadField),
        /// No money is reserved for it any more.
        #[error("no money is reserved for the order any more: authorize another payment if it lapsed, or cancel the order")]
        NothingReserved => PaymentRequired "capture_failed",
        /// Another amount was taken at the provider, or some of it was given back. No other payment can be authorized for the order.
        #[error("{0} are taken for the order and not given back, which is not what it costs: cancel the order")]
        OtherAmountTaken(Money) => PaymentRequired "capture_failed",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Marks a confirmed order as being shipped, and notes that its money is to be taken. 2 round trips: lock customer, order and payment;
/// write order and capture. One more if money was taken: read the moves. 2 row operations.
pub async fn begin(
    ctx: &mut Context<'_>,
    command: &ShipOrder,
) -> Result<Shipping, ShipOrderRefusal> {
    let tracking_number = match text::field("trackingNumber", &command.tracking_number, 100) {
        Err(BadField { problem: BadText::Missing, .. }) => {
            return Err(ShipOrderRefusal::MissingTracking);
        }
        checked => checked?,
    };
    let carrier = text::field("carrier", &command.carrier, 100)?;
    let order = lock_order(ctx, command.order_id).await?.ok_or(ShipOrderRefusal::OrderNotFound)?;
    if order.status != OrderStatus::Confirmed {
        return Err(ShipOrderRefusal::InvalidStatusTransition(order.status));
    }
    if order.is_being_shipped() {
        return Err(ShipOrderRefusal::BeingShipped);
    }
    let reserved =
        order.payment_state == PaymentState::Authorized || order.payment_state.is_taken();
    let reference = order.authorization_id.clone().filter(|_| reserved).map(Reference);
    let reference = reference.ok_or(ShipOrderRefusal::NothingReserved)?;
    let amount = order.paid_amount()?;
    let kept = kept(ctx, &order, amount).await?;
    if kept != amount {
        return Err(ShipOrderRefusal::OtherAmountTaken(kept));
    }
    sqlx::query(
        r#"-- ship: begin
        with asked as (
            insert into shop.payment_transaction
                (transaction_id, payment_id, kind, state, amount, currency, requested_at)
            -- A capture by hand at the provider is in the books already.
            select $4, $5, 'capture', 'requested', $6, $7, $8 where $9
        )
        update shop."order" set tracking_number = $2, carrier = $3, version = version + 1,
            updated_at = $8
        where order_id = $1"#,
    )
    .bind(order.order_id)
    .bind(tracking_number)
    .bind(carrier)
    .bind(Uuid::now_v7())
    .bind(order.payment_id)
    .bind(amount.amount())
    .bind(amount.currency().code())
    .bind(order.now)
    .bind(order.payment_state == PaymentState::Authorized)
    .execute(&mut **ctx)
    .await?;
    Ok(Shipping { reference, amount })
}

/// How much of the payment is taken and not given back, or can be taken.
async fn kept(
    ctx: &mut Context<'_>,
    order: &LockedOrder,
    paid: Money,
) -> Result<Money, sqlx::Error> {
    if !order.payment_state.is_taken() {
        return Ok(paid);
    }
    let balance = Balance::of(&transactions_of(ctx, order.payment_id).await?, paid.currency());
    Money::stored(balance.captured - balance.given_back(), paid.currency().code())
}

/// Ships an order whose money is taken: its stock is deducted, and its status becomes `shipped`. The saga that ships the order calls this after the
/// capture. Returns false, and changes nothing, if the order is not being shipped. 6 round trips: lock customer, order and payment; lock stock; write
/// stock and audit; write order and payment; record the events and count the message; publish OrderShippedNotification. 5 row operations, 2 for each
/// line, and 1 for each event.
pub async fn complete(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    key: &str,
) -> Result<bool, sqlx::Error> {
    let Some(order) = lock_order(ctx, order_id).await? else { return Ok(false) };
    let (true, Some(tracking_number), Some(carrier)) =
        (order.is_being_shipped(), order.tracking_number.clone(), order.carrier.clone())
    else {
        return Ok(false);
    };
    ctx.learn_now(order.now);
    let actor = ctx.cause.actor.id();
    let deducted: Vec<Movement> = inventory::lock_held_by(ctx, order_id)
        .await?
        .into_iter()
        .map(|held| Movement {
            kind: match (held.quantity, held.by_hand) {
                (0, by_hand) => MovementKind::ReleaseFromOrder(by_hand),
                (quantity, by_hand) => MovementKind::DeductForShipment { quantity, by_hand },
            },
            before: held.stock,
            actor,
            reason: "order_shipped".to_owned(),
            order_id: Some(order_id),
        })
        .collect();
    let mut happened = inventory::write(ctx, &deducted).await?;
    let told = tell([DomainEvent::OrderShipped {
        order_id,
        order_number: order.order_number.clone(),
        tracking_number,
        carrier,
        shipped_at: order.now,
        customer_id: order.customer_id,
    }]);
    sqlx::query(
        r#"-- ship: complete
        with taken as (
            -- Some of it may have been given back at the provider meanwhile.
            update shop.payment set state = 'captured', updated_at = $5, ask_at = null
            where payment_id = $2 and state = 'authorized'
        ), moved as (
            update shop.payment_transaction
            set state = 'succeeded', key = $3, reference = $6, settled_at = $5
            where payment_id = $2 and kind = 'capture' and settled_at is null
        )
        update shop."order" set status = 'shipped', version = version + 1,
            event_count = event_count + $4, updated_at = $5
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(order.payment_id)
    .bind(key)
    .bind(told.count())
    .bind(order.now)
    .bind(&order.authorization_id)
    .execute(&mut **ctx)
    .await?;
    happened.extend(told.after(order.event_count));
    ctx.record(happened).await?;
    Ok(true)
}

/// Takes the mark of being shipped back, and settles the capture as failed for this reason (a code). The order stays `confirmed`. Changes nothing if the
/// order is not being shipped. 2 round trips.
pub async fn withdraw(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let order = lock_order(ctx, order_id).await?.filter(LockedOrder::is_being_shipped);
    let Some(order) = order else { return Ok(()) };
    sqlx::query(
        r#"-- ship: withdraw
        with moved as (
            update shop.payment_transaction set state = 'failed', reason = $3, settled_at = $4
            where payment_id = $2 and kind = 'capture' and settled_at is null
        )
        update shop."order" set tracking_number = null, carrier = null, version = version + 1,
            updated_at = $4
        where order_id = $1"#,
    )
    .bind(order_id)
    .bind(order.payment_id)
    .bind(reason)
    .bind(order.now)
    .execute(&mut **ctx)
    .await?;
    Ok(())
}
