//! How a product is taken out of carts.

use std::sync::Arc;

use stepwise_engine::{StepError, StepTx};
use uuid::Uuid;

use super::{Event, RemoveProductFromCartsSteps};
use crate::{
    cart,
    shop::{Context, Shop},
};

/// Does the steps of [`super::RemoveProductFromCarts`].
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

impl RemoveProductFromCartsSteps for Steps {
    async fn remove(&self, tx: &mut StepTx<'_>, product: &Uuid) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let is_removed = cart::withdraw_product(&mut ctx, *product).await?;
        Ok(if is_removed { Event::Removed } else { Event::NoneLeft })
    }
}
