//! How an order is placed: SQL in the transition's transaction, the gateway outside of it.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    Cause, Effect, EffectStatus, Key, Outcome, Probe, Saga as _, StepError, Undoing, Undone,
    inspect,
};
use uuid::Uuid;

use super::{Event, PlaceOrder, PlaceOrderSteps, Placement, Reason};
use crate::{
    order::{
        OrderStatus,
        place::{self, Authorized, Completion},
        release::{self, Ending, Release, Voided},
    },
    payment::{
        PaymentFailure,
        gateway::{
            Authorization, AuthorizationStatus, Cancellation, Charge, Confirmation, Creation,
            GatewayError, MethodToken, Reason as GatewayReason, Reference,
        },
    },
    shop::Shop,
};

/// Does the steps of [`PlaceOrder`].
pub struct Steps {
    shop: Arc<Shop>,
    pool: PgPool,
}

impl Steps {
    /// With the shop's gateway; `pool` is only read.
    #[must_use]
    pub fn new(shop: Arc<Shop>, pool: PgPool) -> Self {
        Self { shop, pool }
    }

    /// Round trips: 1.
    async fn token(&self, method: Uuid) -> Result<Option<MethodToken>, sqlx::Error> {
        let token: Option<String> = sqlx::query_scalar(
            "-- name: token of payment method
            select token from shop.payment_method where payment_method_id = $1 and removed_at is null",
        )
        .bind(method)
        .fetch_optional(&self.pool)
        .await?;
        Ok(token.map(MethodToken))
    }

    /// Closes the authorization that Create opened, whatever is reserved under it. It is found by its reference, or else by the key under which it
    /// was created.
    async fn close_created(&self, order: Uuid, undoing: &Undoing<Reason>) -> Undone {
        if let Some(reference) = &undoing.reference {
            return self.close(&Reference(reference.clone()), undoing).await;
        }
        match self.shop.gateway.find_by_key(order, &undoing.step_key.to_string()).await {
            Ok(Some(found)) => self.close(&found.reference, undoing).await,
            Ok(None) => Undone::Nothing,
            Err(error) => Undone::NotDone(Cause::new(error)),
        }
    }

    async fn close(&self, reference: &Reference, undoing: &Undoing<Reason>) -> Undone {
        closed(self.shop.gateway.cancel(&undoing.key.to_string(), reference).await)
    }

    /// Closes the authorization that Confirm may have reserved money under.
    async fn release_money(&self, reference: &Reference, undoing: &Undoing<Reason>) -> Undone {
        match self.shop.gateway.cancel(&undoing.key.to_string(), reference).await {
            // Closed for ever, but nothing had been reserved: the ledger is not to say that something was.
            Ok(Cancellation::Cancelled { released, .. }) if released.amount().is_zero() => {
                Undone::Nothing
            }
            answer => closed(answer),
        }
    }
}

fn created(reference: Reference) -> Outcome<Event> {
    Outcome::confirmed(Event::Created(reference.clone()), reference.0)
}

fn refused(failure: PaymentFailure) -> Outcome<Event> {
    Outcome::refuted(Event::Refused(failure))
}

fn closed(answer: Result<Cancellation, GatewayError>) -> Undone {
    match answer {
        Ok(Cancellation::Cancelled { reference, .. }) => Undone::Undone(Some(reference.0)),
        Ok(Cancellation::NotFound) => Undone::Nothing,
        Ok(Cancellation::AlreadyCaptured) => {
            Undone::Impossible(Cause::new("already captured, cannot be voided"))
        }
        Err(error) => Undone::NotDone(Cause::new(error)),
    }
}

fn no_answer(error: GatewayError) -> Outcome<Event> {
    match error {
        GatewayError::NotDone(trouble) => Outcome::NotDone(Cause::new(trouble)),
        GatewayError::Unknown(trouble) => Outcome::Unknown(Cause::new(trouble)),
    }
}

/// What a confirmed, refused or still open authorization means for a confirm whose answer is missing.
fn told(found: Option<Authorization>, key: &Key) -> Probe<Event> {
    let Some(found) = found else { return Probe::NotHappened };
    let (event, effect) = match found.status {
        AuthorizationStatus::Created => return Probe::NotHappened,
        AuthorizationStatus::Processing => {
            return Probe::Unknown(Cause::new("the gateway is still working on it"));
        }
        AuthorizationStatus::Authorized | AuthorizationStatus::Captured { .. } => {
            (Event::Confirmed(key.to_string()), Effect::Confirmed(found.reference.0))
        }
        AuthorizationStatus::ApprovalRequired(approval) => {
            let (url, expires_at) = (approval.url, approval.expires_at);
            (Event::ApprovalRequired { url, expires_at }, Effect::Confirmed(found.reference.0))
        }
        AuthorizationStatus::Declined(why) => {
            (Event::Refused(PaymentFailure::Declined(why)), Effect::Refuted)
        }
        AuthorizationStatus::Unsupported => {
            (Event::Refused(PaymentFailure::Unsupported), Effect::Refuted)
        }
        AuthorizationStatus::Cancelled => (Event::Voided, Effect::Refuted),
    };
    Probe::Answered { event, effect }
}

