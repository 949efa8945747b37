//! The value that does the steps of every saga: `steps.rs` in each saga's folder says how.

use std::sync::Arc;

use sqlx::PgPool;

use crate::shop::Shop;

/// Does the steps of the shop's sagas.
pub struct Steps {
    pub(super) shop: Arc<Shop>,
    /// Serves reads outside of any transaction.
    pub(super) pool: PgPool,
}

impl Steps {
    /// Steps with the ports and the configuration of `shop`; `pool` is only read.
    #[must_use]
    pub fn new(shop: Arc<Shop>, pool: PgPool) -> Self {
        Self { shop, pool }
    }
}
