//! Completing an order whose payment is authorized.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    events::{DomainEvent, Sealed, Told, tell},
    order::{
        OrderStatus,
        store::{LockedOrder, lock_placement},
    },
    shop::Context,
};

/// The authorization at the payment gateway.
#[derive(Debug, Clone)]
pub struct Authorized {
    /// The gateway's reference of the authorization.
    pub authorization_id: String,
    /// The idempotency key the gateway was given.
    pub key: String,
}

/// The result for an order whose payment was authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It is `pending` now, and published.
    Placed,
    /// It was no longer `placing`: nothing was changed, and the payment is to be voided.
    NotPlacing(OrderStatus),
    /// There is no such order.
    NotFound,
}

/// Makes a paid order `pending`, clears its cart, and tells of it. 4 round trips: lock cart, order
/// and payment in this order; write them; record PaymentAuthorized, OrderPlaced and CartCleared, and
/// count the message; publish OrderPlacedNotification. 5 row operations, 3 events, 1 message, and the
/// cart's items.
pub async fn complete(
    ctx: &mut Context<'_>,
    order_id: Uuid,
    authorized: &Authorized,
) -> Result<Completion, sqlx::Error> {
    let Some(placement) = lock_placement(ctx, order_id).await? else {
        return Ok(Completion::NotFound);
    };
    let order = &placement.order;
    if order.status != OrderStatus::Placing {
        return Ok(Completion::NotPlacing(order.status));
    }
    ctx.learn_now(order.now);
    let paid = tell([DomainEvent::PaymentAuthorized {
        payment_id: order.payment_id,
        order_id,
        amount: order.paid_amount()?,
        authorization_id: authorized.authorization_id.clone(),
        payment_method: order.method.clone(),
        authorized_at: order.now,
    }]);
    let placed = tell([DomainEvent::OrderPlaced {
        order_id,
        order_number: order.order_number.clone(),
        customer_id: order.customer_id,
        line_items: order.line_items().to_vec(),
        subtotal: order.subtotal()?,
        shipping_cost: order.shipping_cost()?,
        tax: order.tax()?,
        total_amount: order.total_amount()?,
        shipping_address: Sealed::from_text(order.shipping_address.clone()),
        created_at: order.created_at,
    }]);
    let cleared = tell([DomainEvent::CartCleared {
        cart_id: order.cart_id,
        customer_id: order.customer_id,
        reason: "order_placed",
        cleared_at: order.now,
    }]);
    write(ctx, order, authorized, [&placed, &paid, &cleared]).await?;
    let told = [
        paid.after(order.payment_event_count),
        placed.after(order.event_count),
        cleared.after(placement.cart_event_count),
    ];
    ctx.record(told.into_iter().flatten()).await?;
    Ok(Completion::Placed)
}

async fn write(
    tx: &mut PgConnection,
    order: &LockedOrder,
    authorized: &Authorized,
    [placed, paid, cleared]: [&Told; 3],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- place: complete
        with placed as (
            update shop."order" set status = 'pending', event_count = event_count + $6,
                version = version + 1, updated_at = $9
            where order_id = $1
        ), paid as (
            update shop.payment set state = 'authorized', authorization_id = $4,
                event_count = event_count + $7, updated_at = $9
            where payment_id = $2
        ), moved as (
            update shop.payment_transaction set state = 'succeeded', key = $5, reference = $4,
                settled_at = $9
            where payment_id = $2 and kind = 'authorize' and settled_at is null
        ), emptied as (
            delete from shop.cart_item where cart_id = $3
        )
        update shop.cart set checkout_order_id = null, event_count = event_count + $8,
            version = version + 1, last_activity_at = $9
        where cart_id = $3"#,
    )
    .bind(order.order_id)
    .bind(order.payment_id)
    .bind(order.cart_id)
    .bind(&authorized.authorization_id)
    .bind(&authorized.key)
    .bind(placed.count())
    .bind(paid.count())
    .bind(cleared.count())
    .bind(order.now)
    .execute(tx)
    .await?;
    Ok(())
}
