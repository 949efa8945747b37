//! The end of a cart that nobody uses any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    events::{DomainEvent, tell},
    shop::{
        Context, Shop,
        record::{Making, insert_events},
    },
};

/// How long the next look at a cart from which an order is being placed waits.
const CHECKOUT: Duration = Duration::from_secs(3_600);

/// How long a cart may be left alone before it expires.
pub(crate) fn lifetime(shop: &Shop, is_guests: bool) -> Duration {
    match is_guests {
        true => shop.config.guest_cart_lifetime,
        false => shop.config.customer_cart_lifetime,
    }
}

#[derive(sqlx::FromRow)]
struct Cart {
    customer_id: Uuid,
    is_guests: bool,
    is_merged: bool,
    is_in_checkout: bool,
    has_items: bool,
    event_count: i64,
    last_activity_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// Empties a cart whose time is over; a guest's cart is deleted, with its token. `None`: nothing is left to watch, because the cart's time was over,
/// or it was merged, or is not there. Otherwise the time until it may expire. A cart from which an order is being placed does not.
/// 1 round trip, 2 if it expires.
///
/// # Errors
/// The database's.
pub async fn expire(ctx: &mut Context<'_>, cart_id: Uuid) -> Result<Option<Duration>, sqlx::Error> {
    let cart: Option<Cart> = sqlx::query_as(
        "-- cart: lock to expire
        select customer_id, guest_token_hash is not null as is_guests,
               merged_into is not null as is_merged, checkout_order_id is not null as is_in_checkout,
               exists (select from shop.cart_item i
                       where i.cart_id = c.cart_id and i.removed_at is null) as has_items,
               event_count, last_activity_at, saga.now() as now
        from shop.cart c where cart_id = $1 for update",
    )
    .bind(cart_id)
    .fetch_optional(&mut **ctx)
    .await?;
    let Some(cart) = cart else { return Ok(None) };
    ctx.learn_now(cart.now);
    if cart.is_in_checkout {
        return Ok(Some(CHECKOUT));
    }
    let alone = (cart.now - cart.last_activity_at).to_std().unwrap_or_default();
    let left = lifetime(ctx.shop, cart.is_guests).saturating_sub(alone);
    if !left.is_zero() && !cart.is_merged {
        return Ok(Some(left));
    }
    // Every item that is put in raises `last_activity_at`, so the items that were read beside the lock are still those of the cart.
    let expired = DomainEvent::CartExpired {
        cart_id,
        customer_id: cart.customer_id,
        last_activity_date: cart.last_activity_at,
        expired_at: cart.now,
    };
    let told = tell(Some(expired).filter(|_| cart.has_items));
    let statement = sqlx::query(EXPIRE).bind(cart_id).bind(cart.is_guests).bind(told.count());
    ctx.record_by(Making { statement, counts: false }, told.after(cart.event_count)).await?;
    Ok(None)
}

const EXPIRE: &str = concat!(
    "-- cart: expire
    with emptied as (
        delete from shop.cart_item where cart_id = $1
    ), deleted as (
        delete from shop.cart where cart_id = $1 and $2
    ), recorded as (
        ",
    insert_events!("$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15"),
    "
    )
    update shop.cart set is_watched = false, version = version + 1, event_count = event_count + $3
    where cart_id = $1 and not $2"
);

/// Notes that no saga watches the cart any more. 1 round trip.
///
/// # Errors
/// The database's.
pub(crate) async fn leave_unwatched(
    tx: &mut PgConnection,
    cart_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- cart: leave unwatched
        update shop.cart set is_watched = false where cart_id = $1",
    )
    .bind(cart_id)
    .execute(tx)
    .await
    .map(|_| ())
}

/// A cart that no saga watches.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Adopted {
    pub(crate) cart_id: Uuid,
    is_guests: bool,
    alone_s: f64,
    pub(crate) last_activity_at: DateTime<Utc>,
}

impl Adopted {
    /// The time until it may expire.
    pub(crate) fn left(&self, shop: &Shop) -> Duration {
        let alone = Duration::try_from_secs_f64(self.alone_s).unwrap_or_default();
        lifetime(shop, self.is_guests).saturating_sub(alone)
    }
}

/// Takes up carts that no saga watches yet, those that were left alone longest first, at most `limit`, from that time of their last use on: the caller
/// starts their sagas in the same transaction. Carts that somebody else has locked are left out, and so are customers' carts that are empty, and those of
/// customers who are being erased. 1 round trip.
///
/// # Errors
/// The database's.
pub(crate) async fn adopt(
    tx: &mut PgConnection,
    limit: i64,
    from: Option<DateTime<Utc>>,
) -> Result<Vec<Adopted>, sqlx::Error> {
    sqlx::query_as(
        "-- cart: adopt
        with found as (
            select cart_id from shop.cart c
            where not is_watched and last_activity_at >= coalesce($2, '-infinity')
              and (guest_token_hash is not null
                   or exists (select from shop.cart_item i where i.cart_id = c.cart_id))
              and not exists (select from shop.customer u where u.customer_id = c.customer_id and u.frozen_at is not null)
            order by last_activity_at limit $1
            for update skip locked
        )
        update shop.cart c set is_watched = true from found
        where c.cart_id = found.cart_id
        returning c.cart_id, c.guest_token_hash is not null as is_guests, c.last_activity_at,
                  extract(epoch from saga.now() - c.last_activity_at)::float8 as alone_s",
    )
    .bind(limit)
    .bind(from)
    .fetch_all(tx)
    .await
}
