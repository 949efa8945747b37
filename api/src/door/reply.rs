//! The successful answer of a handler.
//!
//! The body is serialised once: the same bytes go to the client and, if there is an idempotency key,
//! into the database.

use std::{fmt::Display, marker::PhantomData};

use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use uuid::Uuid;

use super::{caller::Caller, idempotency::Answer, personal};

/// An answer of status `STATUS` with a body of type `T`. An answer of status 204 has no body.
#[derive(Clone)]
pub struct Reply<const STATUS: u16, T> {
    /// The answer for the client.
    pub answer: Answer,
    replayed: bool,
    shape: PhantomData<fn() -> T>,
}

/// An answer of status 200.
pub type Done<T> = Reply<200, T>;
/// An answer of status 201 with `Location`.
pub type Created<T> = Reply<201, T>;
/// An answer of status 204. Its type does not appear in the document.
pub type Gone = Reply<204, bool>;

impl<const STATUS: u16, T: ToJSON> Reply<STATUS, T> {
    /// An answer with `body`, including the personal data that this caller may see.
    pub fn to(caller: &Caller, body: &T) -> Self {
        personal::shown_to(caller, || Self::new(body))
    }

    /// An answer with `body`, without personal data.
    pub fn new(body: &T) -> Self {
        let body = body.to_json_string().into_bytes();
        let body = if STATUS == 204 { Vec::new() } else { body };
        let answer = Answer { status: STATUS, location: None, etag: None, body, customer_id: None };
        Self { answer, replayed: false, shape: PhantomData }
    }
}

impl Gone {
    /// An answer without a body.
    pub fn gone() -> Self {
        let body = Vec::new();
        let answer = Answer { status: 204, location: None, etag: None, body, customer_id: None };
        Self { answer, replayed: false, shape: PhantomData }
    }
}

impl<const STATUS: u16, T> Reply<STATUS, T> {
    /// An answer that repeats an earlier one.
    pub fn replayed(answer: Answer) -> Self {
        Self { answer, replayed: true, shape: PhantomData }
    }

    /// Sets `Location`, the address of the new resource.
    #[must_use]
    pub fn at(mut self, location: String) -> Self {
        self.answer.location = Some(location);
        self
    }

    /// Marks the body as containing this customer's personal data.
    #[must_use]
    pub fn about(mut self, customer_id: Uuid) -> Self {
        self.answer.customer_id = Some(customer_id);
        self
    }

    /// Sets `ETag`, the entity tag of the resource, which comes from its version.
    #[must_use]
    pub fn tagged(mut self, tag: impl Display) -> Self {
        self.answer.etag = Some(format!("\"{tag}\""));
        self
    }
}

/// The response to an [`Answer`].
pub fn response(answer: Answer, replayed: bool) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = if answer.body.is_empty() {
        Response::builder().status(status).finish()
    } else {
        Response::builder().status(status).content_type("application/json").body(answer.body)
    };
    let headers = response.headers_mut();
    let named = [(header::LOCATION, answer.location), (header::ETAG, answer.etag)];
    for (name, value) in named {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

impl<const STATUS: u16, T: Send> IntoResponse for Reply<STATUS, T> {
    fn into_response(self) -> Response {
        response(self.answer, self.replayed)
    }
}

impl<const STATUS: u16, T: Type> ApiResponse for Reply<STATUS, T> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![described::<T>(STATUS)] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// The OpenAPI description of an answer of this status and type.
pub fn described<T: Type>(status: u16) -> MetaResponse {
    let content = match status {
        204 => vec![],
        _ => {
            vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }]
        }
    };
    let mut headers = Vec::new();
    if matches!(status, 201 | 202) {
        headers.push(described_header("Location", "The address of the resource."));
        headers.push(described_header(
            "Idempotent-Replayed",
            "`true` if this answer repeats an earlier one.",
        ));
    }
    if matches!(status, 200 | 201) {
        headers.push(described_header("ETag", "The version of the resource, if it has versions."));
    }
    let description = match status {
        201 => "Created.",
        202 => "Accepted: the operation continues.",
        204 => "Done; the response has no body.",
        _ => "Done.",
    };
    MetaResponse { description, status: Some(status), status_range: None, content, headers }
}

fn described_header(name: &str, description: &str) -> MetaHeader {
    let schema: MetaSchemaRef = String::schema_ref();
    MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema,
    }
}
