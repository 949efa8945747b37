//! The shop's long-running processes. Each is a folder: `mod.rs` says what happens (pure), `steps.rs` how it is done. The commands that start
//! sagas and send them signals are here too, since they use both the aggregates and the sagas.

pub mod cancel_order;
pub mod commands;
pub mod place_order;
pub mod verify_email;

use std::sync::Arc;

use sqlx::PgPool;
#[cfg(feature = "testing")]
use stepwise_engine::testing;
use stepwise_engine::{Engine, Gate, Saga as _};

use crate::shop::Shop;

/// The gate before a deploy: it finds open instances that this program could not continue. It knows the sagas of [`engine`].
#[must_use]
pub fn gate() -> Gate {
    Gate::new()
        .knows::<place_order::PlaceOrder>()
        .knows::<cancel_order::CancelOrder>()
        .knows::<verify_email::VerifyEmail>()
}

/// The sagas that call the payment gateway: those that may go on when it answers again.
pub const CALL_THE_GATEWAY: [&str; 2] =
    [place_order::PlaceOrder::NAME, cancel_order::CancelOrder::NAME];

/// An engine that knows every saga of the shop, on a migrated database.
#[must_use]
pub fn engine(shop: &Arc<Shop>, pool: PgPool) -> Engine {
    let engine = Engine::builder(pool.clone())
        .saga::<place_order::PlaceOrder, _>(place_order::steps::Steps::new(
            shop.clone(),
            pool.clone(),
        ))
        .saga::<cancel_order::CancelOrder, _>(cancel_order::steps::Steps::new(shop.clone()))
        .saga::<verify_email::VerifyEmail, _>(verify_email::steps::Steps::new(shop.clone(), pool))
        .build();
    debug_assert_eq!(
        engine.kinds().len(),
        gate().kinds(),
        "the gate knows every saga of the engine"
    );
    engine
}

/// For tests: explores every saga of the shop, which must be sound. Without it a test makes no [`engine`].
///
/// # Panics
/// When a saga has faults, each in words.
#[cfg(feature = "testing")]
pub fn explore() {
    testing::explore::<place_order::PlaceOrder>().assert_sound();
    testing::explore::<cancel_order::CancelOrder>().assert_sound();
    testing::explore::<verify_email::VerifyEmail>().assert_sound();
}
