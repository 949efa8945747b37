//! No client sees the watch over a cart as an operation.

use super::CartExpiry;
use crate::sagas::ShopSaga;

impl ShopSaga for CartExpiry {}