impl PlaceOrderSteps for Steps {
    async fn create(&self, key: &Key, placement: &Placement) -> Outcome<Event> {
        let method = match self.token(placement.payment_method).await {
            Ok(Some(token)) => token,
            Ok(None) => {
                return refused(PaymentFailure::Declined(GatewayReason::new(
                    "payment_method_removed",
                )));
            }
            Err(error) => return Outcome::NotDone(Cause::new(error)),
        };
        let charge = Charge { order_id: placement.order, amount: placement.amount, method };
        match self.shop.gateway.create(&key.to_string(), &charge).await {
            Ok(Creation::Created(reference)) => created(reference),
            Ok(Creation::Refused(why)) => refused(PaymentFailure::Declined(why)),
            Err(error) => no_answer(error),
        }
    }

    async fn cancel(&self, placement: &Placement, undoing: &Undoing<Reason>) -> Undone {
        self.close_created(placement.order, undoing).await
    }

    async fn confirm(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        match self.shop.gateway.confirm(&key.to_string(), reference).await {
            Ok(Confirmation::Confirmed(reference)) => {
                Outcome::confirmed(Event::Confirmed(key.to_string()), reference.0)
            }
            Ok(Confirmation::Declined(why)) => refused(PaymentFailure::Declined(why)),
            Ok(Confirmation::Unsupported) => refused(PaymentFailure::Unsupported),
            Ok(Confirmation::Cancelled) => Outcome::refuted(Event::Voided),
            Ok(Confirmation::ApprovalRequired(approval)) => {
                let (url, expires_at) = (approval.url, approval.expires_at);
                // From now on the customer may reserve the money at any moment, without a request of ours: taken back as if they had.
                Outcome::confirmed(Event::ApprovalRequired { url, expires_at }, reference.0.clone())
            }
            Err(error) => no_answer(error),
        }
    }

    async fn find(&self, key: &Key, _: &Placement, reference: &Reference) -> Probe<Event> {
        match self.shop.gateway.find(reference).await {
            Ok(found) => told(found, key),
            Err(error) => Probe::Unknown(Cause::new(error)),
        }
    }

    async fn void(
        &self,
        _: &Placement,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        self.release_money(reference, undoing).await
    }

    async fn ask(&self, key: &Key, _: &Placement, reference: &Reference) -> Outcome<Event> {
        match self.shop.gateway.find(reference).await.map(|found| told(found, key)) {
            Ok(Probe::Answered { event, effect }) => Outcome::Answered { event, effect },
            Ok(Probe::NotHappened) => Outcome::refuted(Event::Voided),
            Ok(Probe::Unknown(cause)) => Outcome::NotDone(cause),
            Err(error) => Outcome::NotDone(Cause::new(error)),
        }
    }

    async fn place(
        &self,
        tx: &mut PgConnection,
        order: &Uuid,
        reference: &Reference,
        key: &String,
    ) -> Result<Event, StepError> {
        let authorized = Authorized { authorization_id: reference.0.clone(), key: key.clone() };
        match place::complete(tx, *order, &authorized).await? {
            Completion::Placed => Ok(Event::OrderPlaced),
            other => Err(StepError::Broken(format!("order {order} cannot be placed: {other:?}"))),
        }
    }

    async fn release_stock(
        &self,
        tx: &mut PgConnection,
        order: &Uuid,
        undoing: &Undoing<Reason>,
    ) -> Result<(), StepError> {
        let ending = match &undoing.reason {
            Reason::PaymentFailed(failure) => Ending::Failed(failure.clone()),
            Reason::Cancelled => Ending::Cancelled,
        };
        let voided = voided(tx, *order).await?;
        match release::release(tx, *order, &ending, voided.as_ref()).await? {
            // One that has ended was released by the transaction that ended it.
            Release::Released
            | Release::NotPlacing(OrderStatus::Failed | OrderStatus::Cancelled) => Ok(()),
            other => Err(StepError::Broken(format!("order {order} cannot be released: {other:?}"))),
        }
    }

    async fn cancel_of_version_1(&self, order: &Uuid, undoing: &Undoing<Reason>) -> Undone {
        self.close_created(*order, undoing).await
    }

    async fn void_of_version_1(
        &self,
        _: &Uuid,
        reference: &Reference,
        undoing: &Undoing<Reason>,
    ) -> Undone {
        self.release_money(reference, undoing).await
    }
}

/// What was reserved for the order and released by its unwinding, by the ledger: the undo of a confirm was settled by a commit of its
/// own, since the created authorization is closed after it. Round trips: 2.
pub(in crate::sagas) async fn voided(
    tx: &mut PgConnection,
    order: Uuid,
) -> Result<Option<Voided>, StepError> {
    let Some(placement) = inspect::latest_about(tx, PlaceOrder::NAME, &order.to_string()).await?
    else {
        return Err(StepError::Broken(format!("order {order} is released by no placement")));
    };
    let effects = inspect::effects(tx, placement.saga_id).await?;
    let undone = effects.into_iter().find(|effect| {
        effect.kind == super::AUTHORIZATION && effect.status == EffectStatus::Undone
    });
    Ok(undone.and_then(|effect| {
        let (key, void_key) = (effect.key().to_string(), effect.undo_key().to_string());
        Some(Voided {
            // A confirm that was never heard of has none; the void's is the authorization's own id.
            authorization_id: effect.reference.or(effect.undo_reference)?,
            key,
            void_key,
        })
    }))
}
