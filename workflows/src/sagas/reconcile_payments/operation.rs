//! No client sees a reconciliation as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{ReconcilePayments, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for ReconcilePayments {
    type Steps = Steps;
    const CALLS_GATEWAY: bool = true;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }
}
