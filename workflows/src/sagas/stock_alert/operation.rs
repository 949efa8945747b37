//! No client sees an alert about stock as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{StockAlert, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for StockAlert {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }
}
