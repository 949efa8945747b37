//! Executes an operation that behaves, and answers it: in Stripe's format here, in PayPal's in a file of its own.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::book::{Ask, Refusal, Subject};
use super::ledger::{LineResult, Op};
use super::params::{self, Fields};
use super::paypal::answer as paypal;
use super::{Done, Gateway, Stopped, wire};

/// The API in whose format a request is answered.
#[derive(Clone, Copy)]
pub(super) enum Format<'a> {
    /// Stripe's, with the parameters of the request.
    Stripe(&'a Fields),
    PayPal,
}

impl Format<'_> {
    /// The answer to a request whose key has another request running.
    pub(super) fn in_flight(self) -> Response {
        match self {
            Self::Stripe(_) => in_flight(),
            Self::PayPal => paypal::in_flight(),
        }
    }
}

/// Executes an operation and shows what it was about: the refund, or the authorization.
pub(super) async fn respond(gateway: &Gateway, ask: &Ask<'_>, format: Format<'_>) -> Response {
    match format {
        Format::PayPal => paypal::respond(gateway, ask).await,
        Format::Stripe(_) if ask.op == Op::Refund => made(gateway, ask).await,
        Format::Stripe(fields) => answer(gateway, ask, fields).await,
    }
}

async fn made(gateway: &Gateway, ask: &Ask<'_>) -> Response {
    let done = match gateway.commit(ask).await {
        Ok(done) => done,
        Err(stopped) => return refuse(gateway, ask, stopped),
    };
    let made = gateway.state().book.intent(&done.reference).and_then(|intent| {
        // Without a key, the newest is found.
        let index = intent.refunds.iter().rposition(|made| &*made.key == ask.key)?;
        Some(wire::refund(intent, index, &intent.refunds[index]))
    });
    made.map_or_else(missing, |refund| Json(refund).into_response())
}

/// Executes an operation and shows the authorization.
async fn answer(gateway: &Gateway, ask: &Ask<'_>, fields: &Fields) -> Response {
    let Done { reference, result } = match gateway.commit(ask).await {
        Ok(done) => done,
        Err(stopped) => return refuse(gateway, ask, stopped),
    };
    let state = gateway.state();
    let Some(intent) = state.book.intent(&reference) else { return missing() };
    let object = gateway.view(params::expands(fields)).intent(intent, Some(result));
    drop(state);
    match result {
        LineResult::Declined | LineResult::Unsupported => wire::card_refused(result, object),
        LineResult::RefusedCancelled => wire::refused(Refusal::State, Some(object)),
        _ => Json(object).into_response(),
    }
}

fn refuse(gateway: &Gateway, ask: &Ask<'_>, stopped: Stopped) -> Response {
    let refusal = match stopped {
        Stopped::Refused(refusal) => refusal,
        Stopped::Closed => return out_of_order(),
    };
    let state = gateway.state();
    let intent = match (refusal, &ask.subject) {
        (Refusal::State | Refusal::Declined, Subject::Reference(reference)) => {
            state.book.intent(reference)
        }
        _ => None,
    };
    wire::refused(refusal, intent.map(|intent| gateway.view(false).intent(intent, None)))
}

pub(super) fn missing() -> Response {
    let (kind, code) = ("invalid_request_error", "resource_missing");
    wire::error(StatusCode::NOT_FOUND, kind, code, "There is no such object.")
}

fn in_flight() -> Response {
    let (kind, code) = ("idempotency_error", "idempotency_key_in_use");
    wire::error(StatusCode::CONFLICT, kind, code, "A request with this key is still running.")
}

pub(super) fn out_of_order() -> Response {
    let (kind, code) = ("api_error", "internal");
    let message = "Whether anything was done is not known.";
    wire::error(StatusCode::INTERNAL_SERVER_ERROR, kind, code, message)
}
