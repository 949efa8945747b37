//! Carts: one for each customer, and one for each guest.
//!
//! A cart reserves nothing; it caps what is added to what is available at that moment. It shows the
//! prices of the moment, and remembers those at which its items were put in. While an order is being
//! placed from it, every change is refused: `checkout_in_progress`.
//!
//! A guest has a customer id, a cart and a token, but no customer row. Whoever has the token can merge the guest's cart into their own, when they log
//! in or later. Every way into a cart keeps its limits: how many lines, and how many of a product.
//!
//! A cart that nobody uses for long expires ([`crate::sagas::cart_expiry`]): a customer's is emptied, a guest's is deleted.
//!
//! An item that was removed can be taken back for ten minutes. A product that is not sold any more is taken out of all carts; the customer sees that,
//! and can take it back once it is on sale again.

mod add;
mod change;
mod expire;
mod guest;
mod lock;
mod merge;
mod tag;
mod view;
mod withdraw;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::money::Money;

pub use add::{AddItem, AddItemRefusal, AddedItem, add_item};
pub use change::{
    ChangeCartRefusal, ItemOf, clear_cart, remove_item, restore_item, update_item_quantity,
};
pub use expire::expire;
pub(crate) use expire::{adopt, leave_unwatched, lifetime};
pub use guest::Guest;
pub(crate) use guest::create_guest_cart;
pub use merge::{MergeGuestCart, MergeRefusal, MergedCart, merge_guest_cart};
pub use tag::lock_tag;
pub use view::{CartItemView, CartView, RemovedItemView, get_cart, get_carts};
pub use withdraw::withdraw_product;

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

#[cfg(test)]
mod tests;
