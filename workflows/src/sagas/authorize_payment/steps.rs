//! How the steps of an authorization are done: SQL in the transition's transaction, the gateway outside of it.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{Key, Outcome, Probe, Saga as _, StepError, StepTx, Undoing, Undone};

use super::{AuthorizePayment, AuthorizePaymentSteps, Event, Reason, Request};
use crate::{
    order::{
        authorize::{self, Reserved},
        place::Authorized,
    },
    payment::gateway::Reference,
    sagas::{
        authorizing::{Authorizer, voided},
        paypal_approval::give_back::give_back,
    },
    shop::{Context, Shop},
};

/// Does the steps of [`super::AuthorizePayment`].
pub struct Steps {
    shop: Arc<Shop>,
    gateway: Authorizer,
}

impl Steps {
    /// Calls the gateway of this shop. `pool` serves reads outside any transaction.
    #[must_use]
    pub fn new(shop: Arc<Shop>, pool: PgPool) -> Self {
        Self { gateway: Authorizer::new(shop.clone(), pool), shop }
    }
}

impl AuthorizePaymentSteps for Steps {
    async fn create(&self, key: &Key, request: &Request) -> Outcome<Event> {
        let Request { order, payment_method, amount, .. } = request;
        self.gateway.create(key, *order, *payment_method, *amount).await
    }

    async fn cancel(&self, request: &Request, undoing: &Undoing<Reason>) -> Undone {
        self.gateway.close(request.order, undoing).await
    }

    async fn confirm(&self, key: &Key, _: &Request, reference: &Reference) -> Outcome<Event> {
        self.gateway.confirm(key, reference).await
    }

    async fn find(&self, key: &Key, _: &Request, reference: &Reference) -> Probe<Event> {
        self.gateway.find(key, reference).await
    }

    async fn void(&self, _: &Request, reference: &Reference, undoing: &Undoing<Reason>) -> Undone {
        self.gateway.release(reference, undoing).await
    }

    async fn ask(&self, key: &Key, _: &Request, reference: &Reference) -> Outcome<Event> {
        self.gateway.ask(key, reference).await
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
