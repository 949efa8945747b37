//! Carts.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::money::Money;

/// The entity tag of a cart as a customer sees it: it changes with every change of the cart, and
/// with every change of a price in it. `prices`: cart item and its price now, in any order.
pub fn entity_tag(
    cart_id: Uuid,
    version: i64,
    prices: impl IntoIterator<Item = (Uuid, Money)>,
) -> String {
    let mut prices: Vec<(Uuid, Money)> = prices.into_iter().collect();
    prices.sort_unstable_by_key(|(item, _)| *item);
    let mut hasher = Sha256::new();
    hasher.update(cart_id.as_bytes());
    hasher.update(version.to_be_bytes());
    for (item, price) in prices {
        hasher.update(item.as_bytes());
        hasher.update(price.minor().to_be_bytes());
    }
    hex::encode(&hasher.finalize()[..12])
}
