//! How a reservation ends.

use std::sync::Arc;

use stepwise_engine::{StepError, StepTx};

use super::{Event, Reservation, ReservationExpirySteps};
use crate::{
    inventory,
    shop::{Context, Shop},
};

/// Does the steps of [`super::ReservationExpiry`].
pub struct Steps {
    shop: Arc<Shop>,
}

impl Steps {
    /// With the shop's configuration.
    #[must_use]
    pub fn new(shop: Arc<Shop>) -> Self {
        Self { shop }
    }
}

impl ReservationExpirySteps for Steps {
    async fn release(&self, tx: &mut StepTx<'_>, it: &Reservation) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let left = inventory::expire_reservation(&mut ctx, it.order, it.inventory).await?;
        Ok(left.map_or(Event::Released, Event::Prolonged))
    }
}
