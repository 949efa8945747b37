//! How payments are chosen, asked about and brought into agreement.

use std::sync::Arc;

use stepwise_engine::{Cause, Key, Outcome, StepError, StepTx};

use super::{Event, ReconcilePaymentsSteps};
use crate::{
    order::{
        outside::{self, Truth},
        reconcile::{self, Question},
    },
    payment::gateway::GatewayError,
    shop::{Context, Shop},
};

/// Does the steps of [`super::ReconcilePayments`].
pub struct Steps {
    shop: Arc<Shop>,
}

impl Steps {
    /// With the shop's gateway.
    #[must_use]
    pub fn new(shop: Arc<Shop>) -> Self {
        Self { shop }
    }
}

impl ReconcilePaymentsSteps for Steps {
    async fn choose(&self, tx: &mut StepTx<'_>) -> Result<Event, StepError> {
        let chosen = reconcile::choose(&mut Context::of_step(&self.shop, tx)).await?;
        Ok(chosen.map_or(Event::NoneDue, Event::Due))
    }

    async fn ask(&self, _: &Key, question: &Question) -> Outcome<Event> {
        match outside::ask(&*self.shop.gateway, &question.reference).await {
            Ok(truth) => Outcome::event(Event::Answered(truth)),
            // A question changes nothing, so it may simply be asked again.
            Err(GatewayError::NotDone(trouble) | GatewayError::Unknown(trouble)) => {
                Outcome::NotDone(Cause::new(trouble))
            }
        }
    }

    async fn apply(
        &self,
        tx: &mut StepTx<'_>,
        question: &Question,
        truth: &Truth,
    ) -> Result<Event, StepError> {
        reconcile::apply(&mut Context::of_step(&self.shop, tx), question, truth).await?;
        Ok(Event::Applied)
    }
}
