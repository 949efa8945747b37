//! A cart under its lock, taken after its customer's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::expire::lifetime;
use crate::shop::Shop;

/// A cart, locked.
#[derive(Debug, Clone)]
pub(super) struct LockedCart {
    pub(super) cart_id: Uuid,
    pub(super) customer_id: Uuid,
    /// The order being placed from it, which forbids changes.
    pub(super) checkout_order_id: Option<Uuid>,
    pub(super) event_count: i64,
    /// Whether a saga looks when it may have expired.
    is_watched: bool,
    is_guests: bool,
    pub(super) now: DateTime<Utc>,
}

impl LockedCart {
    /// How long the cart may be left alone, if no saga watches it yet: whoever puts something in starts one.
    pub(super) fn unwatched_for(&self, shop: &Shop) -> Option<Duration> {
        (!self.is_watched).then(|| lifetime(shop, self.is_guests))
    }
}

/// Locks the cart of a customer or guest, and makes the cart of a customer who has none yet. `None`:
/// unknown, frozen, or a guest whose cart was merged or has expired. 1 round trip, 3 where the cart is made.
pub(super) async fn of_customer(
    tx: &mut PgConnection,
    customer_id: Uuid,
) -> Result<Option<LockedCart>, sqlx::Error> {
    let (is_customer, cart) = find(tx, customer_id).await?;
    if cart.is_some() || !is_customer {
        return Ok(cart);
    }
    create(tx, customer_id).await?;
    Ok(find(tx, customer_id).await?.1)
}

/// Makes the cart of a customer, unless there is one. 1 round trip.
pub(super) async fn create(tx: &mut PgConnection, customer_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- cart: make a customer's
        insert into shop.cart (cart_id, customer_id, last_activity_at, created_at)
        values ($1, $2, saga.now(), saga.now())
        on conflict on constraint a_customer_has_one_cart do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(customer_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether there is such a customer, and the cart, locked. 1 round trip.
async fn find(
    tx: &mut PgConnection,
    customer_id: Uuid,
) -> Result<(bool, Option<LockedCart>), sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        is_customer: bool,
        cart_id: Option<Uuid>,
        checkout_order_id: Option<Uuid>,
        event_count: Option<i64>,
        is_watched: Option<bool>,
        is_guests: bool,
        now: DateTime<Utc>,
    }
    let row: Row = sqlx::query_as(
        "-- cart: lock customer and cart
        with buyer as materialized (
            select from shop.customer where customer_id = $1 and frozen_at is null for share
        ), known as materialized (
            select count(*) > 0 as is_customer from buyer
        ), basket as materialized (
            select c.* from known, shop.cart c
            where c.customer_id = $1 and c.merged_into is null
              and (known.is_customer or c.guest_token_hash is not null)
            for update of c
        )
        select is_customer, cart_id, checkout_order_id, event_count, is_watched,
               guest_token_hash is not null as is_guests, saga.now() as now
        from known left join basket on true",
    )
    .bind(customer_id)
    .fetch_one(tx)
    .await?;
    let cart = row.cart_id.zip(row.event_count).map(|(cart_id, event_count)| LockedCart {
        cart_id,
        customer_id,
        checkout_order_id: row.checkout_order_id,
        event_count,
        is_watched: row.is_watched.unwrap_or_default(),
        is_guests: row.is_guests,
        now: row.now,
    });
    Ok((row.is_customer, cart))
}
