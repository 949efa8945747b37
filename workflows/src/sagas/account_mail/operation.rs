//! No client sees a mail about a password as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{AccountMail, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for AccountMail {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, pool: &PgPool) -> Steps {
        Steps::new(shop.clone(), pool.clone())
    }
}
