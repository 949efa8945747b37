//! Authorizing a payment at the gateway, as every saga does it that reserves money: the calls, the meaning of each answer, and the terms.
//!
//! Authorizing is two calls. *Create* moves no money and yields a reference; *Confirm* reserves the money under it. Closing the authorization takes
//! both back: a confirm that arrives later fails. If somebody at the provider has taken the money meanwhile, it is refunded instead.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stepwise_engine::{
    Cause, Effect, EffectStatus, Key, Outcome, Probe, StepError, Terms, Undoing, Undone, database,
    inspect,
};
use uuid::Uuid;

use super::{
    Steps,
    calling::{self, time_for},
    giving_back,
};
use crate::{
    customer::method,
    money::Money,
    order::release::Voided,
    payment::{
        PaymentFailure,
        gateway::{
            Approval, Authorization, AuthorizationStatus, Cancellation, Charge, Confirmation,
            Creation, GatewayError, Reason as GatewayReason, Reference, Refund,
        },
    },
};

/// How long a customer has to approve a payment.
pub const APPROVAL: Duration = Duration::from_secs(30 * 60);

/// The kind of the effect that opens an authorization.
const REFERENCE: &str = "authorization-reference";

/// The kind of the effect that reserves money.
const AUTHORIZATION: &str = "authorization";

/// How long each call of the gateway is tried before the authorization is given up, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patience(u64);

impl Default for Patience {
    /// Half an hour. Placements that were stored without a patience have it, too.
    fn default() -> Self {
        Self(30 * 60)
    }
}

impl From<Duration> for Patience {
    fn from(time: Duration) -> Self {
        Self(time.as_secs().max(1))
    }
}

impl Patience {
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The terms of Create.
    pub(super) fn opening(self) -> Terms {
        Terms { within: self.time(), timeout: time_for(1), ..Terms::effect(REFERENCE) }
    }

    /// The terms of Confirm.
    pub(super) fn reserving(self, amount: Money) -> Terms {
        let terms = Terms::effect(AUTHORIZATION).amount(amount);
        Terms { within: self.time(), timeout: time_for(1), ..terms }
    }

    /// The terms of Ask.
    pub(super) fn asking(self) -> Terms {
        Terms { within: self.time(), ..calling::terms() }
    }

