//! Completing an order whose payment is authorized.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    events::{self, DomainEvent, Numbered, Sealed},
    integration::{self, Notification, OrderPlacedNotification, Publication},
    order::{
        OrderStatus,
        store::{LockedOrder, LockedPlacement, lock_placement},
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
/// and payment in this order; write them; record PaymentAuthorized, OrderPlaced and CartCleared;
/// publish OrderPlacedNotification. 4 row operations, 3 events, 1 message, and the cart's items.
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
    write(ctx, order, authorized).await?;
    events::record(ctx, &told(&placement, authorized)?).await?;
    let notification = Notification::OrderPlaced(OrderPlacedNotification {
        order_id,
        order_number: order.order_number.clone(),
        customer_id: order.customer_id,
        total_amount: order.total_amount()?,
        item_count: order.item_count,
    });
    let publication =
        Publication { subject: order_id, sequence: order.published_count + 1, notification };
    integration::publish(ctx, &[publication]).await?;
    Ok(Completion::Placed)
}

async fn write(
    tx: &mut PgConnection,
    order: &LockedOrder,
    authorized: &Authorized,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- place: complete
        with placed as (
            update shop."order" set status = 'pending', event_count = event_count + 1,
                published_count = published_count + 1, version = version + 1,
                updated_at = saga.now()
            where order_id = $1
        ), paid as (
            update shop.payment set state = 'authorized', authorization_id = $4,
                event_count = event_count + 1, updated_at = saga.now()
            where payment_id = $2
        ), moved as (
            update shop.payment_transaction set state = 'succeeded', key = $5, reference = $4,
                settled_at = saga.now()
            where payment_id = $2 and kind = 'authorize' and settled_at is null
        ), emptied as (
            delete from shop.cart_item where cart_id = $3
        )
        update shop.cart set checkout_order_id = null, event_count = event_count + 1,
            version = version + 1, last_activity_at = saga.now()
        where cart_id = $3"#,
    )
    .bind(order.order_id)
    .bind(order.payment_id)
    .bind(order.cart_id)
    .bind(&authorized.authorization_id)
    .bind(&authorized.key)
    .execute(tx)
    .await?;
    Ok(())
}

fn told(
    placement: &LockedPlacement,
    authorized: &Authorized,
) -> Result<[Numbered; 3], sqlx::Error> {
    let order = &placement.order;
    Ok([
        DomainEvent::PaymentAuthorized {
            payment_id: order.payment_id,
            order_id: order.order_id,
            amount: order.paid_amount()?,
            authorization_id: authorized.authorization_id.clone(),
            payment_method: order.method.clone(),
            authorized_at: order.now,
        }
        .at(order.payment_event_count + 1),
        DomainEvent::OrderPlaced {
            order_id: order.order_id,
            order_number: order.order_number.clone(),
            customer_id: order.customer_id,
            line_items: order.line_items().to_vec(),
            subtotal: order.subtotal()?,
            shipping_cost: order.shipping_cost()?,
            tax: order.tax()?,
            total_amount: order.total_amount()?,
            shipping_address: Sealed::from_text(order.shipping_address.clone()),
            created_at: order.created_at,
        }
        .at(order.event_count + 1),
        DomainEvent::CartCleared {
            cart_id: order.cart_id,
            customer_id: order.customer_id,
            reason: "order_placed",
            cleared_at: order.now,
        }
        .at(placement.cart_event_count + 1),
    ])
}
