//! `If-Match`: the client asks to act only if the resource has not changed since it was read.

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};

use stepwise_workflows::refusal::{Declared, Declares, Kind, Refused};

use super::problem::Problem;

/// The entity tag that the client sent, without its quotes. `None` if the request has no `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(pub Option<String>);

impl IfMatch {
    /// Refuses with 412 if the resource has another tag than the client has seen. `now` locks the resource and returns its tag; it runs only if the
    /// client sent one. The command itself refuses a resource that is not there.
    ///
    /// Run this first in the command's transaction: then a repeated request gets its stored answer, and nothing changes between check and command.
    pub async fn check(
        &self,
        now: impl Future<Output = Result<Option<String>, sqlx::Error>>,
    ) -> Result<(), Problem> {
        let Some(seen) = &self.0 else { return Ok(()) };
        match now.await? {
            Some(tag) if tag != *seen => Err(Refused::from(STALE).into()),
            _ => Ok(()),
        }
    }
}

/// The refusal of every operation that takes `If-Match`.
pub struct Stale;

const STALE: Declared = Declared {
    kind: Kind::Changed,
    code: "precondition_failed",
    pointer: None,
    sentence: "The resource has changed since you read it; read it again and use the new ETag.",
};

impl Declares for Stale {
    fn declared() -> Vec<Declared> {
        vec![STALE]
    }
}

impl<'a> ApiExtractor<'a> for IfMatch {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = false;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(
                "An ETag. The request is refused with 412 if the resource has another one by now.",
            ),
            pattern: Some(r#"^(\*|(W/)?".*")$"#.to_owned()),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let Some(sent) = request.headers().get("if-match") else { return Ok(Self(None)) };
        let text = sent.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let tags = text.strip_prefix("W/").unwrap_or(text);
        let Some(tag) = tags.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
            return Err(Problem::bad_request(
                "invalid_parameter",
                "If-Match must be an ETag from an earlier answer, with its quotes, or *.",
            )
            .into());
        };
        // This API sends no weak tags and no lists of tags, so they match nothing.
        let ours = !text.starts_with("W/") && !tag.is_empty() && !tag.contains('"');
        if ours {
            Ok(Self(Some(tag.to_owned())))
        } else {
            Err(Problem::from(Refused::from(STALE)).into())
        }
    }
}
