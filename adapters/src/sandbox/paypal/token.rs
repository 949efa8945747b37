//! Access tokens. Each is signed by the process that granted it and says until when it is valid, so none is stored, and none is valid
//! after a restart.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::super::params::form;
use super::super::{Gateway, Shared, span};
use super::answer::closed_for_now;

/// The client id that the sandbox knows. Its secret is the sandbox's API key.
pub const PAYPAL_CLIENT_ID: &str = "sandbox";

/// `POST /v1/oauth2/token` with `grant_type=client_credentials`.
pub(super) async fn grant(State(gateway): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let fields = form(&body);
    let wanted = fields.get("grant_type").map(String::as_str) == Some("client_credentials");
    if !wanted || fields.len() > 1 {
        return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let expected = format!("{PAYPAL_CLIENT_ID}:{}", gateway.api_key.expose_secret());
    let expected = format!("Basic {}", STANDARD.encode(expected));
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    if !bool::from(given.ct_eq(expected.as_bytes())) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let lives = gateway.timing.tokens;
    let until = (Utc::now() + span(lives)).timestamp_millis();
    Json(json!({
        "scope": "https://uri.paypal.com/services/payments/payment/authcapture",
        "access_token": format!("A21.{until}.{}", hex::encode(signature(&gateway, until))),
        "token_type": "Bearer",
        "app_id": "APP-SANDBOX",
        "expires_in": lives.as_secs(),
        "nonce": uuid::Uuid::now_v7(),
    }))
    .into_response()
}

/// Refuses requests while the gateway is switched off, and requests without a valid token.
pub(super) async fn admit(State(gateway): Shared, request: Request, next: Next) -> Response {
    if gateway.is_down() {
        return closed_for_now();
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let token = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token.is_none_or(|token| !is_valid(&gateway, token)) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_token");
    }
    next.run(request).await
}

fn is_valid(gateway: &Gateway, token: &str) -> bool {
    let parts = token.strip_prefix("A21.").and_then(|rest| rest.split_once('.'));
    let Some((until, given)) = parts.and_then(|(at, of)| Some((at.parse().ok()?, of))) else {
        return false;
    };
    let expected = hex::encode(signature(gateway, until));
    Utc::now().timestamp_millis() < until && bool::from(given.as_bytes().ct_eq(expected.as_bytes()))
}

fn signature(gateway: &Gateway, until: i64) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(&gateway.token_key);
    let mut mac = mac.expect("HMAC takes keys of any length");
    mac.update(&until.to_be_bytes());
    mac.finalize().into_bytes().into()
}

fn refused(status: StatusCode, error: &str) -> Response {
    let body = json!({ "error": error, "error_description": "The credentials were not accepted." });
    (status, Json(body)).into_response()
}
