//! A client sees of a refund the order, and the reason why its money is not given back.

use std::sync::Arc;

use sqlx::PgPool;

use super::{Reason, RefundPayment, steps::Steps};
use crate::{
    refusal::{Refusal, Refused, Surprise},
    sagas::{About, ShopSaga},
    shop::Shop,
};

impl ShopSaga for RefundPayment {
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
