//! How partners are told.

use stepwise_engine::{StepError, StepTx};

use super::{Alert, Crossing, Event, StockAlertSteps};
use crate::{integration::Notification, inventory, sagas::Steps, shop::Context};

impl StockAlertSteps for Steps {
    async fn publish(&self, tx: &mut StepTx<'_>, alert: &Alert) -> Result<Event, StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        let Alert { product: product_id, inventory, crossing } = *alert;
        let product_name = inventory::name_of(&mut ctx, inventory).await?;
        let message = match crossing {
            Crossing::Low { available: current_stock, threshold } => {
                Notification::LowStock { product_id, product_name, current_stock, threshold }
            }
            Crossing::Out => Notification::OutOfStock { product_id, product_name },
        };
        ctx.record_and_publish([], Some(message)).await?;
        Ok(Event::Published)
    }
}
