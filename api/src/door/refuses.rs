//! The failures of an operation, as the document lists them.
//!
//! A handler's error type names the refusals of its command: `Refuses<AddItemRefusal>`. So the document lists, for each operation, the statuses
//! and codes that its command declares, each status with an example. A code that any operation may have, such as `wrong_type`, is listed with
//! them if its status is; all other failures that any operation may have (an unknown token, a wrong parameter, too many requests) stay under
//! `default`.

use std::{collections::BTreeMap, marker::PhantomData};

use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use stepwise_workflows::refusal::{Declared, Declares, Kind, Refusal};

use super::{
    codes,
    problem::{FieldError, Problem, ProblemBody, status_of},
};

/// A problem of a handler whose command declares the refusals `D`.
pub struct Refuses<D> {
    problem: Problem,
    declares: PhantomData<fn() -> D>,
}

impl<D> From<Problem> for Refuses<D> {
    fn from(problem: Problem) -> Self {
        Self { problem, declares: PhantomData }
    }
}

impl<D, R: Refusal> From<R> for Refuses<D> {
    fn from(refusal: R) -> Self {
        Problem::from(refusal).into()
    }
}

impl<D> From<Refuses<D>> for poem::Error {
    fn from(refuses: Refuses<D>) -> Self {
        refuses.problem.into()
    }
}

impl<D: Declares> ApiResponse for Refuses<D> {
    fn meta() -> MetaResponses {
        let mut by_kind: BTreeMap<Kind, Vec<Declared>> = BTreeMap::new();
        for declared in D::declared() {
            let of_kind = by_kind.entry(declared.kind).or_default();
            if !of_kind.iter().any(|known| known.code == declared.code) {
                of_kind.push(declared);
            }
        }
        let declared = by_kind.into_iter().map(|(kind, declared)| described(kind, &declared));
        MetaResponses { responses: declared.chain(Problem::meta().responses).collect() }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
        codes::declare(D::declared());
    }
}

/// The refusals of one kind: their codes with those that any operation may have under the same status, and the first one as an example.
fn described(kind: Kind, declared: &[Declared]) -> MetaResponse {
    let status = status_of(kind).as_u16();
    let mut listed: Vec<&str> = declared.iter().map(|declared| declared.code).collect();
    let general = codes::general(status).iter().filter(|code| !listed.contains(code));
    let general: Vec<&str> = general.copied().collect();
    listed.extend(general);
    let codes = MetaSchema {
        enum_items: listed.into_iter().map(Into::into).collect(),
        ..MetaSchema::new("string")
    };
    let with_codes = MetaSchema {
        properties: vec![("code", MetaSchemaRef::Inline(Box::new(codes)))],
        ..MetaSchema::new("object")
    };
    let schema = MetaSchema {
        all_of: vec![ProblemBody::schema_ref(), MetaSchemaRef::Inline(Box::new(with_codes))],
        example: declared.first().and_then(example),
        ..MetaSchema::ANY
    };
    MetaResponse {
        description: meaning(kind),
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: "application/problem+json",
            schema: MetaSchemaRef::Inline(Box::new(schema)),
        }],
        headers: vec![],
    }
}

/// The problem of a declared refusal, as a client might see it.
fn example(declared: &Declared) -> Option<serde_json::Value> {
    let sentence = codes::without_placeholders(declared.sentence.trim());
    let field = |pointer| FieldError::new(pointer, declared.code, sentence.clone());
    let problem = Problem::new(status_of(declared.kind), declared.code, sentence.clone())
        .with_errors(declared.pointer.map(field).into_iter().collect());
    problem.body("/v1/…", "01976d2c-6b1e-7c3a-9d55-2f6a3c1e8b70").to_json()
}

fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthenticated => "The caller is not who they say.",
        Kind::PaymentRequired => "The money cannot be had.",
        Kind::Forbidden => "The caller may not do this as things are.",
        Kind::NotFound => "There is no such thing, or it is somebody else's.",
        Kind::Conflict => "The present state does not allow it.",
        Kind::Changed => "The resource has changed since it was read.",
        Kind::Unprocessable => "The request is not acceptable.",
        Kind::GatewayFailed => "The payment gateway did not do it.",
        Kind::Unavailable => "It may be possible in a moment.",
    }
}
