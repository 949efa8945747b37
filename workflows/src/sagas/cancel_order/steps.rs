//! How a cancelled order's money is given back.

use stepwise_engine::{Cause, Effect, Key, Outcome, Probe, Saga as _, StepError, StepTx};
use uuid::Uuid;

use super::{CancelOrderSteps, Event, GiveBack, Returned};
use crate::{
    money::Money,
    order::{
        cancel::{self, AfterPlacement, HowBack, MoneyBack},
        refund::{self, DONE_OUTSIDE, Refunded},
    },
    payment::gateway::{AuthorizationStatus, Cancellation},
    sagas::{
        Steps,
        authorizing::voided,
        giving_back::{self, Taken},
        place_order::PlaceOrder,
    },
    shop::Context,
};

impl GiveBack {
    /// The money that a cancelled order's payment gives back, and how; `None` if there is none.
    pub(crate) fn of(order: Uuid, back: MoneyBack) -> Option<(Money, Self)> {
        let (reference, captured) = match back.how {
            HowBack::Void(reference) => (reference, false),
            HowBack::Refund(reference) => (reference, true),
            HowBack::Nothing => return None,
        };
        let row = Some(back.row);
        Some((back.amount, Self { order, reference, captured, row, taken: None }))
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
            Err(error) => error.into(),
        }
    }

    async fn find(&self, key: &Key, amount: &Money, back: &GiveBack) -> Probe<Event> {
        let found = match self.shop.gateway.find(&back.reference).await {
            Ok(Some(found)) => found,
            Ok(None) => return Probe::NotHappened,
            Err(error) => return Probe::Unknown(Cause::new(error)),
        };
        match found.status {
            AuthorizationStatus::Cancelled => {
                let reference = found.reference.0;
                let event = Event::GivenBack(*amount, reference.clone(), key.to_string());
                Probe::confirmed(event, reference)
            }
            AuthorizationStatus::Captured { .. } => {
                Probe::Answered { event: Event::Captured, effect: Effect::Refuted }
            }
            _ => Probe::NotHappened,
        }
    }

    async fn refund(&self, key: &Key, amount: &Money, back: &GiveBack) -> Outcome<Event> {
        let (gateway, of) = (&*self.shop.gateway, &back.reference);
        let why = match giving_back::refund(gateway, key, of, *amount, Event::GivenBack).await {
            Ok(outcome) => return outcome,
            Err(why) => why,
        };
        match giving_back::taken(gateway, of).await {
            Ok(Some(taken)) if taken.left.amount() < amount.amount() => {
                Outcome::refuted(Event::Captured)
            }
            Ok(_) => Outcome::AnsweredNo(Cause::new(format_args!("refund refused: {why}"))),
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn ask(&self, _: &Key, back: &GiveBack) -> Outcome<Event> {
        match giving_back::taken(&*self.shop.gateway, &back.reference).await {
            Ok(Some(Taken { left, .. })) if left.amount().is_zero() => {
                Outcome::event(Event::NothingLeft)
            }
            Ok(Some(Taken { captured, left })) => Outcome::event(Event::Left(captured, left)),
            Ok(None) => Outcome::AnsweredNo(Cause::new("the gateway took no money")),
            // A question changes nothing, so it may simply be asked again.
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn record_refund(
        &self,
        tx: &mut StepTx<'_>,
        returned: &Returned,
    ) -> Result<Event, StepError> {
        let Returned { order, amount, refund_id, key, captured, row, taken } = returned.clone();
        let refunded = Refunded { row, refund_id, amount, key, captured, taken };
        let mut ctx = Context::of_step(&self.shop, tx);
        if refund::complete(&mut ctx, order, &refunded).await? {
            Ok(Event::Recorded)
        } else {
            Err(StepError::Broken(format!("order {order} has no money that could come back")))
        }
    }

    async fn record_nothing(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        row: &Option<Uuid>,
    ) -> Result<Event, StepError> {
        refund::fail(tx, *order, *row, None, DONE_OUTSIDE).await?;
        Ok(Event::Recorded)
    }
}
