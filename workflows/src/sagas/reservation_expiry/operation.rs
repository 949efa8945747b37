//! No client sees the end of a reservation as an operation.

use super::ReservationExpiry;
use crate::sagas::ShopSaga;

impl ShopSaga for ReservationExpiry {}
