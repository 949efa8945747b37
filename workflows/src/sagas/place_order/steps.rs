//! How an order is placed: SQL in the transition's transaction, the gateway outside of it.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use stepwise_engine::{
    ActivityKey, Cause, Effect, EffectRow, Outcome, Probe, Saga as _, StepError, Undone, inspect,
};
use uuid::Uuid;

use super::{Activity, Event, PlaceOrder, Placement, Reason, Tx};
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

    async fn create(&self, key: &ActivityKey, placement: &Placement) -> Outcome<Event> {
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

    async fn confirm(&self, key: &ActivityKey, reference: &Reference) -> Outcome<Event> {
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

    /// The authorization that an undo takes back: by the reference in the ledger, else by the key under which it was created.
    async fn reference(
        &self,
        key: &ActivityKey,
        order: Uuid,
        effect: Option<&EffectRow>,
    ) -> Result<Option<Reference>, GatewayError> {
        if let Some(reference) = effect.and_then(|effect| effect.reference.clone()) {
            return Ok(Some(Reference(reference)));
        }
        let created_under = ActivityKey { undo: false, ..*key }.to_string();
        Ok(self.shop.gateway.find_by_key(order, &created_under).await?.map(|found| found.reference))
    }
}

fn created(reference: Reference) -> Outcome<Event> {
    Outcome::confirmed(Event::Created(reference.clone()), reference.0)
}

fn refused(failure: PaymentFailure) -> Outcome<Event> {
    Outcome::refuted(Event::Refused(failure))
}

fn no_answer(error: GatewayError) -> Outcome<Event> {
    match error {
        GatewayError::NotDone(trouble) => Outcome::NotDone(Cause::new(trouble)),
        GatewayError::Unknown(trouble) => Outcome::Unknown(Cause::new(trouble)),
    }
}

/// What a confirmed, refused or still open authorization means for a confirm whose answer is missing.
fn told(found: Option<Authorization>, key: &ActivityKey) -> Probe<Event> {
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

impl stepwise_engine::Steps<PlaceOrder> for Steps {
    async fn run(&self, tx: &mut PgConnection, step: &Tx) -> Result<Event, StepError> {
        let Tx::PlaceOrder { order, reference, key } = step else {
            return Err(StepError::Broken(format!("{step:?} is not run by the saga")));
        };
        let authorized = Authorized { authorization_id: reference.0.clone(), key: key.clone() };
        match place::complete(tx, *order, &authorized).await? {
            Completion::Placed => Ok(Event::OrderPlaced),
            other => Err(StepError::Broken(format!("order {order} cannot be placed: {other:?}"))),
        }
    }

    async fn undo_run(
        &self,
        tx: &mut PgConnection,
        step: &Tx,
        reason: &Reason,
    ) -> Result<(), StepError> {
        let Tx::ReleaseStock(order) = step else {
            return Err(StepError::Broken(format!("{step:?} is no undo")));
        };
        let ending = match reason {
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

    async fn call(&self, key: &ActivityKey, activity: &Activity) -> Outcome<Event> {
        match activity {
            Activity::Create(placement) => self.create(key, placement).await,
            Activity::Confirm(_, reference) => self.confirm(key, reference).await,
            Activity::Ask(_, reference) => {
                match self.shop.gateway.find(reference).await.map(|found| told(found, key)) {
                    Ok(Probe::Answered { event, effect }) => Outcome::Answered { event, effect },
                    Ok(Probe::NotHappened) => Outcome::refuted(Event::Voided),
                    Ok(Probe::Unknown(cause)) => Outcome::NotDone(cause),
                    Err(error) => Outcome::NotDone(Cause::new(error)),
                }
            }
            Activity::Void(order, _) | Activity::Cancel(order) => {
                Outcome::NotDone(Cause::new(format_args!("voiding {order} is an undo")))
            }
        }
    }

    async fn probe(&self, key: &ActivityKey, activity: &Activity) -> Probe<Event> {
        let found = match activity {
            Activity::Create(placement) => {
                match self.shop.gateway.find_by_key(placement.order, &key.to_string()).await {
                    Ok(Some(found)) => {
                        let effect = Effect::Confirmed(found.reference.0.clone());
                        return Probe::Answered { event: Event::Created(found.reference), effect };
                    }
                    other => other,
                }
            }
            Activity::Confirm(_, reference) | Activity::Ask(_, reference) => {
                self.shop.gateway.find(reference).await
            }
            Activity::Void(..) | Activity::Cancel(_) => Ok(None),
        };
        found.map_or_else(|error| Probe::Unknown(Cause::new(error)), |found| told(found, key))
    }

    async fn undo_call(
        &self,
        key: &ActivityKey,
        undo: &Activity,
        effect: Option<&EffectRow>,
        _: &Reason,
    ) -> Undone {
        let reference = match undo {
            Activity::Void(_, reference) => Ok(Some(reference.clone())),
            Activity::Cancel(order) => self.reference(key, *order, effect).await,
            _ => return Undone::Impossible(Cause::new(format_args!("{undo:?} is no undo"))),
        };
        let reference = match reference {
            Ok(Some(reference)) => reference,
            Ok(None) => return Undone::Nothing,
            Err(error) => return Undone::NotDone(Cause::new(error)),
        };
        let is_void = matches!(undo, Activity::Void(..));
        match self.shop.gateway.cancel(&key.to_string(), &reference).await {
            // Closed for ever, but nothing had been reserved: the ledger is not to say that something was.
            Ok(Cancellation::Cancelled { released, .. })
                if is_void && released.amount().is_zero() =>
            {
                Undone::Nothing
            }
            Ok(Cancellation::Cancelled { reference, .. }) => Undone::Undone(Some(reference.0)),
            Ok(Cancellation::NotFound) => Undone::Nothing,
            Ok(Cancellation::AlreadyCaptured) => {
                Undone::Impossible(Cause::new("already captured, cannot be voided"))
            }
            Err(error) => Undone::NotDone(Cause::new(error)),
        }
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
    let undone = effects
        .into_iter()
        .find(|effect| effect.kind == super::AUTHORIZATION && effect.status == "undone");
    Ok(undone.and_then(|effect| {
        let key = ActivityKey {
            saga_id: placement.saga_id,
            step_no: effect.step_no,
            undo: false,
            anew: None,
        };
        Some(Voided {
            // A confirm that was never heard of has none; the void's is the authorization's own id.
            authorization_id: effect.reference.or(effect.undo_reference)?,
            key: key.to_string(),
            void_key: ActivityKey { undo: true, ..key }.to_string(),
        })
    }))
}
