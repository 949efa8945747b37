//! How a cancelled order's money is given back.

use std::sync::Arc;

use sqlx::PgConnection;
use stepwise_engine::{ActivityKey, Cause, EffectRow, Outcome, StepError, Undone};

use super::{Activity, CancelOrder, Event, Reason, Tx};
use crate::{
    order::cancel::{self, Refunded},
    payment::gateway::{Cancellation, GatewayError, Refund},
    shop::Shop,
};

/// Does the steps of [`CancelOrder`].
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

impl stepwise_engine::Steps<CancelOrder> for Steps {
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        let Tx::RecordRefund { order, amount, refund_id, key } = step else {
            return Err(StepError::Broken(format!("{step:?} is not run by the saga")));
        };
        let refunded = Refunded { refund_id: refund_id.clone(), amount: *amount, key: key.clone() };
        if cancel::refunded(tx, *order, &refunded).await? {
            Ok(Event::Recorded)
        } else {
            Err(StepError::Broken(format!("order {order} has no money that could come back")))
        }
    }

    async fn undo_run(&self, _: &mut PgConnection, step: &Tx, _: &Reason) -> Result<(), StepError> {
        Err(StepError::Broken(format!("{step:?} is no undo")))
    }

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        let text = key.to_string();
        match activity {
            Activity::Void(amount, back) => {
                match self.shop.gateway.cancel(&text, &back.reference).await {
                    Ok(Cancellation::Cancelled { reference, .. }) => Outcome::confirmed(
                        Event::GivenBack(*amount, reference.0.clone(), text),
                        reference.0,
                    ),
                    Ok(Cancellation::AlreadyCaptured) => Outcome::refuted(Event::Captured),
                    Ok(Cancellation::NotFound) => {
                        Outcome::NotDone(Cause::new("the gateway does not know the authorization"))
                    }
                    Err(error) => no_answer(error),
                }
            }
            Activity::Refund(amount, back) => {
                match self.shop.gateway.refund(&text, &back.reference, *amount).await {
                    Ok(Refund::Refunded { reference, amount }) => Outcome::confirmed(
                        Event::GivenBack(amount, reference.0.clone(), text),
                        reference.0,
                    ),
                    Ok(Refund::Refused(why)) => {
                        Outcome::NotDone(Cause::new(format_args!("refund refused: {why}")))
                    }
                    Err(error) => no_answer(error),
                }
            }
        }
    }

    async fn undo_call(
        &self,
        _: &ActivityKey,
        undo: &Activity,
        _: Option<&EffectRow>,
        _: &Reason,
    ) -> Undone {
        Undone::Impossible(Cause::new(format_args!("{undo:?} is no undo")))
    }
}
