//! Taking a product that is not sold any more out of carts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    events::{DomainEvent, tell},
    shop::Context,
};

/// The most carts that one call changes.
const BATCH: i64 = 50;

/// Whether the item `i` of the product `p` is not sold any more: the product is deleted or not on sale, or it has got variants and the item is none.
macro_rules! not_sold {
    () => {
        "(p.deleted_at is not null or p.status <> 'active'
              or p.has_variants <> (i.variant_id is not null))"
    };
}

const LOCK_CARTS: &str = concat!(
    "-- withdraw: lock carts
    select cart_id, event_count, saga.now() as now from shop.cart
    where cart_id in (
        select i.cart_id from shop.product p join shop.cart_item i using (product_id)
        where p.product_id = $1 and i.removed_at is null and ",
    not_sold!(),
    "
        order by i.cart_id limit $2
    )
    order by cart_id
    for update"
);

const TAKE_OUT: &str = concat!(
    "-- withdraw: take out
    with taken as (
        update shop.cart_item i set removed_at = $3, is_withdrawn = true
        from shop.product p
        where p.product_id = $1 and i.product_id = $1 and i.cart_id = any($2)
          and i.removed_at is null and ",
    not_sold!(),
    "
        returning i.cart_id, i.variant_id
    ), fresh as (
        select cart_id, count(*) as items from taken group by cart_id
    ), older as (
        select i.cart_item_id, row_number() over (
                   partition by i.cart_id order by i.removed_at desc, i.cart_item_id desc
               ) + f.items as place
        from fresh f join shop.cart_item i using (cart_id)
        where i.is_withdrawn
    ), forgotten as (
        delete from shop.cart_item i using older o
        where i.cart_item_id = o.cart_item_id and o.place > $4
    )
    select cart_id, variant_id from taken"
);

/// Takes a product, with all its variants, out of some of the carts in which it is not sold any more. A cart from which an order is being placed is no
/// exception: the order has its own lines. Returns whether a cart had the product: then others may have it still. The carts are locked in the order of
/// their ids. Of the items that were taken out of a cart in this way, it keeps as many as it may have lines, and the oldest are deleted. 1 round trip if
/// none has it, otherwise 4. Row operations: 1 a cart, 2 an item, 1 an item that is deleted.
///
/// # Errors
/// The database's.
pub async fn withdraw_product(
    ctx: &mut Context<'_>,
    product_id: Uuid,
) -> Result<bool, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Cart {
        cart_id: Uuid,
        event_count: i64,
        now: DateTime<Utc>,
    }
    let carts: Vec<Cart> =
        sqlx::query_as(LOCK_CARTS).bind(product_id).bind(BATCH).fetch_all(&mut **ctx).await?;
    let Some(Cart { now, .. }) = carts.first() else { return Ok(false) };
    let now = *now;
    ctx.learn_now(now);
    let removed: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(TAKE_OUT)
        .bind(product_id)
        .bind(carts.iter().map(|cart| cart.cart_id).collect::<Vec<_>>())
        .bind(now)
        .bind(i64::try_from(ctx.shop.config.most_lines).unwrap_or(i64::MAX))
        .fetch_all(&mut **ctx)
        .await?;
    let mut by_cart: HashMap<Uuid, Vec<DomainEvent>> = HashMap::new();
    for (cart_id, variant_id) in removed {
        let event =
            DomainEvent::ItemRemovedFromCart { cart_id, product_id, variant_id, removed_at: now };
        by_cart.entry(cart_id).or_default().push(event);
    }
    let (mut cart_ids, mut counts, mut numbered) = (Vec::new(), Vec::new(), Vec::new());
    for cart in carts {
        // While the lock was waited for, its customer may have taken the product out.
        let Some(events) = by_cart.remove(&cart.cart_id) else { continue };
        let told = tell(events);
        cart_ids.push(cart.cart_id);
        counts.push(told.count());
        numbered.extend(told.after(cart.event_count));
    }
    sqlx::query(
        "-- withdraw: count
        update shop.cart c set version = version + 1, event_count = event_count + w.events
        from unnest($1::uuid[], $2::bigint[]) as w (cart_id, events)
        where c.cart_id = w.cart_id",
    )
    .bind(cart_ids)
    .bind(counts)
    .execute(&mut **ctx)
    .await?;
    ctx.record(numbered).await?;
    Ok(true)
}
