//! Errors as clients see them: RFC 9457 `application/problem+json`.
//!
//! A handler returns a [`Problem`]. The edge turns every other failure (the framework's parse errors, an
//! unknown route, a panic) into one, so clients see a single shape. A problem's text says what happened,
//! why, and what to do. It never contains personal data or a secret.

use std::{borrow::Cow, fmt};

use poem::{
    error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError},
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{AuthorizationError, ContentTypeError, ParseParamError, ParsePathError},
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{ToJSON, Type},
};
use stepwise_engine::database::{self, Condition, Failure};
use stepwise_workflows::refusal::{Kind, Refusal, Refused, Surprise};

/// An error: status, stable code, a sentence, and the places in the request that are wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One wrong place in the request body.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct FieldError {
    /// JSON pointer into the request body.
    pub pointer: String,
    /// A stable, machine-readable code.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer` (`/lineItems/0/quantity`).
    pub fn new(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), detail: detail.into() }
    }
}

/// The body of an error response.
#[derive(Debug, Object)]
#[oai(rename = "Problem", rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ProblemBody {
    /// A stable URL of the kind of problem, which leads to a page about it: `/problems/out-of-stock`.
    #[oai(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable, machine-readable code: `out_of_stock`.
    pub code: String,
    /// What happened, why, and what to do about it.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The id of this request in the logs.
    pub request_id: String,
    /// Whether the same request may succeed later. Present only if the status does not say so.
    pub retryable: Option<bool>,
    /// The wrong places in the request body, if the body is wrong.
    pub errors: Option<Vec<FieldError>>,
}

/// The code of a command that lost a race against other transactions.
const LOST_RACE: &str = "try_again";

/// The code of a request that the database could not serve.
const OUTAGE: &str = "database_unavailable";

impl Problem {
    /// A problem with its status, its code (`out_of_stock`) and one sentence.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Whether the transaction was rolled back in favour of others, so that a repetition is likely to succeed.
    #[must_use]
    pub fn is_lost_race(&self) -> bool {
        self.code == LOST_RACE
    }

    /// Whether the database is away, accepts no writes or is overloaded.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.code == OUTAGE
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404: unknown, or not visible to this caller, who cannot tell which.
    pub fn not_found(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409: refused because of the current state.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: understood, but not acceptable.
    pub fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 422 for one wrong field.
    pub fn field(pointer: &str, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let error = FieldError::new(pointer, code, detail.clone());
        Self::unprocessable(code, detail).with_errors(vec![error])
    }

    /// 422 for several wrong fields. The code is that of the first.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let (code, detail) = match errors.first() {
            Some(first) => (first.code.clone(), first.detail.clone()),
            None => ("invalid_data".to_owned(), "The request body is not acceptable.".to_owned()),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with_errors(errors)
    }

    /// 503: the same request may succeed in a moment.
    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after_s(1)
    }

    /// 500, without the cause. The log has the cause under the same request id.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something unexpected happened. It has been logged under this requestId.",
        )
    }

    /// Adds the wrong places in the request.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after_s(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The response's body, for the request named by `instance` and `request_id`.
    pub fn body(&self, instance: &str, request_id: &str) -> ProblemBody {
        let in_flight = self.code == "request_in_flight";
        let says_retryable = self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || in_flight;
        let retryable = in_flight
            || matches!(
                self.status,
                StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::GATEWAY_TIMEOUT
            );
        ProblemBody {
            kind: kind_of_code(&self.code),
            title: title(&self.code),
            status: self.status.as_u16(),
            code: self.code.to_string(),
            detail: self.detail.to_string(),
            instance: instance.to_owned(),
            request_id: request_id.to_owned(),
            retryable: says_retryable.then_some(retryable),
            errors: (!self.errors.is_empty()).then(|| self.errors.clone()),
        }
    }

    /// The whole response.
    pub fn response(&self, instance: &str, request_id: &str) -> poem::Response {
        let mut response = poem::Response::builder()
            .status(self.status)
            .content_type("application/problem+json")
            .body(self.body(instance, request_id).to_json_string());
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response
    }

    /// Turns an error of the framework into a problem. A 5xx of unknown kind is logged here, once.
    pub fn from_framework(error: &poem::Error) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if error.is::<ParsePathError>() || error.is::<NotFoundError>() {
            return Self::not_found("not_found", "There is nothing at this address.");
        }
        if let Some(wrong) = error.downcast_ref::<ParseParamError>() {
            let detail = format!("The parameter `{}` cannot be understood.", wrong.name);
            return Self::bad_request("invalid_parameter", detail);
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::method_not_allowed();
        }
        if error.is::<ContentTypeError>() {
            return Self::unsupported_media_type();
        }
        if error.is::<AuthorizationError>() {
            return Self::new(StatusCode::UNAUTHORIZED, "token_missing", "A token is needed.");
        }
        if let Some(ReadBodyError::PayloadTooLarge) = error.downcast_ref::<ReadBodyError>() {
            return Self::payload_too_large();
        }
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::payload_too_large(),
            StatusCode::TOO_MANY_REQUESTS => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests.")
                    .retry_after_s(1)
            }
            status if status.is_client_error() => {
                Self::new(status, "bad_request", "The request cannot be understood.")
            }
            _ => {
                tracing::error!(error = %error, "the framework reported an unexpected error");
                Self::internal()
            }
        }
    }

    /// 405; the edge adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This method is not allowed at this address; the Allow header lists the allowed ones.",
        )
    }

    /// 413.
    pub fn payload_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            "The request body is larger than 256 kB.",
        )
    }

    /// 415.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Send application/json, in UTF-8 and uncompressed.",
        )
    }
}

