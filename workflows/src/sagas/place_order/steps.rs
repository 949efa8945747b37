//! How the steps of a placement are done: SQL in the transition's transaction, the gateway outside of it.

use stepwise_engine::{
    Key, Outcome, Probe, Saga as _, StepError, StepOf, StepTx, StepsTx, Undoing, Undone,
};
use uuid::Uuid;

use super::{Event, PlaceOrder, PlaceOrderSteps, Placement, Reason};
use crate::{
    order::{
        OrderStatus,
        place::{self, Authorized, Completion, Paid},
        release::{self, Ending, Release},
    },
    payment::gateway::Reference,
    sagas::{
        Steps,
        authorizing::{self, voided},
        paypal_approval::give_back::give_back,
    },
    shop::{Cause, Context},
};

impl PlaceOrderSteps for Steps {
    async fn create(&self, key: &Key, placement: &Placement) -> Outcome<Event> {
        let Placement { order, payment_method, amount, .. } = placement;
        authorizing::create(self, key, *order, *payment_method, *amount).await
    }

    async fn cancel(&self, placement: &Placement, undoing: &Undoing<Reason>) -> Undone {
        authorizing::close(self, placement.order, undoing).await
    }

    async fn confirm(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        authorizing::confirm(self, key, reference).await
    }

    async fn find(&self, key: &Key, _: &Placement, reference: &Reference) -> Probe<Event> {
        authorizing::find(self, key, reference).await
    }

    async fn void(
        &self,
        _: &Placement,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        authorizing::release(self, reference, undoing).await
    }

    async fn ask(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        authorizing::ask(self, key, reference).await
    }

    async fn place(
        &self,
        tx: &mut StepsTx<'_>,
        all: &[(StepOf<'_>, &Uuid, &Reference, &String)],
    ) -> Result<Vec<Event>, StepError> {
        let paid: Vec<Paid> = all
            .iter()
            .map(|(of, order, reference, key)| Paid {
                order_id: **order,
                cause: Cause::of_step(*of),
                authorized: Authorized {
                    authorization_id: reference.0.clone(),
                    key: (*key).clone(),
                },
            })
            .collect();
        let completions = place::complete(&mut Context::of_steps(&self.shop, tx), &paid).await?;
        let events = paid.iter().zip(completions).map(|(paid, completion)| match completion {
            Completion::Placed => Ok(Event::OrderPlaced),
            other => {
                let order = paid.order_id;
                Err(StepError::Broken(format!("order {order} cannot be placed: {other:?}")))
            }
        });
        events.collect()
    }

    async fn release_stock(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        let ending = match &undoing.reason {
            Reason::PaymentFailed(failure) => Ending::Failed(failure.clone()),
            Reason::Cancelled => Ending::Cancelled,
        };
        let given_back = voided(tx, PlaceOrder::NAME, *order).await?;
        let mut ctx = Context::of_step(&self.shop, tx);
        match release::release(&mut ctx, *order, &ending, given_back.as_ref()).await? {
            Release::Released => give_back(&mut ctx, *order, None).await,
            // The transaction that ended the order has released its stock as well.
            Release::NotPlacing(OrderStatus::Failed | OrderStatus::Cancelled) => Ok(()),
            other => Err(StepError::Broken(format!("order {order} cannot be released: {other:?}"))),
        }
    }

    async fn cancel_of_version_1(&self, order: &Uuid, undoing: &Undoing<Reason>) -> Undone {
        authorizing::close(self, *order, undoing).await
    }

    async fn void_of_version_1(
        &self,
        _: &Uuid,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        authorizing::release(self, reference, undoing).await
    }
}
