//! mergeGuestCart: what a guest chose becomes the customer's when they log in.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{CartView, expire::lifetime, lock, view::view};
use crate::{
    customer::{is_active, token_hash},
    events::{DomainEvent, MergedItem, Told, tell},
    refusal::refusals,
    shop::{Context, Shop},
};

/// The command.
pub struct MergeGuestCart {
    /// The guest's cart.
    pub guest_cart_id: Uuid,
    /// The token of that cart, which proves that the caller is its guest.
    pub guest_token: Option<String>,
    /// The customer.
    pub customer_id: Uuid,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedCart {
    /// The customer's cart with the guest's items.
    pub cart: CartView,
    /// Whether fewer were taken over than lay in the guest's cart.
    pub capped: bool,
}

refusals! {
    /// Why carts were not merged.
    #[derive(Debug, thiserror::Error)]
    pub enum MergeRefusal {
        /// No such guest cart, it was merged before, or the token is not that of its guest.
        #[error("there is no guest cart with this id and token")]
        GuestCartNotFound => NotFound "guest_cart_not_found",
        /// Unknown, or the account is being erased.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// An order is being placed from the customer's cart.
        #[error("an order is being placed from this cart")]
        CheckoutInProgress => Conflict "checkout_in_progress",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

#[derive(sqlx::FromRow)]
struct Line {
    product_id: Uuid,
    variant_id: Option<Uuid>,
    /// The price when it was put in; the lower one if both have it.
    price: Decimal,
    /// How many the guest wants.
    wanted: i32,
    /// How many lie in the customer's cart already.
    here: i32,
    /// How many lines the customer's cart has already.
    lines_here: i64,
    /// How many can be had.
    available: i32,
}

/// Moves the guest's items into the customer's cart and closes the guest's cart. The items keep the prices at which the guest put them in. Both the
/// stock and the limits of a cart cap what is taken over. If the guest's cart has no items, it is closed and nothing is told. Both
/// carts are locked in the order of their ids. 7 round trips, however many items; 1 more to start the saga that watches the customer's cart, if none does.
pub async fn merge_guest_cart(
    ctx: &mut Context<'_>,
    command: &MergeGuestCart,
) -> Result<MergedCart, MergeRefusal> {
    let MergeGuestCart { guest_cart_id, customer_id, .. } = *command;
    if !is_active(ctx, customer_id).await? {
        return Err(MergeRefusal::CustomerNotFound);
    }
    lock::create(ctx, customer_id).await?;
    #[derive(sqlx::FromRow)]
    struct Cart {
        cart_id: Uuid,
        customer_id: Uuid,
        checkout_order_id: Option<Uuid>,
        event_count: i64,
        is_guests: bool,
        is_watched: bool,
        now: chrono::DateTime<chrono::Utc>,
    }
    let carts: Vec<Cart> = sqlx::query_as(
        "-- merge: lock both carts
        select cart_id, customer_id, checkout_order_id, event_count,
               coalesce(guest_token_hash = $3, false) and merged_into is null as is_guests,
               is_watched, saga.now() as now
        from shop.cart where cart_id = $1 or customer_id = $2
        order by cart_id
        for update",
    )
    .bind(guest_cart_id)
    .bind(customer_id)
    .bind(command.guest_token.as_deref().map(token_hash))
    .fetch_all(&mut **ctx)
    .await?;
    let is_there = carts.iter().any(|cart| cart.cart_id == guest_cart_id && cart.is_guests);
    let cart = carts.iter().find(|cart| cart.customer_id == customer_id);
    let (Some(cart), true) = (cart, is_there) else { return Err(MergeRefusal::GuestCartNotFound) };
    if cart.checkout_order_id.is_some() {
        return Err(MergeRefusal::CheckoutInProgress);
    }
    ctx.learn_now(cart.now);
    let lines = lines(ctx, guest_cart_id, cart.cart_id).await?;
    let merged = capped(ctx.shop, &lines);
    let event = DomainEvent::CartMerged {
        cart_id: cart.cart_id,
        guest_cart_id,
        customer_id,
        merged_items: merged.clone(),
        merged_at: cart.now,
        unwatched_for: (!cart.is_watched).then(|| lifetime(ctx.shop, false)),
    };
    let told = tell(Some(event).filter(|_| !lines.is_empty()));
    write(ctx, guest_cart_id, cart.cart_id, &lines, &merged, &told).await?;
    ctx.record(told.after(cart.event_count)).await?;
    let capped = merged.iter().any(|item| item.capped);
    Ok(MergedCart { cart: view(ctx.shop, ctx, cart.cart_id).await?, capped })
}

/// The guest's items, oldest first, each with what the customer has of it.
async fn lines(
    tx: &mut PgConnection,
    guest_cart_id: Uuid,
    cart_id: Uuid,
) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as(
        "-- merge: lines
        select g.product_id, g.variant_id, least(g.unit_price, c.unit_price) as price,
               g.quantity as wanted, coalesce(c.quantity, 0) as here,
               (select count(*) from shop.cart_item
                where cart_id = $2 and removed_at is null) as lines_here,
               case when p.status = 'active' and p.deleted_at is null
                         and p.has_variants = (g.variant_id is not null)
                    then s.on_hand - s.reserved else 0 end as available
        from shop.cart_item g
        join shop.product p using (product_id)
        join shop.inventory s
            on s.product_id = g.product_id and s.variant_id is not distinct from g.variant_id
        left join shop.cart_item c
            on c.cart_id = $2 and c.product_id = g.product_id and c.removed_at is null
           and c.variant_id is not distinct from g.variant_id
        where g.cart_id = $1 and g.removed_at is null
        order by g.cart_item_id",
    )
    .bind(guest_cart_id)
    .bind(cart_id)
    .fetch_all(tx)
    .await
}

/// How many of each lie in the customer's cart afterwards: both together, as many as can be had and as a cart takes, but never fewer than lay there
/// before. Items that the customer does not have yet are taken over, oldest first, until the cart has all the lines that it takes.
fn capped(shop: &Shop, lines: &[Line]) -> Vec<MergedItem> {
    let taken =
        lines.first().map_or(0, |line| usize::try_from(line.lines_here).unwrap_or(usize::MAX));
    let mut room = shop.config.most_lines.saturating_sub(taken);
    let merged = lines.iter().map(|line| {
        let wanted = line.wanted.saturating_add(line.here);
        let most = line.available.min(shop.config.most_per_line);
        let fits = line.here > 0 || room > 0;
        let quantity = if fits { wanted.min(most).max(line.here) } else { 0 };
        if line.here == 0 && quantity > 0 {
            room -= 1;
        }
        MergedItem {
            product_id: line.product_id,
            variant_id: line.variant_id,
            quantity,
            capped: quantity < wanted,
        }
    });
    merged.collect()
}

/// Writes the merged items and closes the guest's cart. Items whose product is not sold move with the others; of those of both carts together, the newest
/// are kept, as many as a cart may have lines. 1 round trip.
async fn write(
    ctx: &mut Context<'_>,
    guest_cart_id: Uuid,
    cart_id: Uuid,
    lines: &[Line],
    merged: &[MergedItem],
    told: &Told,
) -> Result<(), sqlx::Error> {
    let now = ctx.now().await?;
    let kept: Vec<(&Line, &MergedItem)> =
        lines.iter().zip(merged).filter(|(_, item)| item.quantity > 0).collect();
    sqlx::query(
        "-- merge: write
        with emptied as (
            delete from shop.cart_item where cart_id = $1 and not is_withdrawn
        ), withdrawn as (
            select cart_item_id, cart_id,
                   row_number() over (order by removed_at desc, cart_item_id desc) as place
            from shop.cart_item where cart_id in ($1, $2) and is_withdrawn
        ), moved as (
            update shop.cart_item i set cart_id = $2 from withdrawn w
            where i.cart_item_id = w.cart_item_id and w.cart_id = $1 and w.place <= $10
            returning true
        ), forgotten as (
            delete from shop.cart_item i using withdrawn w
            where i.cart_item_id = w.cart_item_id and w.place > $10
            returning true
        ), closed as (
            update shop.cart set merged_into = $2, version = version + 1 where cart_id = $1
        ), touched as (
            update shop.cart set version = version + 1, event_count = event_count + $8,
                last_activity_at = case when $8 > 0 then $9 else last_activity_at end,
                is_watched = is_watched or $8 > 0
            where cart_id = $2
              and ($8 > 0 or exists (select from moved) or exists (select from forgotten))
        )
        insert into shop.cart_item
            (cart_item_id, cart_id, product_id, variant_id, quantity, unit_price, added_at)
        select m.cart_item_id, $2, m.product_id, m.variant_id, m.quantity, m.price, $9
        from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::int[], $7::numeric[])
            as m (cart_item_id, product_id, variant_id, quantity, price)
        on conflict (cart_id, product_id, variant_id) where removed_at is null
        do update set quantity = excluded.quantity, unit_price = excluded.unit_price",
    )
    .bind(guest_cart_id)
    .bind(cart_id)
    .bind(kept.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(kept.iter().map(|(_, item)| item.product_id).collect::<Vec<_>>())
    .bind(kept.iter().map(|(_, item)| item.variant_id).collect::<Vec<_>>())
    .bind(kept.iter().map(|(_, item)| item.quantity).collect::<Vec<_>>())
    .bind(kept.iter().map(|(line, _)| line.price).collect::<Vec<_>>())
    .bind(told.count())
    .bind(now)
    .bind(i64::try_from(ctx.shop.config.most_lines).unwrap_or(i64::MAX))
    .execute(&mut **ctx)
    .await?;
    Ok(())
}
