//! No client sees a mail about a password as an operation.

use super::AccountMail;
use crate::sagas::ShopSaga;

impl ShopSaga for AccountMail {}
