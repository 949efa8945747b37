//! The shop's long-running processes. Each is a folder: `mod.rs` says what happens (pure), `steps.rs` how it is done.

pub mod cancel_order;
pub mod place_order;

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::Engine;

use crate::shop::Shop;

/// An engine that knows every saga of the shop, on a migrated database.
#[must_use]
pub fn engine(shop: &Arc<Shop>, pool: PgPool) -> Engine {
    Engine::builder(pool.clone())
        .saga::<place_order::PlaceOrder, _>(place_order::steps::Steps::new(
            shop.clone(),
            pool.clone(),
        ))
        .saga::<cancel_order::CancelOrder, _>(cancel_order::steps::Steps::new(shop.clone()))
        .build()
}
