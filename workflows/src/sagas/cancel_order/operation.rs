//! The operation that a client sees of a cancellation: the order, and the reason why it is not cancelled.

use super::{CancelOrder, Reason};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, ShopSaga},
};

impl ShopSaga for CancelOrder {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Order;

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
