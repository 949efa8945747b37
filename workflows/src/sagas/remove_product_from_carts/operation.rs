//! No client sees the removal of a product from carts as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{RemoveProductFromCarts, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for RemoveProductFromCarts {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }
}
