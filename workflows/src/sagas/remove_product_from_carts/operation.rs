//! No client sees the removal of a product from carts as an operation.

use super::RemoveProductFromCarts;
use crate::sagas::ShopSaga;

impl ShopSaga for RemoveProductFromCarts {}
