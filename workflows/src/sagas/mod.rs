//! The shop's long-running processes. Each is a folder: `mod.rs` says what happens (pure), `steps.rs` how it is done, `operation.rs` what a client
//! sees of it. If a command starts the saga or sends it a signal, the command is in `command.rs`, since it uses both an aggregate and a saga. It runs
//! in the caller's transaction and leaves nothing behind if it is refused, because the caller rolls back.

pub mod account_mail;
pub mod authorize_payment;
mod authorizing;
mod calling;
pub mod cancel_order;
pub mod cart_expiry;
pub mod gdpr_erasure;
mod giving_back;
pub mod keep_payment_method;
mod mailing;
pub mod paypal_approval;
pub mod place_order;
pub mod reconcile_payments;
pub mod refund_payment;
pub mod register_customer;
pub mod remove_product_from_carts;
pub mod reservation_expiry;
pub mod ship_order;
mod shop_saga;
mod steps;
pub mod stock_alert;
#[cfg(test)]
mod tests;
pub mod verify_email;

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{Engine, Gate};

pub use shop_saga::{About, Action, Listed, ShopSaga};
pub use steps::Steps;

use crate::shop::Shop;

/// All sagas of the shop. A line here registers the saga, and puts it before the deploy gate, the tests of all sagas, and those who read operations.
pub const SAGAS: &[&dyn Listed] = &[
    &place_order::PlaceOrder,
    &ship_order::ShipOrder,
    &cancel_order::CancelOrder,
    &refund_payment::RefundPayment,
    &paypal_approval::PayPalApproval,
    &authorize_payment::AuthorizePayment,
    &reconcile_payments::ReconcilePayments,
    &register_customer::RegisterCustomer,
    &account_mail::AccountMail,
    &verify_email::VerifyEmail,
    &remove_product_from_carts::RemoveProductFromCarts,
    &stock_alert::StockAlert,
    &cart_expiry::CartExpiry,
    &reservation_expiry::ReservationExpiry,
    &gdpr_erasure::GdprErasure,
    &keep_payment_method::KeepPaymentMethod,
];

/// The saga of that name. `None`: this program does not know it.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn Listed> {
    SAGAS.iter().copied().find(|saga| saga.name() == name)
}

/// The gate before a deploy: it finds open instances that this program could not continue.
#[must_use]
pub fn gate() -> Gate {
    SAGAS.iter().fold(Gate::new(), |gate, saga| saga.add_to_gate(gate))
}

/// The names of the sagas that call the payment gateway: those that may go on when it answers again.
#[must_use]
pub fn calling_the_gateway() -> Vec<&'static str> {
    SAGAS.iter().filter(|saga| saga.calls_gateway()).map(|saga| saga.name()).collect()
}

/// An engine that knows every saga of the shop, on a migrated database.
#[must_use]
pub fn engine(shop: &Arc<Shop>, pool: PgPool) -> Engine {
    let engine = Engine::builder(pool.clone());
    SAGAS.iter().fold(engine, |engine, saga| saga.add_to_engine(engine, shop, &pool)).build()
}

/// For tests: explores every saga of the shop, which must be sound. Without it a test makes no [`engine`].
///
/// # Panics
/// When a saga has faults, each in words.
#[cfg(feature = "testing")]
pub fn explore() {
    for saga in SAGAS {
        saga.explore().assert_sound();
    }
}
