//! Completing orders whose payments are authorized.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    events::{DomainEvent, Numbered, Sealed, Told, tell},
    order::{
        OrderStatus,
        store::{LockedPlacement, lock_placements},
    },
    shop::{
        Cause, Context,
        column::column,
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

/// An order whose payment was authorized.
#[derive(Debug, Clone)]
pub struct Paid {
    /// The order.
    pub order_id: Uuid,
    /// The cause of its completion.
    pub cause: Cause,
    /// Its authorization.
    pub authorized: Authorized,
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

/// Makes paid orders `pending`, clears their carts, and tells of it. The results are in the order of `paid`. 3 round trips, whatever the number
/// of orders: lock carts, orders and payments in this order; write them, record PaymentAuthorized, OrderPlaced and CartCleared, and count the messages;
/// publish OrderPlacedNotification. 4 row operations, 3 events and 1 message an order, and the cart's items.
pub async fn complete(
    ctx: &mut Context<'_>,
    paid: &[Paid],
) -> Result<Vec<Completion>, sqlx::Error> {
    let ids: Vec<Uuid> = paid.iter().map(|order| order.order_id).collect();
    let mut locked: HashMap<Uuid, LockedPlacement> = lock_placements(ctx, &ids)
        .await?
        .into_iter()
        .map(|placement| (placement.order.order_id, placement))
        .collect();
    let mut completions = Vec::with_capacity(paid.len());
    let mut completed = Vec::with_capacity(paid.len());
    for paid in paid {
        completions.push(match locked.remove(&paid.order_id) {
            None => Completion::NotFound,
            Some(placement) if placement.order.status != OrderStatus::Placing => {
                Completion::NotPlacing(placement.order.status)
            }
            Some(placement) => {
                ctx.learn_now(placement.order.now);
                completed.push(Completed::of(placement, paid)?);
                Completion::Placed
            }
        });
    }
    if !completed.is_empty() {
        write(ctx, completed).await?;
    }
    Ok(completions)
}

/// An order that is completed, and what is told of it.
struct Completed<'a> {
    paid: &'a Paid,
    placement: LockedPlacement,
    payment_authorized: Told,
    order_placed: Told,
    cart_cleared: Told,
}

impl<'a> Completed<'a> {
    fn of(placement: LockedPlacement, paid: &'a Paid) -> Result<Self, sqlx::Error> {
        let order = &placement.order;
        let payment_authorized = tell([DomainEvent::PaymentAuthorized {
            payment_id: order.payment_id,
            order_id: order.order_id,
            amount: order.paid_amount()?,
            authorization_id: paid.authorized.authorization_id.clone(),
            payment_method: order.method.clone(),
            authorized_at: order.now,
        }]);
        let order_placed = tell([DomainEvent::OrderPlaced {
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
        }]);
        let cart_cleared = tell([DomainEvent::CartCleared {
            cart_id: order.cart_id,
            customer_id: order.customer_id,
            reason: "order_placed",
            cleared_at: order.now,
        }]);
        Ok(Self { paid, placement, payment_authorized, order_placed, cart_cleared })
    }

    fn numbered(self) -> (&'a Cause, Vec<Numbered>) {
        let LockedPlacement { order, cart_event_count } = self.placement;
        let told = [
            self.payment_authorized.after(order.payment_event_count),
            self.order_placed.after(order.event_count),
            self.cart_cleared.after(cart_event_count),
        ];
        (&self.paid.cause, told.into_iter().flatten().collect())
    }
}

async fn write(ctx: &mut Context<'_>, completed: Vec<Completed<'_>>) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(COMPLETE)
        .bind(column(&completed, |one| one.paid.order_id))
        .bind(column(&completed, |one| one.placement.order.payment_id))
        .bind(column(&completed, |one| one.placement.order.cart_id))
        .bind(column(&completed, |one| one.paid.authorized.authorization_id.as_str()))
        .bind(column(&completed, |one| one.paid.authorized.key.as_str()))
        .bind(column(&completed, |one| one.order_placed.count()))
        .bind(column(&completed, |one| one.payment_authorized.count()))
        .bind(column(&completed, |one| one.cart_cleared.count()))
        .bind(ctx.now().await?);
    let making = Making { statement, counts: true };
    ctx.record_each_by(making, completed.into_iter().map(Completed::numbered)).await
}

const COMPLETE: &str = concat!(
    r#"-- place: complete
    with done as materialized (
        select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[],
                $6::bigint[], $7::bigint[], $8::bigint[])
            as d (order_id, payment_id, cart_id, reference, key, placed, paid, cleared)
    ), paid as (
        update shop.payment p set state = 'authorized', authorization_id = d.reference,
            event_count = event_count + d.paid, updated_at = $9
        from done d where p.payment_id = d.payment_id
    ), moved as (
        update shop.payment_transaction t set state = 'succeeded', key = d.key,
            reference = d.reference, settled_at = $9
        from done d
        where t.payment_id = d.payment_id and t.kind = 'authorize' and t.settled_at is null
    ), emptied as (
        delete from shop.cart_item i using done d where i.cart_id = d.cart_id
    ), opened as (
        update shop.cart c set checkout_order_id = null, event_count = event_count + d.cleared,
            version = version + 1, last_activity_at = $9
        from done d where c.cart_id = d.cart_id
    ), recorded as (
        "#,
    insert_events!(
        "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17", "$18", "$19", "$20", "$21"
    ),
    r#"
    )
    update shop."order" o set status = 'pending', event_count = event_count + d.placed,
        version = version + 1, updated_at = $9, "#,
    counted!("order_id", "$22", "$23"),
    "
    from done d where o.order_id = d.order_id
    returning o.order_id as subject, published_count, published_types"
);
