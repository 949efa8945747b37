//! How a payment is refunded: the gateway gives the money back, and SQL does the rest.

use stepwise_engine::{Key, Outcome, StepError, StepTx, Undoing};
use uuid::Uuid;

use super::{Event, Reason, Refund, RefundPaymentSteps};
use crate::{
    money::Money,
    order::refund::{self, Refunded},
    sagas::{Steps, giving_back},
    shop::Context,
};

impl RefundPaymentSteps for Steps {
    async fn refund(&self, key: &Key, refund: &Refund) -> Outcome<Event> {
        let (gateway, of) = (&*self.shop.gateway, &refund.reference);
        match giving_back::refund(gateway, key, of, refund.amount, Event::GivenBack).await {
            Ok(outcome) => outcome,
            Err(why) => Outcome::refuted(Event::Refused(why, key.to_string())),
        }
    }

    async fn record(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        row: &Uuid,
        amount: &Money,
        refund_id: &String,
        key: &String,
    ) -> Result<Event, StepError> {
        let (refund_id, key) = (refund_id.clone(), key.clone());
        let row = Some(*row);
        let back = Refunded { row, refund_id, amount: *amount, key, captured: true, taken: None };
        if refund::complete(&mut Context::of_step(&self.shop, tx), *order, &back).await? {
            Ok(Event::Recorded)
        } else {
            Err(StepError::Broken(format!("nobody has asked for the refund of order {order}")))
        }
    }

    async fn withdraw(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        row: &Uuid,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        let reason = &undoing.reason;
        Ok(refund::fail(tx, *order, Some(*row), reason.key(), reason.code()).await?)
    }
}