    fn time(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// The terms of the undos of Create and Confirm. They may make five calls: find the authorization, void it, ask what became of that, ask how much of the
/// taken money is left, and refund it.
pub(super) fn closing() -> Terms {
    Terms { timeout: time_for(5), ..Terms::new() }
}

/// The gateway's answer about an authorization. Each saga has an event for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// The authorization is open.
    Created(Reference),
    /// The money is reserved, under this key of ours.
    Confirmed(String),
    /// The payment is refused, for good.
    Refused(PaymentFailure),
    /// The customer must approve.
    ApprovalRequired {
        /// Where.
        url: String,
        /// Until when the gateway waits.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The authorization was cancelled at the gateway.
    Voided,
}

/// Makes an event of each answer: the saga's variants have the names and fields of [`Answered`].
macro_rules! answered {
    ($Event:ty) => {
        impl From<$crate::sagas::authorizing::Answered> for $Event {
            fn from(answered: $crate::sagas::authorizing::Answered) -> Self {
                use $crate::sagas::authorizing::Answered;
                match answered {
                    Answered::Created(reference) => Self::Created(reference),
                    Answered::Confirmed(key) => Self::Confirmed(key),
                    Answered::Refused(failure) => Self::Refused(failure),
                    Answered::ApprovalRequired { url, expires_at } => {
                        Self::ApprovalRequired { url, expires_at }
                    }
                    Answered::Voided => Self::Voided,
                }
            }
        }
    };
}
pub(super) use answered;

/// Opens an authorization of this amount for the order, with one of the customer's methods.
pub(super) async fn create<E: From<Answered>>(
    steps: &Steps,
    key: &Key,
    order: Uuid,
    payment_method: Uuid,
    amount: Money,
) -> Outcome<E> {
    let means = database::ask(&steps.pool, |mut db| async move {
        method::means(&mut *db, payment_method).await
    });
    let means = match means.await {
        Ok(Some(means)) if means.is_asked => {
            return Outcome::NotDone(Cause::new("the payment method is still being attached"));
        }
        Ok(Some(means)) => means,
        Ok(None) => {
            let why = GatewayReason::new("payment_method_removed");
            return refused(PaymentFailure::Declined(why));
        }
        Err(error) => return Outcome::NotDone(Cause::new(error)),
    };
    let (method, customer) = (means.token, means.account);
    let charge = Charge { order_id: order, amount, method, customer };
    created(steps.shop.gateway.create(&key.to_string(), &charge).await)
}

/// Closes the authorization that Create opened, whatever is reserved or taken under it. It is found by its reference, or else by the key under
/// which it was created.
pub(super) async fn close<R>(steps: &Steps, order: Uuid, undoing: &Undoing<R>) -> Undone {
    let gateway = &steps.shop.gateway;
    let reference = match &undoing.reference {
        Some(reference) => Reference(reference.clone()),
        None => match gateway.find_by_key(order, &undoing.step_key.to_string()).await {
            Ok(Some(found)) => found.reference,
            Ok(None) => return Undone::Nothing,
            Err(error) => return Undone::NotDone(Cause::new(error)),
        },
    };
    closed(steps, &reference, undoing, void(steps, &reference, undoing).await).await
}

/// Reserves the money.
pub(super) async fn confirm<E: From<Answered>>(
    steps: &Steps,
    key: &Key,
    reference: &Reference,
) -> Outcome<E> {
    confirmed(steps.shop.gateway.confirm(&key.to_string(), reference).await, key, reference)
}

/// Asks what became of a confirm without an answer.
pub(super) async fn find<E: From<Answered>>(
    steps: &Steps,
    key: &Key,
    reference: &Reference,
) -> Probe<E> {
    found(steps.shop.gateway.find(reference).await, key)
}

/// Asks whether the customer has approved.
pub(super) async fn ask<E: From<Answered>>(
    steps: &Steps,
    key: &Key,
    reference: &Reference,
) -> Outcome<E> {
    asked(steps.shop.gateway.find(reference).await, key)
}

/// Gives back the money that Confirm may have reserved, by closing its authorization.
pub(super) async fn release<R>(
    steps: &Steps,
    reference: &Reference,
    undoing: &Undoing<R>,
) -> Undone {
    match void(steps, reference, undoing).await {
        // The authorization is closed for ever, but no money had been reserved: the ledger must not say that some was.
        Ok(Cancellation::Cancelled { released, .. }) if released.amount().is_zero() => {
            Undone::Nothing
        }
        answer => closed(steps, reference, undoing, answer).await,
    }
}

/// The meaning of the gateway's answer to closing an authorization.
async fn closed<R>(
    steps: &Steps,
    reference: &Reference,
    undoing: &Undoing<R>,
    answer: Result<Cancellation, GatewayError>,
) -> Undone {
    match answer {
        Ok(Cancellation::Cancelled { reference, .. }) => Undone::Undone(Some(reference.0)),
        Ok(Cancellation::NotFound) => Undone::Nothing,
        Ok(Cancellation::AlreadyCaptured) => refund_left(steps, reference, undoing).await,
        Err(error) => Undone::NotDone(Cause::new(error)),
    }
}

/// Refunds the money that somebody at the provider has taken, as far as it is not given back yet. A repeated call finds nothing left.
async fn refund_left<R>(steps: &Steps, reference: &Reference, undoing: &Undoing<R>) -> Undone {
    let gateway = &*steps.shop.gateway;
    let left = match giving_back::taken(gateway, reference).await {
        Ok(Some(taken)) => taken.left,
        Ok(None) => return Undone::NotDone(Cause::new("the gateway contradicts itself")),
        Err(error) => return Undone::NotDone(Cause::new(error)),
    };
    if left.amount().is_zero() {
        return Undone::Undone(None);
    }
    // The void had the undo's own key, and a key belongs to one request.
    let key = format!("{}.refund", undoing.key);
    match gateway.refund(&key, reference, left).await {
        Ok(Refund::Refunded { reference, .. } | Refund::Pending { reference, .. }) => {
            Undone::Undone(Some(reference.0))
        }
        // The gateway repeats a refusal under the same key.
        Ok(Refund::Refused(why)) => {
            Undone::Impossible(Cause::new(format_args!("refund refused: {why}")))
        }
        Err(error) => Undone::NotDone(Cause::new(error)),
    }
}

/// Closes an authorization. If the answer is lost, the gateway is asked what became of it: the same call may lose its answer again and again.
async fn void<R>(
    steps: &Steps,
    reference: &Reference,
    undoing: &Undoing<R>,
) -> Result<Cancellation, GatewayError> {
    let gateway = &steps.shop.gateway;
    let key = undoing.key.to_string();
    let lost = match gateway.cancel(&key, reference).await {
        Err(GatewayError::Unknown(trouble)) => trouble,
        answer => return answer,
    };
    match gateway.find_void(reference).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) | Err(_) => Err(GatewayError::Unknown(lost)),
    }
}

