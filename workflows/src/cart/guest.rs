//! Guests: a cart, an id and a token, without an account.

use uuid::Uuid;

use crate::{customer::Token, shop::Context};

/// A new guest with an empty cart.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The customer id of guests in cart commands and events; no customer has it.
    pub customer_id: Uuid,
    /// The cart.
    pub cart_id: Uuid,
    /// Opens the cart, and nothing else.
    pub token: Token,
}

/// Makes a guest with an empty cart, for which the caller starts the saga that watches it. 1 round trip.
pub(crate) async fn create_guest_cart(ctx: &mut Context<'_>) -> Result<Guest, sqlx::Error> {
    let guest =
        Guest { customer_id: Uuid::now_v7(), cart_id: Uuid::now_v7(), token: Token::draw() };
    sqlx::query(
        "-- cart: make a guest's
        insert into shop.cart
            (cart_id, customer_id, guest_token_hash, is_watched, last_activity_at, created_at)
        values ($1, $2, $3, true, saga.now(), saga.now())",
    )
    .bind(guest.cart_id)
    .bind(guest.customer_id)
    .bind(guest.token.hash())
    .execute(&mut **ctx)
    .await?;
    Ok(guest)
}
