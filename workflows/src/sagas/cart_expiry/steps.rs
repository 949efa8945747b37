//! How a cart is looked at.

use std::sync::Arc;

use stepwise_engine::{StepError, StepTx, Undoing};
use uuid::Uuid;

use super::{CartExpirySteps, Event};
use crate::{
    cart,
    shop::{Context, Shop},
};

/// Does the steps of [`super::CartExpiry`].
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
