//! A client sees of a refund the order, and the reason why its money is not given back.

use super::{Reason, RefundPayment};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, ShopSaga},
};

impl ShopSaga for RefundPayment {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Order;

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