/// The `type` of the problems with this code: the address of the page about them.
pub fn kind_of_code(code: &str) -> String {
    format!("/problems/{}", code.replace('_', "-"))
}

/// `out_of_stock` as `Out of stock`.
pub fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => words,
    }
}

/// A refusal, by its declaration. A surprise is logged, and answered without its cause.
impl<R: Refusal> From<R> for Problem {
    fn from(refusal: R) -> Self {
        Self::of(refusal.refused())
    }
}

/// The status of each kind of refusal.
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::PaymentRequired => StatusCode::PAYMENT_REQUIRED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Changed => StatusCode::PRECONDITION_FAILED,
        Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::GatewayFailed => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl Problem {
    /// The problem of a refusal or a surprise.
    pub fn of(told: Result<Refused, Surprise>) -> Self {
        match told {
            Ok(Refused { kind, code, detail, fields }) => {
                let errors = fields
                    .into_iter()
                    .map(|field| FieldError::new(field.pointer, code, field.detail));
                let problem =
                    Self::new(status_of(kind), code, detail).with_errors(errors.collect());
                if kind == Kind::Unavailable { problem.retry_after_s(1) } else { problem }
            }
            Err(Surprise::Database(error)) => Self::of_database(&error),
            Err(Surprise::Broken(why)) => {
                tracing::error!(why, "a command failed");
                Self::internal()
            }
        }
    }

    /// An unexpected error of the database. If the database is away, read-only or overloaded, 503; the request may be repeated. Every other error
    /// is a bug: 500. Only SQLSTATE and constraint are logged, because messages can quote values.
    fn of_database(error: &sqlx::Error) -> Self {
        let unavailable =
            || Self::unavailable(OUTAGE, "The database is unavailable at the moment.");
        if database::note(error) {
            // `database` logs this once when it begins and once when it ends, not for each request.
            return match database::condition() {
                Condition::ReadOnly => {
                    Self::unavailable(OUTAGE, "The database accepts no writes at the moment.")
                }
                Condition::DiskFull => {
                    Self::unavailable(OUTAGE, "The database has no room at the moment.")
                }
                Condition::Good | Condition::Away => unavailable(),
            };
        }
        match Failure::of(error) {
            // Everything was rolled back, so the command can be run again.
            Failure::LostRace => {
                tracing::warn!(sqlstate = sqlstate(error), "the transaction lost a race");
                Self::unavailable(
                    LOST_RACE,
                    "The request conflicted with another one; send it again.",
                )
            }
            // Another transaction held a lock for longer than a request may wait.
            Failure::Locked => {
                tracing::warn!(sqlstate = sqlstate(error), "a lock was not free in time");
                Self::unavailable(
                    "busy",
                    "Another request has locked the same data; send the request again.",
                )
            }
            Failure::Overloaded | Failure::ReadOnly | Failure::DiskFull | Failure::Away => {
                match error {
                    sqlx::Error::Database(_) => {
                        let sqlstate = sqlstate(error);
                        tracing::warn!(sqlstate, "the database could not answer in time");
                    }
                    _ => tracing::warn!(%error, "no connection to the database was free in time"),
                }
                unavailable()
            }
            Failure::Schema | Failure::Refused => {
                log_bug(error);
                Self::internal()
            }
        }
    }
}

fn sqlstate(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    code.unwrap_or_default().into_owned()
}

fn log_bug(error: &sqlx::Error) {
    match error {
        sqlx::Error::Database(refusal) => {
            let sqlstate = sqlstate(error);
            let constraint = refusal.constraint().unwrap_or_default();
            let table = refusal.table().unwrap_or_default();
            tracing::error!(sqlstate, constraint, table, "unexpected database error");
        }
        sqlx::Error::ColumnDecode { index, .. } => {
            tracing::error!(column = %index, "a column could not be decoded");
        }
        other => tracing::error!(kind = kind_of(other), "unexpected database error"),
    }
}

/// The variant's name without its data.
fn kind_of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::RowNotFound => "row not found",
        sqlx::Error::TypeNotFound { .. } => "type not found",
        sqlx::Error::ColumnNotFound(_) => "column not found",
        sqlx::Error::Encode(_) => "encode",
        sqlx::Error::Decode(_) => "decode",
        sqlx::Error::Configuration(_) => "configuration",
        _ => "other",
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }
}

/// In the OpenAPI document, a problem is the `default` response of every operation.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The error.",
                status: None,
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/problem+json",
                    schema: ProblemBody::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}
