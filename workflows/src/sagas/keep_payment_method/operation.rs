//! No client sees how a payment method is kept: it can be used at once.

use std::sync::Arc;

use sqlx::PgPool;

use super::{KeepPaymentMethod, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for KeepPaymentMethod {
    type Steps = Steps;
    const CALLS_GATEWAY: bool = true;

    fn steps(shop: &Arc<Shop>, pool: &PgPool) -> Steps {
        Steps::new(shop.clone(), pool.clone())
    }
}
