//! No client sees the end of a reservation as an operation.

use std::sync::Arc;

use sqlx::PgPool;

use super::{ReservationExpiry, steps::Steps};
use crate::{sagas::ShopSaga, shop::Shop};

impl ShopSaga for ReservationExpiry {
    type Steps = Steps;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }
}
