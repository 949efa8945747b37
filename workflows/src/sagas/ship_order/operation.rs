//! A client sees of a shipment the order, and the reason why it is not shipped.

use super::{Reason, ShipOrder};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, ShopSaga},
};

impl ShopSaga for ShipOrder {
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Order;

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
