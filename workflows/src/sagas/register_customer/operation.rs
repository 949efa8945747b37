//! No client sees a verification mail as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{RegisterCustomer, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for RegisterCustomer {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, pool: &PgPool) -> Steps {
        Steps::new(shop.clone(), pool.clone())
    }
}
