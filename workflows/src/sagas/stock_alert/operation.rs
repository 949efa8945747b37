//! No client sees an alert about stock as an operation.

use super::StockAlert;
use crate::sagas::ShopSaga;

impl ShopSaga for StockAlert {}
