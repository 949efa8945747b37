//! Completing an order whose payment is authorized.

use uuid::Uuid;

use crate::{
    events::{DomainEvent, Sealed, Told, tell},
    order::{
        OrderStatus,
        store::{LockedPlacement, lock_placement},
    },
    shop::{
        Context,
        record::{Making, counted, insert_events},
    },
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

/// Makes a paid order `pending`, clears its cart, and tells of it. 3 round trips: lock cart, order
/// and payment in this order; write them, record PaymentAuthorized, OrderPlaced and CartCleared, and
/// count the message; publish OrderPlacedNotification. 4 row operations, 3 events, 1 message, and the
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
    write(ctx, &placement, authorized, [placed, paid, cleared]).await?;
    Ok(Completion::Placed)
}

async fn write(
    ctx: &mut Context<'_>,
    placement: &LockedPlacement,
    authorized: &Authorized,
    [placed, paid, cleared]: [Told; 3],
) -> Result<(), sqlx::Error> {
    let order = &placement.order;
    let statement = sqlx::query(COMPLETE)
        .bind(order.payment_id)
        .bind(order.cart_id)
        .bind(&authorized.authorization_id)
        .bind(&authorized.key)
        .bind(placed.count())
        .bind(paid.count())
        .bind(cleared.count())
        .bind(order.now);
    let told = [
        paid.after(order.payment_event_count),
        placed.after(order.event_count),
        cleared.after(placement.cart_event_count),
    ];
    let making = Making { statement, counts: Some(order.order_id) };
    ctx.record_by(making, told.into_iter().flatten()).await
}

const COMPLETE: &str = concat!(
    r#"-- place: complete
    with paid as (
        update shop.payment set state = 'authorized', authorization_id = $3,
            event_count = event_count + $6, updated_at = $8
        where payment_id = $1
    ), moved as (
        update shop.payment_transaction set state = 'succeeded', key = $4, reference = $3,
            settled_at = $8
        where payment_id = $1 and kind = 'authorize' and settled_at is null
    ), emptied as (
        delete from shop.cart_item where cart_id = $2
    ), opened as (
        update shop.cart set checkout_order_id = null, event_count = event_count + $7,
            version = version + 1, last_activity_at = $8
        where cart_id = $2
    ), recorded as (
        "#,
    insert_events!(
        "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17", "$18", "$19", "$20"
    ),
    r#"
    )
    update shop."order" o set status = 'pending', event_count = event_count + $5,
        version = version + 1, updated_at = $8, "#,
    counted!("$22"),
    "
    where order_id = $21
    returning published_count, published_types"
);
