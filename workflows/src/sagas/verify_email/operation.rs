//! No client sees a verification mail as an operation.

use super::VerifyEmail;
use crate::sagas::ShopSaga;

impl ShopSaga for VerifyEmail {}
