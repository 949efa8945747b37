//! Executes an operation that behaves, and answers it in PayPal's format.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::book::{Ask, Refusal, Status, Subject};
use super::super::ledger::{LineResult, Op};
use super::super::{Done, Gateway, Stopped};
use super::objects::View;
use super::params::{Wrong, error};

/// Executes an operation and shows what it was about, as it is now.
pub(in super::super) async fn respond(gateway: &Gateway, ask: &Ask<'_>) -> Response {
    let Done { reference, result } = match gateway.commit(ask).await {
        Ok(done) => done,
        Err(Stopped::Refused(refusal)) => return refused(gateway, ask, refusal).into_response(),
        Err(Stopped::Closed) => return out_of_order(),
    };
    let state = gateway.state();
    let Some(intent) = state.book.intent(&reference) else {
        return Wrong::missing().into_response();
    };
    let view = View { public_url: &gateway.public_url };
    let made = |object| (StatusCode::CREATED, Json(object)).into_response();
    match (ask.op, result) {
        (_, LineResult::Declined | LineResult::Unsupported) => {
            Wrong::refused("INSTRUMENT_DECLINED").into_response()
        }
        (Op::Confirm, LineResult::ApprovalRequired) => {
            Wrong::refused("PAYER_ACTION_REQUIRED").into_response()
        }
        (_, LineResult::RefusedCancelled) if intent.confirmed => {
            Wrong::refused("ORDER_ALREADY_AUTHORIZED").into_response()
        }
        (_, LineResult::RefusedCancelled) => {
            Wrong::refused("ACTION_DOES_NOT_MATCH_INTENT").into_response()
        }
        (Op::Capture, _) => made(view.capture(intent)),
        (Op::Refund, _) => match intent.refunds.iter().rposition(|made| &*made.key == ask.key) {
            Some(index) => made(view.refund(intent, index)),
            None => Wrong::missing().into_response(),
        },
        (Op::Cancel, _) if intent.confirmed => Json(view.authorization(intent)).into_response(),
        (Op::Create, LineResult::Created) | (Op::Cancel, _) => {
            StatusCode::NO_CONTENT.into_response()
        }
        _ => made(view.order(intent)),
    }
}

/// The refusal in PayPal's words, which depend on the operation and the status.
fn refused(gateway: &Gateway, ask: &Ask<'_>, refusal: Refusal) -> Wrong {
    let state = gateway.state();
    let intent = ask.subject.reference().and_then(|reference| state.book.intent(reference));
    let status = intent.map(|intent| intent.status);
    Wrong::refused(match (refusal, ask.op, status) {
        (Refusal::Unknown, ..) => return Wrong::missing(),
        (Refusal::KeyReused, ..) => "DUPLICATE_REQUEST_ID",
        (Refusal::Amount, Op::Capture, _) => "MAX_CAPTURE_AMOUNT_EXCEEDED",
        (Refusal::Amount, Op::Refund, _)
            if intent.is_some_and(|intent| intent.refunded() == intent.captured) =>
        {
            "CAPTURE_FULLY_REFUNDED"
        }
        (Refusal::Amount, ..) => "REFUND_AMOUNT_EXCEEDED",
        (Refusal::Declined, Op::Refund, _) => "REFUND_NOT_ALLOWED",
        (Refusal::Declined, ..) => "TRANSACTION_REFUSED",
        (_, Op::Create | Op::Confirm, Some(Status::ApprovalRequired)) => "ORDER_NOT_APPROVED",
        (_, Op::Confirm, Some(Status::Declined | Status::Unsupported)) => "INSTRUMENT_DECLINED",
        (_, Op::Confirm, _) => "ORDER_ALREADY_AUTHORIZED",
        (_, Op::Cancel, Some(Status::Captured)) => match ask.subject {
            Subject::Unreserved(_) => "ORDER_ALREADY_COMPLETED",
            _ => "PREVIOUSLY_CAPTURED",
        },
        (_, Op::Cancel, Some(Status::Cancelled)) => "PREVIOUSLY_VOIDED",
        (_, Op::Capture, Some(Status::Captured)) => "AUTHORIZATION_ALREADY_CAPTURED",
        (_, Op::Capture, _) if intent.is_some_and(|intent| intent.expired) => {
            "AUTHORIZATION_EXPIRED"
        }
        (_, Op::Capture, _) => "AUTHORIZATION_VOIDED",
        _ => "ORDER_ALREADY_COMPLETED",
    })
}

pub(in super::super) fn in_flight() -> Response {
    let issue = "PREVIOUS_REQUEST_IN_PROGRESS";
    error(StatusCode::CONFLICT, "RESOURCE_CONFLICT", issue)
}

fn out_of_order() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "INTERNAL_ERROR")
}

pub(super) fn closed_for_now() -> Response {
    let (name, issue) = ("SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE");
    let answer = error(StatusCode::SERVICE_UNAVAILABLE, name, issue);
    ([(header::RETRY_AFTER, "1")], answer).into_response()
}
