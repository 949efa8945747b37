//! Calls by pages of other origins (CORS). Only the origins on the list may call from a browser, and never with cookies: a caller
//! shows a token, which no browser adds by itself.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

/// The headers that a page may send.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, last-event-id, prefer, traceparent",
);
/// The headers of an answer that a page may read.
const READ: HeaderValue = HeaderValue::from_static(
    "allow, etag, idempotent-replayed, location, retry-after, www-authenticate, x-request-id",
);
/// Seconds for which a browser may remember the answer to its question.
const REMEMBERED_S: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may call.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Lets pages of these origins call.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// The origin of the page that sends the request, if its pages may call.
    pub fn allowed(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        self.origins
            .iter()
            .any(|known| known.as_bytes() == origin.as_bytes())
            .then(|| origin.clone())
    }

    /// The answer to a browser that asks before a call (preflight) whether it may use a method: all of `allow`.
    /// `None`: the request is no such question.
    pub fn preflight(
        &self,
        request: &Request,
        allow: impl FnOnce() -> Option<HeaderValue>,
    ) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed(request).is_none() {
            return None;
        }
        let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow()?);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_S);
        Some(response)
    }

    /// Completes the headers of an answer to a page of the origin `allowed`, or to any other client.
    pub fn complete(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if self.origins.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
    }
}
