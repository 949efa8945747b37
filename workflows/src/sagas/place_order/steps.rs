//! How the steps of a placement are done: SQL in the transition's transaction, the gateway outside of it.

use std::sync::Arc;

use sqlx::PgPool;
use stepwise_engine::{Cause, Key, Outcome, Probe, StepError, StepTx, Undoing, Undone, database};
use uuid::Uuid;

use super::{
    Event, PaymentFailure, PlaceOrderSteps, Placement, Reason,
    answers::{asked, closed, confirmed, created, found, refused, released},
};
use crate::{
    customer::method,
    order::{
        OrderStatus,
        place::{self, Authorized, Completion},
        release::{self, Ending, Release},
    },
    payment::gateway::{Charge, Reason as GatewayReason, Reference},
    shop::{Context, Shop},
};

/// Does the steps of [`super::PlaceOrder`].
pub struct Steps {
    shop: Arc<Shop>,
    pool: PgPool,
}

impl Steps {
    /// Calls the gateway of this shop. `pool` serves reads outside any transaction.
    #[must_use]
    pub fn new(shop: Arc<Shop>, pool: PgPool) -> Self {
        Self { shop, pool }
    }

    /// Closes the authorization that Create opened, whatever is reserved under it. It is found by its reference, or else by the key under
    /// which it was created.
    async fn close(&self, order: Uuid, undoing: &Undoing<Reason>) -> Undone {
        let gateway = &self.shop.gateway;
        let reference = match &undoing.reference {
            Some(reference) => Reference(reference.clone()),
            None => match gateway.find_by_key(order, &undoing.step_key.to_string()).await {
                Ok(Some(found)) => found.reference,
                Ok(None) => return Undone::Nothing,
                Err(error) => return Undone::NotDone(Cause::new(error)),
            },
        };
        closed(gateway.cancel(&undoing.key.to_string(), &reference).await)
    }

    /// Releases the money that Confirm may have reserved, by closing its authorization.
    async fn release(&self, reference: &Reference, undoing: &Undoing<Reason>) -> Undone {
        released(self.shop.gateway.cancel(&undoing.key.to_string(), reference).await)
    }
}

impl PlaceOrderSteps for Steps {
    async fn create(&self, key: &Key, placement: &Placement) -> Outcome<Event> {
        let id = placement.payment_method;
        let token =
            database::ask(&self.pool, |mut db| async move { method::token(&mut *db, id).await });
        let method = match token.await {
            Ok(Some(token)) => token,
            Ok(None) => {
                let why = GatewayReason::new("payment_method_removed");
                return refused(PaymentFailure::Declined(why));
            }
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        let charge = Charge { order_id: placement.order, amount: placement.amount, method };
        created(self.shop.gateway.create(&key.to_string(), &charge).await)
    }

    async fn cancel(&self, placement: &Placement, undoing: &Undoing<Reason>) -> Undone {
        self.close(placement.order, undoing).await
    }

    async fn confirm(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        confirmed(self.shop.gateway.confirm(&key.to_string(), reference).await, key, reference)
    }

    async fn find(&self, key: &Key, _: &Placement, reference: &Reference) -> Probe<Event> {
        found(self.shop.gateway.find(reference).await, key)
    }

    async fn void(
        &self,
        _: &Placement,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        self.release(reference, undoing).await
    }

    async fn ask(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        asked(self.shop.gateway.find(reference).await, key)
    }

    async fn place(
        &self,
        tx: &mut StepTx<'_>,
        order: &Uuid,
        reference: &Reference,
        key: &String,
    ) -> Result<Event, StepError> {
        let authorized = Authorized { authorization_id: reference.0.clone(), key: key.clone() };
        match place::complete(&mut Context::of_step(&self.shop, tx), *order, &authorized).await? {
            Completion::Placed => Ok(Event::OrderPlaced),
            other => Err(StepError::Broken(format!("order {order} cannot be placed: {other:?}"))),
        }
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
        let voided = super::voided::voided(tx, *order).await?;
        let mut ctx = Context::of_step(&self.shop, tx);
        match release::release(&mut ctx, *order, &ending, voided.as_ref()).await? {
            // The transaction that ended the order has released its stock as well.
            Release::Released
            | Release::NotPlacing(OrderStatus::Failed | OrderStatus::Cancelled) => Ok(()),
            other => Err(StepError::Broken(format!("order {order} cannot be released: {other:?}"))),
        }
    }

    async fn cancel_of_version_1(&self, order: &Uuid, undoing: &Undoing<Reason>) -> Undone {
        self.close(*order, undoing).await
    }

    async fn void_of_version_1(
        &self,
        _: &Uuid,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        self.release(reference, undoing).await
    }
}
