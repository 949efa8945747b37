//! How the steps of an authorization are done: SQL in the transition's transaction, the gateway outside of it.

use stepwise_engine::{Key, Outcome, Probe, Saga as _, StepError, StepTx, Undoing, Undone};

use super::{AuthorizePayment, AuthorizePaymentSteps, Event, Reason, Request};
use crate::{
    order::{
        authorize::{self, Reserved},
        place::Authorized,
    },
    payment::gateway::Reference,
    sagas::{
        Steps,
        authorizing::{self, voided},
        paypal_approval::give_back::give_back,
    },
    shop::Context,
};

impl AuthorizePaymentSteps for Steps {
    async fn create(&self, key: &Key, request: &Request) -> Outcome<Event> {
        let Request { order, payment_method, amount, .. } = request;
        authorizing::create(self, key, *order, *payment_method, *amount).await
    }

    async fn cancel(&self, request: &Request, undoing: &Undoing<Reason>) -> Undone {
        authorizing::close(self, request.order, undoing).await
    }

    async fn confirm(&self, key: &Key, _: &Request, reference: &Reference) -> Outcome<Event> {
        authorizing::confirm(self, key, reference).await
    }

    async fn find(&self, key: &Key, _: &Request, reference: &Reference) -> Probe<Event> {
        authorizing::find(self, key, reference).await
    }

    async fn void(&self, _: &Request, reference: &Reference, undoing: &Undoing<Reason>) -> Undone {
        authorizing::release(self, reference, undoing).await
    }

    async fn ask(&self, key: &Key, _: &Request, reference: &Reference) -> Outcome<Event> {
        authorizing::ask(self, key, reference).await
    }

    async fn book(
        &self,
        tx: &mut StepTx<'_>,
        request: &Request,
        reference: &Reference,
        key: &String,
    ) -> Result<Event, StepError> {
        let Request { order, payment, .. } = *request;
        let authorized = Authorized { authorization_id: reference.0.clone(), key: key.clone() };
        let mut ctx = Context::of_step(&self.shop, tx);
        match authorize::complete(&mut ctx, order, payment, &authorized).await? {
            Reserved::InForce => Ok(Event::Booked),
            Reserved::NotWanted => Ok(Event::OrderCancelled),
            Reserved::NotFound => {
                Err(StepError::Broken(format!("payment {payment} is not being authorized")))
            }
        }
    }

    async fn give_up(
        &self,
        tx: &mut StepTx<'_>,
        request: &Request,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        let Request { order, payment, payment_method, .. } = *request;
        let given_back = voided(tx, AuthorizePayment::NAME, order).await?;
        let failure = undoing.reason.failure();
        let mut ctx = Context::of_step(&self.shop, tx);
        let given_up =
            authorize::give_up(&mut ctx, order, payment, failure.as_ref(), given_back.as_ref());
        given_up.await?;
        give_back(&mut ctx, order, Some(payment_method)).await
    }
}
