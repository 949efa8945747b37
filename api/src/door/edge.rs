//! The outermost layer of the front door. It gives every request an id and a span, turns every failure and panic
//! into a problem, and refuses unknown paths, methods and query parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use poem::{
    Endpoint, IntoResponse, Request, Response,
    http::{HeaderValue, Method, StatusCode, Version, header},
};
use poem_openapi::OperationId;
use serde_json::Value;
use stepwise_engine::database;
use tracing::Instrument;
use uuid::Uuid;

use super::{Door, incoming::Incoming, prefer, problem::Problem, unread::Unread};

/// How long a request may take, not counting the wait that it asks for with `Prefer`.
const REQUEST: Duration = Duration::from_secs(12);

/// The most bytes of a path or method that are logged.
const LOGGED: usize = 200;

/// The query parameters of an operation. True: it is a list, so it may be given several times.
type Queries = BTreeMap<String, bool>;

/// The methods of one path, each with its query parameters.
type Methods = BTreeMap<String, Queries>;

/// All routes in the OpenAPI document, with their methods and query parameters. `HEAD` is a method of each address that has `GET`, except of
/// streams.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<(Vec<String>, Methods)>,
}

impl RouteTable {
    /// Reads the routes from the document, and adds paths that are not in it (GET only).
    pub fn new(document: &Value, others: &[&str]) -> Self {
        let mut routes = Vec::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            let known = methods.as_object().into_iter().flatten().map(|(method, operation)| {
                let queries = operation["parameters"].as_array().into_iter().flatten();
                let queries = queries
                    .filter(|p| p["in"] == "query")
                    .filter_map(|p| Some((p["name"].as_str()?, p["schema"]["type"] == "array")))
                    .map(|(name, is_list)| (name.to_owned(), is_list))
                    .collect();
                (method.to_uppercase(), queries)
            });
            let mut known: Methods = known.collect();
            let reads = known.get("GET").filter(|_| !is_stream(&methods["get"])).cloned();
            known.extend(reads.map(|queries| ("HEAD".to_owned(), queries)));
            routes.push((segments(path), known));
        }
        for path in others {
            let reads = ["GET", "HEAD"].map(|method| (method.to_owned(), Queries::new()));
            routes.push((segments(path), BTreeMap::from(reads)));
        }
        Self { routes }
    }

    /// The methods of `path`. If several routes match, the one with the fewest parameters wins, as in the router.
    fn at(&self, path: &str) -> Option<&Methods> {
        let asked = segments(path);
        self.routes
            .iter()
            .filter(|(route, _)| {
                route.len() == asked.len()
                    && route.iter().zip(&asked).all(|(r, a)| r.starts_with('{') || r == a)
            })
            .min_by_key(|(route, _)| route.iter().filter(|r| r.starts_with('{')).count())
            .map(|(_, methods)| methods)
    }

    fn allow(&self, path: &str) -> Option<HeaderValue> {
        let methods = self.at(path)?.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(methods).ok()
    }

    /// Refuses unknown paths, unknown methods, and query parameters that are unknown or of which all but one would be ignored.
    fn refuse(&self, request: &Request) -> Result<(), Problem> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        if holds_token(query) {
            return Err(Problem::bad_request(
                "token_in_query",
                "A token must never stand in an address, where logs keep it; send it as \
                 Authorization: Bearer, and replace this one.",
            ));
        }
        let Some(methods) = self.at(path) else {
            return Err(Problem::not_found("not_found", "There is nothing at this address."));
        };
        let Some(known) = methods.get(request.method().as_str()) else {
            return Err(Problem::method_not_allowed());
        };
        if holds_nul(path) || holds_nul(query) {
            return Err(Problem::bad_request(
                "invalid_character",
                "The address contains the character NUL (%00), which is not allowed; leave it out.",
            ));
        }
        let mut given = BTreeSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            let Some(is_list) = known.get(name) else {
                let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(Problem::bad_request(
                    "unknown_parameter",
                    format!("This address has no such query parameter; it has: [{known}]."),
                ));
            };
            if !given.insert(name) && !is_list {
                return Err(Problem::bad_request(
                    "invalid_parameter",
                    format!("The query parameter {name} stands twice; send it once."),
                ));
            }
        }
        Ok(())
    }
}

/// The headers that a request has once, besides those whose own reader refuses a second one. Of two, the shop might use another one than the proxy
/// in front of it.
const ONCE: [&str; 6] =
    ["host", "authorization", "content-type", "content-encoding", "if-match", LAST_EVENT];

const LAST_EVENT: &str = "last-event-id";

/// Refuses a request without a host, or with a header that would be ignored.
fn refuse_headers(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if request.version() >= Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Err(Problem::bad_request("bad_request", "The request has no Host header."));
    }
    if ONCE.iter().any(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Err(Problem::bad_request(
            "invalid_parameter",
            "A header of the request stands twice; send each of them once.",
        ));
    }
    // The framework takes it for no header at all, and the client would miss events.
    if headers.get(LAST_EVENT).is_some_and(|id| id.to_str().is_err()) {
        return Err(Problem::bad_request("invalid_parameter", "Last-Event-ID is no position."));
    }
    Ok(())
}

