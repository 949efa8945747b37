//! A client sees of a shipment the order, and the reason why it is not shipped.

use std::sync::Arc;

use sqlx::PgPool;

use super::{Reason, ShipOrder, steps::Steps};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, ShopSaga},
    shop::Shop,
};

impl ShopSaga for ShipOrder {
    type Steps = Steps;
    const CALLS_GATEWAY: bool = true;
    const ABOUT: About = About::Order;

    fn steps(shop: &Arc<Shop>, _: &PgPool) -> Steps {
        Steps::new(shop.clone())
    }

    fn refused(reason: Reason) -> Result<Refused, Surprise> {
        reason.refused()
    }
}
