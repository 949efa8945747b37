//! The operation that a client sees of an erasure: the anonymized id, and when everything was deleted.

use std::sync::Arc;

use sqlx::PgPool;

use super::{GdprErasure, steps::Steps};
use crate::{
    sagas::{About, ShopSaga},
    shop::Shop,
};

impl ShopSaga for GdprErasure {
    type Steps = Steps;
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Customer;

    fn steps(shop: &Arc<Shop>, pool: &PgPool) -> Steps {
        Steps::new(shop.clone(), pool.clone())
    }
}
