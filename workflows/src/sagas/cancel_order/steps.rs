//! How a cancelled order's money is given back.

use std::sync::Arc;

use stepwise_engine::{Cause, Key, Outcome, Saga as _, StepError, StepTx};
use uuid::Uuid;

use super::{CancelOrderSteps, Event, GiveBack};
use crate::{
    money::Money,
    order::cancel::{self, AfterPlacement, HowBack, MoneyBack, Refunded},
    payment::gateway::{Cancellation, GatewayError, Refund},
    sagas::{authorizing::voided, place_order::PlaceOrder},
    shop::{Context, Shop},
};

/// Does the steps of [`super::CancelOrder`].
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

fn no_answer(error: GatewayError) -> Outcome<Event> {
    match error {
        GatewayError::NotDone(trouble) => Outcome::NotDone(Cause::new(trouble)),
        GatewayError::Unknown(trouble) => Outcome::Unknown(Cause::new(trouble)),
    }
}

impl GiveBack {
    /// The money that a cancelled order's payment gives back, and how; `None` if there is none.
    pub(crate) fn of(order: Uuid, back: MoneyBack) -> Option<(Money, Self)> {
        let (reference, captured) = match back.how {
            HowBack::Void(reference) => (reference, false),
            HowBack::Refund(reference) => (reference, true),
            HowBack::Nothing => return None,
        };
        Some((back.amount, Self { order, reference, captured }))
    }
}

impl CancelOrderSteps for Steps {
    async fn look(&self, tx: &mut StepTx<'_>, order: &Uuid) -> Result<Event, StepError> {
        let voided = voided(tx, PlaceOrder::NAME, *order).await?;
        let mut ctx = Context::of_step(&self.shop, tx);
        match cancel::after_placement(&mut ctx, *order, voided.as_ref()).await? {
            Some(AfterPlacement::Cancelled) => Ok(Event::OrderCancelled),
            Some(AfterPlacement::Failed) => Ok(Event::OrderFailed),
            Some(AfterPlacement::Placed) => Ok(Event::OrderPlaced),
            Some(AfterPlacement::Shipped) => Ok(Event::OrderShipped),
            None => Err(StepError::Broken(format!("there is no order {order}"))),
        }
    }

    async fn cancel(&self, tx: &mut StepTx<'_>, order: &Uuid) -> Result<Event, StepError> {
        let Some(back) =
            cancel::cancel_as_asked(&mut Context::of_step(&self.shop, tx), *order).await?
        else {
            return Err(StepError::Broken(format!("order {order} cannot be cancelled")));
        };
        Ok(match GiveBack::of(*order, back) {
            Some((amount, back)) => Event::MoneyToGiveBack(amount, back),
            None => Event::NothingToGiveBack,
        })
    }

    async fn void(&self, key: &Key, amount: &Money, back: &GiveBack) -> Outcome<Event> {
        let key = key.to_string();
        match self.shop.gateway.cancel(&key, &back.reference).await {
            Ok(Cancellation::Cancelled { reference, .. }) => {
                let event = Event::GivenBack(*amount, reference.0.clone(), key);
                Outcome::confirmed(event, reference.0)
            }
            Ok(Cancellation::AlreadyCaptured) => Outcome::refuted(Event::Captured),
            Ok(Cancellation::NotFound) => {
                Outcome::AnsweredNo(Cause::new("the gateway does not know the authorization"))
            }
            Err(error) => no_answer(error),
        }
    }

    async fn refund(&self, key: &Key, amount: &Money, back: &GiveBack) -> Outcome<Event> {
        let key = key.to_string();
        match self.shop.gateway.refund(&key, &back.reference, *amount).await {
            // The gateway completes a pending refund. If that fails, its webhook corrects the books.
            Ok(Refund::Refunded { reference, amount } | Refund::Pending { reference, amount }) => {
                let event = Event::GivenBack(amount, reference.0.clone(), key);
                Outcome::confirmed(event, reference.0)
            }
            Ok(Refund::Refused(why)) => {
                Outcome::AnsweredNo(Cause::new(format_args!("refund refused: {why}")))
            }
            Err(error) => no_answer(error),
        }
    }

    async fn record_refund(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        amount: &Money,
        refund_id: &String,
        key: &String,
        captured: &bool,
    ) -> Result<Event, StepError> {
        let (refund_id, key) = (refund_id.clone(), key.clone());
        let refunded = Refunded { refund_id, amount: *amount, key, captured: *captured };
        let mut ctx = Context::of_step(&self.shop, tx);
        if cancel::refunded(&mut ctx, *order, &refunded).await? {
            Ok(Event::Recorded)
        } else {
            Err(StepError::Broken(format!("order {order} has no money that could come back")))
        }
    }
}
