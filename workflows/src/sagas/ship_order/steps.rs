//! How an order is shipped: the gateway takes the money, and SQL does the rest.

use stepwise_engine::{Cause, Effect, Key, Outcome, Probe, StepError, StepTx, Undoing};
use uuid::Uuid;

use super::{Event, GatewayReason, Reason, ShipOrderSteps, Shipment};
use crate::{
    order::ship,
    payment::gateway::{AuthorizationStatus, Capture},
    sagas::Steps,
    shop::Context,
};

impl ShipOrderSteps for Steps {
    async fn capture(&self, key: &Key, shipment: &Shipment) -> Outcome<Event> {
        let Shipment { reference, amount, .. } = shipment;
        match self.shop.gateway.capture(&key.to_string(), reference, *amount).await {
            Ok(Capture::Captured { amount: taken }) if taken == *amount => {
                Outcome::confirmed(Event::Captured(key.to_string()), reference.0.clone())
            }
            // It was taken before, not by this call, and can be taken only once.
            Ok(Capture::Captured { .. }) => Outcome::refuted(other_amount()),
            Ok(Capture::Refused(why)) => Outcome::refuted(Event::Refused(why)),
            Err(error) => error.into(),
        }
    }

    async fn find(&self, key: &Key, shipment: &Shipment) -> Probe<Event> {
        let status = match self.shop.gateway.find(&shipment.reference).await {
            Ok(Some(found)) => found.status,
            Ok(None) => return Probe::NotHappened,
            Err(error) => return Probe::Unknown(Cause::new(error)),
        };
        match status {
            AuthorizationStatus::Captured { captured, .. } if captured == shipment.amount => {
                Probe::confirmed(Event::Captured(key.to_string()), shipment.reference.0.clone())
            }
            AuthorizationStatus::Captured { .. } => {
                Probe::Answered { event: other_amount(), effect: Effect::Refuted }
            }
            AuthorizationStatus::Processing => {
                Probe::Unknown(Cause::new("the gateway is still working on it"))
            }
            // The repeated call is told why, if the money can no longer be taken.
            _ => Probe::NotHappened,
        }
    }

    async fn ship(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        key: &String,
    ) -> Result<Event, StepError> {
        if ship::complete(&mut Context::of_step(&self.shop, tx), *order, key).await? {
            Ok(Event::Shipped)
        } else {
            Err(StepError::Broken(format!("order {order} is not being shipped")))
        }
    }

    async fn withdraw(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        let mut ctx = Context::of_step(&self.shop, tx);
        Ok(ship::withdraw(&mut ctx, *order, undoing.reason.code()).await?)
    }
}

/// Somebody has taken another amount at the provider. Nobody can take the rest.
fn other_amount() -> Event {
    Event::Refused(GatewayReason::new("other_amount_captured"))
}