/// Whether this is a page about the operations, which no caller is asked for.
fn is_page(path: &str) -> bool {
    path == "/openapi.json" || path.starts_with("/docs")
}

/// Whether an operation of the document answers with a stream of events.
fn is_stream(operation: &Value) -> bool {
    operation["responses"]["200"]["content"]["text/event-stream"].is_object()
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Whether a path or query contains an escaped NUL. (It cannot contain a bare one.) Postgres cannot store text with a NUL.
fn holds_nul(text: &str) -> bool {
    text.contains("%00")
}

fn holds_token(query: &str) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.to_ascii_lowercase();
        matches!(name.as_str(), "token" | "access_token" | "api_key" | "apikey" | "authorization")
            || value.starts_with("sk_")
    })
}

/// Wraps the routes.
pub struct Edge<E> {
    inner: E,
    door: Arc<Door>,
    routes: RouteTable,
}

impl<E> Edge<E> {
    /// Puts the edge around `inner`.
    pub fn new(inner: E, door: Arc<Door>, routes: RouteTable) -> Self {
        Self { inner, door, routes }
    }
}

impl<E: Endpoint> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = Uuid::now_v7();
        let request_id = id.to_string();
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let began = Instant::now();
        let span = tracing::info_span!(
            "request",
            request_id,
            method = clipped(method.as_str()),
            path = clipped(&path)
        );
        request.set_data(Arc::clone(&self.door));
        let incoming = Incoming::read(id, &self.door.proxies, &request);
        let address = incoming.address();
        request.set_data(incoming);
        let unread = Unread::share(&mut request);

        let page = self.door.cors.allowed(&request);
        let answer = async {
            if let Some(answer) = self.door.cors.preflight(&request, || self.routes.allow(&path)) {
                return Ok(answer);
            }
            self.admit(&request, address).await?;
            if method == Method::HEAD {
                // Answered as GET. The server sends the head of the answer only.
                request.set_method(Method::GET);
            }
            let limit = limit(&request);
            let mut handling = pin!(AssertUnwindSafe(self.inner.call(request)).catch_unwind());
            match tokio::time::timeout(limit, handling.as_mut()).await {
                Ok(Ok(answer)) => answer.map(IntoResponse::into_response),
                Ok(Err(_)) => {
                    tracing::error!("a handler panicked");
                    Err(Problem::internal().into())
                }
                Err(_) => {
                    tracing::warn!(
                        seconds = limit.as_secs(),
                        "a request took too long and was cancelled"
                    );
                    // Called before the request's connection goes back to the pool, because the pool must not wait for its statement.
                    database::suspect();
                    Err(Problem::unavailable(
                        "took_too_long",
                        "The request took too long; send it again.",
                    )
                    .into())
                }
            }
        };
        let answer = answer.instrument(span.clone()).await;
        let mut response = span
            .in_scope(|| answer.unwrap_or_else(|error| self.refusal(&error, &path, &request_id)));
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allow) = self.routes.allow(&path)
        {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        self.finish(&mut response, &request_id, page);
        let goes_on = match unread {
            Some(unread) => unread.drop_rest().await,
            None => true,
        };
        if !goes_on || self.door.stopping.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        span.in_scope(|| record(&method, &response, began));
        Ok(response)
    }
}

impl<E> Edge<E> {
    /// Refuses a request that no operation serves. Such a request is counted for its address, as is one for the pages about the operations.
    async fn admit(&self, request: &Request, address: Option<IpAddr>) -> Result<(), Problem> {
        let refused = refuse_headers(request).and_then(|()| self.routes.refuse(request));
        if refused.is_err() || is_page(request.uri().path()) {
            self.door.limits.address(address).await?;
        }
        refused
    }

    fn refusal(&self, error: &poem::Error, path: &str, request_id: &str) -> Response {
        let mut response = Problem::from_framework(error).response(path, request_id);
        if let Some(operation) = error.data::<OperationId>() {
            response.set_data(*operation);
        }
        response
    }

    fn finish(&self, response: &mut Response, request_id: &str, page: Option<HeaderValue>) {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert("x-request-id", id);
        }
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert_with(|| HeaderValue::from_static("no-store"));
        self.door.cors.complete(headers, page);
    }
}

/// How long a handler may take. Its statements have limits of their own, but those do not help when the network is silent.
fn limit(request: &Request) -> Duration {
    let waits = request.headers().contains_key("prefer");
    REQUEST + if waits { prefer::MOST } else { Duration::ZERO }
}

fn record(method: &Method, response: &Response, began: Instant) {
    let operation = response.data::<OperationId>().map_or("none", |id| id.0);
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    metrics::histogram!("http_request_seconds", "operation" => operation).record(seconds);
    metrics::counter!("http_requests_total", "operation" => operation, "status" => status.to_string())
        .increment(1);
    let method = clipped(method.as_str());
    tracing::debug!(method, operation, status, ms = seconds * 1e3, "answered a request");
}

/// A path or method for the log, shortened. A regular path contains ids only; a hostile one could contain anything.
fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOGGED)]
}
