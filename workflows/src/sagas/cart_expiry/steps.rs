//! How a cart is looked at.

use stepwise_engine::{StepError, StepTx, Undoing};
use uuid::Uuid;

use super::{CartExpirySteps, Event};
use crate::{cart, sagas::Steps, shop::Context};

impl CartExpirySteps for Steps {
    async fn look(&self, tx: &mut StepTx<'_>, cart: &Uuid) -> Result<Event, StepError> {
        let left = cart::expire(&mut Context::of_step(&self.shop, tx), *cart).await?;
        Ok(left.map_or(Event::Ended, Event::InUse))
    }

    async fn unmark(
        &self,
        tx: &mut StepTx<'_>,
        cart: &Uuid,
        _: &Undoing<String>,
    ) -> Result<(), StepError> {
        Ok(cart::leave_unwatched(tx, *cart).await?)
    }
}
