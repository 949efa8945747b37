//! The command createGuestCart.

use stepwise_engine::StartError;

use super::{CartExpiry, start};
use crate::{
    cart::{self, Guest},
    shop::Context,
};

/// Makes a guest with an empty cart, and starts the saga that deletes both when the guest has left. 2 round trips.
///
/// # Errors
/// The saga could not be started, or the database failed.
pub async fn create_guest_cart(ctx: &mut Context<'_>) -> Result<Guest, StartError> {
    let guest = cart::create_guest_cart(ctx).await?;
    let after = cart::lifetime(ctx.shop, true);
    ctx.start::<CartExpiry>(start(guest.cart_id, after)).await?;
    Ok(guest)
}
