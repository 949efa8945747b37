//! What a handler answers when all went well.
//!
//! The body becomes bytes at once: the same bytes go to the client and, under an idempotency key,
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
use stepwise_engine::Started;
use uuid::Uuid;

use super::{caller::Caller, idempotency::Answer, personal};

/// An answer of status `STATUS` with a body of shape `T`. 204 has no body.
pub struct Reply<const STATUS: u16, T> {
    /// What goes over the wire.
    pub answer: Answer,
    /// The saga that the command has started; it is driven once the command is committed.
    pub began: Option<Started>,
    replayed: bool,
    shape: PhantomData<fn() -> T>,
}

/// 200.
pub type Done<T> = Reply<200, T>;
/// 201 with `Location`.
pub type Created<T> = Reply<201, T>;
/// 204. The shape is never shown.
pub type Gone = Reply<204, bool>;

impl<const STATUS: u16, T: ToJSON> Reply<STATUS, T> {
    /// An answer with `body` for this caller: with the personal data that the caller may see.
    pub fn to(caller: &Caller, body: &T) -> Self {
        personal::shown_to(caller, || Self::new(body))
    }

    /// An answer with `body`, without what is `personal` in it.
    pub fn new(body: &T) -> Self {
        let body = body.to_json_string().into_bytes();
        let body = if STATUS == 204 { Vec::new() } else { body };
        let answer = Answer { status: STATUS, location: None, etag: None, body, customer_id: None };
        Self { answer, began: None, replayed: false, shape: PhantomData }
    }
}

impl Gone {
    /// 204.
    pub fn gone() -> Self {
        let body = Vec::new();
        let answer = Answer { status: 204, location: None, etag: None, body, customer_id: None };
        Self { answer, began: None, replayed: false, shape: PhantomData }
    }
}

impl<const STATUS: u16, T> Reply<STATUS, T> {
    /// An answer that was given before.
    pub fn replayed(answer: Answer) -> Self {
        Self { answer, began: None, replayed: true, shape: PhantomData }
    }

    /// Where the new thing is.
    #[must_use]
    pub fn at(mut self, location: String) -> Self {
        self.answer.location = Some(location);
        self
    }

    /// The command has started this saga.
    #[must_use]
    pub fn began(mut self, saga: Option<Started>) -> Self {
        self.began = saga;
        self
    }

    /// The body can hold this customer's personal data.
    #[must_use]
    pub fn about(mut self, customer_id: Uuid) -> Self {
        self.answer.customer_id = Some(customer_id);
        self
    }

    /// The entity tag of the thing: its version, or what its version makes of it.
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

/// How an answer of this status and shape stands in the OpenAPI document.
pub fn described<T: Type>(status: u16) -> MetaResponse {
    let content = match status {
        204 => vec![],
        _ => {
            vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }]
        }
    };
    let mut headers = Vec::new();
    if matches!(status, 201 | 202) {
        headers.push(described_header("Location", "Where the thing is."));
        headers
            .push(described_header("Idempotent-Replayed", "`true` if this was answered before."));
    }
    if matches!(status, 200 | 201) {
        headers.push(described_header("ETag", "The version, where the thing has versions."));
    }
    let description = match status {
        201 => "Created.",
        202 => "Accepted: the operation goes on.",
        204 => "Done, nothing to show.",
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
