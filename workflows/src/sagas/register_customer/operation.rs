//! No client sees a verification mail as an operation.

use super::RegisterCustomer;
use crate::sagas::ShopSaga;

impl ShopSaga for RegisterCustomer {}
