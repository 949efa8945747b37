//! How a reservation ends.

use stepwise_engine::{StepError, StepTx};

use super::{Event, Reservation, ReservationExpirySteps};
use crate::{inventory, sagas::Steps, shop::Context};

impl ReservationExpirySteps for Steps {
    async fn release(&self, tx: &mut StepTx<'_>, it: &Reservation) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let left = inventory::expire_reservation(&mut ctx, it.order, it.inventory).await?;
        Ok(left.map_or(Event::Released, Event::Prolonged))
    }
}
