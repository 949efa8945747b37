//! No client sees a verification mail as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{VerifyEmail, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for VerifyEmail {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, pool: &PgPool) -> Steps {
        Steps::new(shop.clone(), pool.clone())
    }
}
