//! `Prefer: wait=N`: how long the client is willing to wait for the end of an operation.

use std::time::Duration;

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};

/// The longest wait.
pub(super) const MOST: Duration = Duration::from_secs(30);

/// The requested wait; zero without the header. More than 30 s counts as 30 s. An invalid value is
/// ignored, as RFC 7240 requires.
#[derive(Debug, Clone, Copy)]
pub struct Prefer(pub Duration);

impl<'a> ApiExtractor<'a> for Prefer {
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
                "`wait=N`: wait up to N (<= 30) seconds for the operation's end, and answer with its result.",
            ),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request))
    }
}

impl Prefer {
    /// Reads the header.
    pub fn of(request: &Request) -> Self {
        let sent = request.headers().get_all("prefer").iter().filter_map(|v| v.to_str().ok());
        let wait = sent
            .flat_map(|value| value.split([',', ';']))
            .filter_map(|part| part.trim().split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
            .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok());
        Self(wait.map_or(Duration::ZERO, Duration::from_secs).min(MOST))
    }
}
