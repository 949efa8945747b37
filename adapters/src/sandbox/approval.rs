//! The page on which the customer approves a payment. It stands for 3-D Secure and for PayPal's page, which sends the customer back to
//! the shop.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::book::{Ask, Refusal, Status, Subject};
use super::ledger::Op;
use super::params::form;
use super::{Shared, Stopped};
use crate::paypal::PREFIX;

/// `GET /sandbox/approve/{reference}`
pub(super) async fn show(State(gateway): Shared, Path(reference): Path<String>) -> Response {
    gateway
        .read(&reference, |intent| match intent {
            None => page(StatusCode::NOT_FOUND, "There is no such payment.", false),
            Some(intent) => {
                let amount = intent.amount;
                match intent.status {
                    Status::ApprovalRequired => page(
                        StatusCode::OK,
                        &format!("A payment of {amount} waits for your approval."),
                        true,
                    ),
                    Status::Authorized | Status::Captured => {
                        page(StatusCode::OK, "Approved. You can go back to the shop.", false)
                    }
                    Status::Declined => {
                        page(StatusCode::OK, "Declined. You can go back to the shop.", false)
                    }
                    Status::Created if intent.is_paypal() => {
                        page(StatusCode::OK, "Approved. You can go back to the shop.", false)
                    }
                    Status::Created | Status::Unsupported | Status::Cancelled => page(
                        StatusCode::CONFLICT,
                        "This payment needs no approval any more.",
                        false,
                    ),
                }
            }
        })
        .await
}

/// `POST /sandbox/approve/{reference}` with `decision=approve` (also when absent) or `decline`.
pub(super) async fn decide(
    State(gateway): Shared,
    Path(reference): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    let granted = match form(&body).get("decision").map(String::as_str) {
        None | Some("approve") => true,
        Some("decline") => false,
        Some(_) => {
            return page(
                StatusCode::BAD_REQUEST,
                "The decision must be approve or decline.",
                false,
            );
        }
    };
    // Whoever does not approve at PayPal leaves without a decision.
    if !granted && reference.starts_with(PREFIX) {
        return back(State(gateway), &reference, false).await;
    }
    let subject = Subject::Approval { reference: &reference, granted };
    let ask = Ask { op: Op::Approve, key: "", subject, amount: None, fingerprint: None };
    match gateway.commit(&ask).await {
        Ok(_) if reference.starts_with(PREFIX) => back(State(gateway), &reference, true).await,
        // The payment was decided before or voided; the page says so.
        Ok(_) | Err(Stopped::Refused(Refusal::State)) => {
            show(State(gateway), Path(reference)).await
        }
        Err(Stopped::Refused(_)) => page(StatusCode::NOT_FOUND, "There is no such payment.", false),
        Err(Stopped::Closed) => {
            page(StatusCode::INTERNAL_SERVER_ERROR, "The gateway is out of order.", false)
        }
    }
}

/// Sends the customer back to the shop, as PayPal does. After a restart the address is not known any more, and the page is shown instead.
async fn back(State(gateway): Shared, reference: &str, granted: bool) -> Response {
    let returns = gateway.state().returns.get(reference).cloned();
    let url = returns.map(|returns| if granted { returns.approved } else { returns.cancelled });
    match url.and_then(|url| url.parse::<url::Url>().ok()) {
        Some(mut url) => {
            let order = reference.strip_prefix(PREFIX).unwrap_or_default();
            url.query_pairs_mut().append_pair("token", order);
            Redirect::to(url.as_str()).into_response()
        }
        None => show(State(gateway), Path(reference.to_owned())).await,
    }
}

/// The approval page. `text` must contain no input from outside.
fn page(status: StatusCode, text: &str, asks: bool) -> Response {
    let buttons = if asks {
        "<form method=\"post\"><button name=\"decision\" value=\"approve\">Approve</button> \
         <button name=\"decision\" value=\"decline\">Decline</button></form>"
    } else {
        ""
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sandbox bank</title>\
         <h1>Sandbox bank</h1><p>{text}</p>{buttons}</html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Without `form-action`, because that would also forbid to send the customer back to the shop.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (status, headers, html).into_response()
}
