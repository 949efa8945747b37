//! A cart under its lock, taken after its customer's.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A cart, locked.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct LockedCart {
    pub(super) cart_id: Uuid,
    pub(super) customer_id: Uuid,
    /// The order being placed from it, which forbids changes.
    pub(super) checkout_order_id: Option<Uuid>,
    pub(super) event_count: i64,
    pub(super) now: DateTime<Utc>,
}

/// Locks the cart of a customer or guest, and makes the cart of a customer who has none yet. `None`:
/// unknown, frozen, or a guest whose cart was merged. 1 round trip, 3 where the cart is made.
pub(super) async fn of_customer(
    tx: &mut PgConnection,
    customer_id: Uuid,
) -> Result<Option<LockedCart>, sqlx::Error> {
    for is_last in [false, true] {
        let (is_customer, cart) = find(tx, customer_id).await?;
        if cart.is_some() || !is_customer || is_last {
            return Ok(cart);
        }
        create(tx, customer_id).await?;
    }
    Ok(None)
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
        now: DateTime<Utc>,
    }
    let row: Row = sqlx::query_as(
        "-- cart: lock customer and cart
        with buyer as materialized (
            select customer_id from shop.customer
            where customer_id = $1 and frozen_at is null for share
        ), known as materialized (
            select count(*) > 0 as is_customer from buyer
        ), basket as materialized (
            select c.* from known, shop.cart c
            where c.customer_id = $1 and c.merged_into is null
              and (known.is_customer or c.guest_token_hash is not null)
            for update of c
        )
        select is_customer, cart_id, checkout_order_id, event_count, saga.now() as now
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
        now: row.now,
    });
    Ok((row.is_customer, cart))
}
