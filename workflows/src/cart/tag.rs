//! The entity tag of a cart under its lock, for requests that ask for it.

use uuid::Uuid;

use super::{lock::of_customer, view::view};
use crate::shop::Context;

/// Locks the cart of a customer or guest and returns its entity tag. `None`: they have no cart, or another one than this. 2 round trips, 4 where the
/// cart is made.
pub async fn lock_tag(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
    cart_id: Option<Uuid>,
) -> Result<Option<String>, sqlx::Error> {
    let cart = of_customer(ctx, customer_id).await?;
    match cart.filter(|cart| cart_id.is_none_or(|id| id == cart.cart_id)) {
        Some(cart) => Ok(Some(view(ctx.shop, ctx, cart.cart_id).await?.etag)),
        None => Ok(None),
    }
}
