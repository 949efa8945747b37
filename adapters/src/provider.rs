//! One request to a payment provider over HTTP: the parts that the clients of Stripe and PayPal share.
//!
//! An answer is read up to a limit. The failures that mean the same at every provider are classified here, by whether the
//! request surely had no effect; the rest is up to the client of the provider.

use std::{future::Future, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode, Url, header};
use stepwise_workflows::payment::gateway::{GatewayError, OPERATION, Trouble};
use tokio::time::timeout;

use crate::tls;

/// The maximum size of an answer, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// The answer cannot be understood, so whether the provider acted is unknown.
pub(crate) const GARBLED: GatewayError = GatewayError::Unknown(Trouble::Garbled);

/// An answer that was read to its end.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The HTTP client for a provider at `base_url`. Does not connect yet.
pub(crate) fn client(
    base_url: &Url,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<Client, reqwest::Error> {
    tls::http_client(base_url.as_str(), connect_timeout, timeout)
        .pool_max_idle_per_host(256)
        .build()
}

/// The address of a resource. Path segments are escaped, so a reference from elsewhere cannot reach another endpoint.
pub(crate) fn address(base_url: &Url, path: &[&str]) -> Url {
    let mut url = base_url.clone();
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
    url
}

/// Sends one request and reads its answer. Nothing is repeated.
pub(crate) async fn send(request: RequestBuilder) -> Result<Response, GatewayError> {
    let mut response = request.send().await.map_err(|error| lost(&error))?;
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(GARBLED);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, headers, body })
}

impl Response {
    /// The failure that this status means at every provider: refused credentials, too many requests, or a provider that
    /// says that it is closed. Each surely had no effect.
    pub(crate) fn failure(&self) -> Option<GatewayError> {
        let status = self.status.as_u16();
        Some(GatewayError::NotDone(match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Misconfigured(status),
            StatusCode::TOO_MANY_REQUESTS => Trouble::Unavailable(status),
            StatusCode::SERVICE_UNAVAILABLE if self.headers.contains_key(header::RETRY_AFTER) => {
                Trouble::Unavailable(status)
            }
            _ => return None,
        }))
    }

    /// Reads the answer's JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, GatewayError> {
        serde_json::from_slice(&self.body).map_err(|_| GARBLED)
    }
}

/// Makes one call of the port, with all requests that it sends, within the time that the port allows. If the time is over, the last request may have
/// acted.
pub(crate) async fn in_time<T>(
    call: impl Future<Output = Result<T, GatewayError>>,
) -> Result<T, GatewayError> {
    let late = GatewayError::Unknown(Trouble::TimedOut);
    timeout(OPERATION, call).await.unwrap_or(Err(late))
}

/// Turns a question without an answer into a call that was surely not made: asking has changed nothing.
pub(crate) fn unasked(error: GatewayError) -> GatewayError {
    match error {
        GatewayError::NotDone(trouble) | GatewayError::Unknown(trouble) => {
            GatewayError::NotDone(trouble)
        }
    }
}

/// Classifies an error of the connection. Only a connection that was never made certainly had no effect.
fn lost(error: &reqwest::Error) -> GatewayError {
    if error.is_connect() || error.is_builder() {
        GatewayError::NotDone(Trouble::Unreachable)
    } else if error.is_timeout() {
        GatewayError::Unknown(Trouble::TimedOut)
    } else {
        GatewayError::Unknown(Trouble::ConnectionLost)
    }
}
