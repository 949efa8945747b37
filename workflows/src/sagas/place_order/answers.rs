//! The meaning of each answer of the gateway for a placement. Pure: the calls themselves are in [`super::steps`].

use stepwise_engine::{Cause, Effect, Key, Outcome, Probe, Undone};

use super::{Event, PaymentFailure};
use crate::payment::gateway::{
    Approval, Authorization, AuthorizationStatus, Cancellation, Confirmation, Creation,
    GatewayError, Reference,
};

pub(super) fn created(answer: Result<Creation, GatewayError>) -> Outcome<Event> {
    match answer {
        Ok(Creation::Created(reference)) => {
            Outcome::confirmed(Event::Created(reference.clone()), reference.0)
        }
        Ok(Creation::Refused(why)) => refused(PaymentFailure::Declined(why)),
        Err(error) => no_answer(error),
    }
}

pub(super) fn confirmed(
    answer: Result<Confirmation, GatewayError>,
    key: &Key,
    authorization: &Reference,
) -> Outcome<Event> {
    match answer {
        Ok(Confirmation::Confirmed(reference)) => {
            Outcome::confirmed(Event::Confirmed(key.to_string()), reference.0)
        }
        Ok(Confirmation::Declined(why)) => refused(PaymentFailure::Declined(why)),
        Ok(Confirmation::Unsupported) => refused(PaymentFailure::Unsupported),
        Ok(Confirmation::Cancelled) => Outcome::refuted(Event::Voided),
        // From now on the customer may reserve the money at any moment, without a request of ours. So the effect counts as done, and
        // unwinding takes it back.
        Ok(Confirmation::ApprovalRequired(approval)) => {
            Outcome::confirmed(to_approve(approval), authorization.0.clone())
        }
        Err(error) => no_answer(error),
    }
}

/// The answer to the probe of a confirm whose own answer is missing.
pub(super) fn found(
    answer: Result<Option<Authorization>, GatewayError>,
    key: &Key,
) -> Probe<Event> {
    let found = match answer {
        Ok(Some(found)) => found,
        Ok(None) => return Probe::NotHappened,
        Err(error) => return Probe::Unknown(Cause::new(error)),
    };
    let (event, effect) = match found.status {
        AuthorizationStatus::Created => return Probe::NotHappened,
        AuthorizationStatus::Processing => {
            return Probe::Unknown(Cause::new("the gateway is still working on it"));
        }
        AuthorizationStatus::Authorized | AuthorizationStatus::Captured { .. } => {
            (Event::Confirmed(key.to_string()), Effect::Confirmed(found.reference.0))
        }
        AuthorizationStatus::ApprovalRequired(approval) => {
            (to_approve(approval), Effect::Confirmed(found.reference.0))
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

/// The same question asked as a step of its own, because the gateway has reported a change.
pub(super) fn asked(
    answer: Result<Option<Authorization>, GatewayError>,
    key: &Key,
) -> Outcome<Event> {
    match found(answer, key) {
        Probe::Answered { event, effect } => Outcome::Answered { event, effect },
        Probe::NotHappened => Outcome::refuted(Event::Voided),
        // A question changes nothing, so it may simply be asked again.
        Probe::Unknown(cause) => Outcome::NotDone(cause),
    }
}

/// The answer to closing an authorization.
pub(super) fn closed(answer: Result<Cancellation, GatewayError>) -> Undone {
    match answer {
        Ok(Cancellation::Cancelled { reference, .. }) => Undone::Undone(Some(reference.0)),
        Ok(Cancellation::NotFound) => Undone::Nothing,
        Ok(Cancellation::AlreadyCaptured) => {
            Undone::Impossible(Cause::new("already captured, cannot be voided"))
        }
        Err(error) => Undone::NotDone(Cause::new(error)),
    }
}

/// The answer to releasing the money under an authorization.
pub(super) fn released(answer: Result<Cancellation, GatewayError>) -> Undone {
    match answer {
        // The authorization is closed for ever, but no money had been reserved: the ledger must not say that some was.
        Ok(Cancellation::Cancelled { released, .. }) if released.amount().is_zero() => {
            Undone::Nothing
        }
        answer => closed(answer),
    }
}

pub(super) fn refused(failure: PaymentFailure) -> Outcome<Event> {
    Outcome::refuted(Event::Refused(failure))
}

fn to_approve(Approval { url, expires_at }: Approval) -> Event {
    Event::ApprovalRequired { url, expires_at }
}

fn no_answer(error: GatewayError) -> Outcome<Event> {
    match error {
        GatewayError::NotDone(trouble) => Outcome::NotDone(Cause::new(trouble)),
        GatewayError::Unknown(trouble) => Outcome::Unknown(Cause::new(trouble)),
    }
}
