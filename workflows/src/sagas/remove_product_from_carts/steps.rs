//! How a product is taken out of carts.

use stepwise_engine::{StepError, StepTx};
use uuid::Uuid;

use super::{Event, RemoveProductFromCartsSteps};
use crate::{cart, sagas::Steps, shop::Context};

impl RemoveProductFromCartsSteps for Steps {
    async fn remove(&self, tx: &mut StepTx<'_>, product: &Uuid) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let is_removed = cart::withdraw_product(&mut ctx, *product).await?;
        Ok(if is_removed { Event::Removed } else { Event::NoneLeft })
    }
}
