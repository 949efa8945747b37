//! The operation that a client sees of an erasure: the anonymized id, and when everything was deleted.

use super::GdprErasure;
use crate::sagas::{About, ShopSaga};

impl ShopSaga for GdprErasure {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Customer;
}
