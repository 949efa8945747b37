//! No client sees a reconciliation as an operation.

use super::ReconcilePayments;
use crate::sagas::ShopSaga;

impl ShopSaga for ReconcilePayments {
    const CALLS_GATEWAY: bool = true;
}
