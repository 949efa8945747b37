//! No client sees the watch over a cart as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{CartExpiry, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for CartExpiry {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }
}
