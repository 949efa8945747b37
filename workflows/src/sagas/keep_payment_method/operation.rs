//! No client sees how a payment method is kept: it can be used at once.

use super::KeepPaymentMethod;
use crate::sagas::ShopSaga;

impl ShopSaga for KeepPaymentMethod {
    const CALLS_GATEWAY: bool = true;
}