/// The money that was reserved for the order and that the unwinding of this saga has given back, as the engine's ledger knows it. By the time this is
/// asked, the undo of Confirm has a commit of its own, since the undo of Create comes after it. Round trips: 2.
pub(super) async fn voided(
    tx: &mut PgConnection,
    saga: &str,
    order: Uuid,
) -> Result<Option<Voided>, StepError> {
    let Some(instance) = inspect::latest_about(tx, saga, &order.to_string()).await? else {
        return Err(StepError::Broken(format!("there is no {saga} of order {order}")));
    };
    let effects = inspect::effects(tx, instance.saga_id).await?;
    let opened = effects.iter().find(|effect| effect.kind == REFERENCE);
    let opened = opened.and_then(|effect| effect.reference.clone());
    let undone = effects
        .into_iter()
        .find(|effect| effect.kind == AUTHORIZATION && effect.status == EffectStatus::Undone);
    Ok(undone.and_then(|effect| {
        let (key, undo_key) = (effect.key().to_string(), effect.undo_key().to_string());
        let undo_reference = effect.undo_reference;
        // A confirm without an answer has no reference.
        let authorization_id = effect.reference.or(opened).or(undo_reference.clone())?;
        // The reference of a void is the authorization's own id. A refund has another one, and so has what a person gave as evidence.
        let is_void = undo_reference.as_ref() == Some(&authorization_id);
        Some(Voided { authorization_id, key, void_key: is_void.then_some(undo_key) })
    }))
}

fn created<E: From<Answered>>(answer: Result<Creation, GatewayError>) -> Outcome<E> {
    match answer {
        Ok(Creation::Created(reference)) => {
            Outcome::confirmed(Answered::Created(reference.clone()).into(), reference.0)
        }
        Ok(Creation::Refused(why)) => refused(PaymentFailure::Declined(why)),
        Err(error) => error.into(),
    }
}

fn confirmed<E: From<Answered>>(
    answer: Result<Confirmation, GatewayError>,
    key: &Key,
    authorization: &Reference,
) -> Outcome<E> {
    match answer {
        Ok(Confirmation::Confirmed(reference)) => {
            Outcome::confirmed(Answered::Confirmed(key.to_string()).into(), reference.0)
        }
        Ok(Confirmation::Declined(why)) => refused(PaymentFailure::Declined(why)),
        Ok(Confirmation::Unsupported) => refused(PaymentFailure::Unsupported),
        Ok(Confirmation::Cancelled) => Outcome::refuted(Answered::Voided.into()),
        // From now on the customer may reserve the money at any moment, without a request of ours. So the effect counts as done, and
        // unwinding takes it back.
        Ok(Confirmation::ApprovalRequired(approval)) => {
            Outcome::confirmed(to_approve(approval).into(), authorization.0.clone())
        }
        Err(error) => error.into(),
    }
}

/// The answer to the probe of a confirm whose own answer is missing.
fn found<E: From<Answered>>(
    answer: Result<Option<Authorization>, GatewayError>,
    key: &Key,
) -> Probe<E> {
    let found = match answer {
        Ok(Some(found)) => found,
        Ok(None) => return Probe::NotHappened,
        Err(error) => return Probe::Unknown(Cause::new(error)),
    };
    let (answered, effect) = match found.status {
        AuthorizationStatus::Created => return Probe::NotHappened,
        AuthorizationStatus::Processing => {
            return Probe::Unknown(Cause::new("the gateway is still working on it"));
        }
        AuthorizationStatus::Authorized | AuthorizationStatus::Captured { .. } => {
            (Answered::Confirmed(key.to_string()), Effect::Confirmed(found.reference.0))
        }
        AuthorizationStatus::ApprovalRequired(approval) => {
            (to_approve(approval), Effect::Confirmed(found.reference.0))
        }
        AuthorizationStatus::Declined(why) => {
            (Answered::Refused(PaymentFailure::Declined(why)), Effect::Refuted)
        }
        AuthorizationStatus::Unsupported => {
            (Answered::Refused(PaymentFailure::Unsupported), Effect::Refuted)
        }
        AuthorizationStatus::Cancelled => (Answered::Voided, Effect::Refuted),
    };
    Probe::Answered { event: answered.into(), effect }
}

/// The same question asked as a step of its own, because the gateway has reported a change.
fn asked<E: From<Answered>>(
    answer: Result<Option<Authorization>, GatewayError>,
    key: &Key,
) -> Outcome<E> {
    match found(answer, key) {
        Probe::Answered { event, effect } => Outcome::Answered { event, effect },
        Probe::NotHappened => Outcome::refuted(Answered::Voided.into()),
        // A question changes nothing, so it may simply be asked again.
        Probe::Unknown(cause) => Outcome::NotDone(cause),
    }
}

fn refused<E: From<Answered>>(failure: PaymentFailure) -> Outcome<E> {
    Outcome::refuted(Answered::Refused(failure).into())
}

fn to_approve(Approval { url, expires_at }: Approval) -> Answered {
    Answered::ApprovalRequired { url, expires_at }
}
