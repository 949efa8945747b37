//! Webhooks, which other systems call. A webhook's signature is verified before its body is parsed, and each event is processed once.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use poem::{IntoResponse, Request, RequestBody, Response, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    registry::{MetaMediaType, MetaRequest, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use stepwise_adapters::gateway::webhook::{self, SIGNATURE_HEADER, WebhookRefusal};
use stepwise_workflows::sagas::place_order::webhook::{Reception, receive};

use super::Group;
use crate::door::{
    caller::Anyone,
    json,
    problem::Problem,
    reply::{Reply, described},
};

/// The operations that other systems call.
pub struct Webhooks;

/// The receipt of an event.
#[derive(Debug, Object)]
struct Received {
    /// `received`, or `parked` if the event matches no payment and was stored for a person.
    status: String,
}

/// 200 for an event that was received, 202 for one that was parked.
enum Reaction {
    Taken(Reply<200, Received>),
    Parked(Reply<202, Received>),
}

impl IntoResponse for Reaction {
    fn into_response(self) -> Response {
        match self {
            Self::Taken(reply) => reply.into_response(),
            Self::Parked(reply) => reply.into_response(),
        }
    }
}

impl ApiResponse for Reaction {
    fn meta() -> MetaResponses {
        let responses = vec![described::<Received>(200), described::<Received>(202)];
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        Received::register(registry);
    }
}

/// The unparsed body of a webhook, with its signature.
struct Signed {
    body: Vec<u8>,
    signature: Option<String>,
}

impl<'a> ApiExtractor<'a> for Signed {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let event = MetaSchema {
            description: Some(
                "An event in the gateway's format, signed with the gateway's scheme.",
            ),
            ..MetaSchema::new("object")
        };
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: MetaSchemaRef::Inline(Box::new(event)),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let signature = request.header(SIGNATURE_HEADER).map(str::to_owned);
        Ok(Self { body: json::read(body).await?, signature })
    }
}

#[OpenApi(prefix_path = "/v1/webhooks", tag = "Group::Webhooks")]
impl Webhooks {
    /// Receive an event of the payment gateway.
    #[oai(path = "/gateway", method = "post", operation_id = "receiveGatewayWebhook")]
    async fn gateway(&self, by: Anyone, sent: Signed) -> Result<Reaction, Problem> {
        // The sender signs with real time, so the check uses the system's clock, not the shop's, which tests can move.
        let now = DateTime::<Utc>::from(SystemTime::now());
        let secrets = &by.door.webhook_secrets;
        let event = webhook::receive(sent.signature.as_deref(), &sent.body, secrets, now)
            .map_err(not_believed)?;
        let Some(event) = event else { return Ok(taken()) };
        let mut tx = by.door.begin().await?;
        let reception = receive(&by.door.engine, &mut tx, &event).await?;
        tx.commit().await?;
        match reception {
            Reception::Signalled | Reception::Nothing => Ok(taken()),
            Reception::Parked(_) => {
                Ok(Reaction::Parked(Reply::new(&Received { status: "parked".to_owned() })))
            }
        }
    }
}

fn taken() -> Reaction {
    Reaction::Taken(Reply::new(&Received { status: "received".to_owned() }))
}

fn not_believed(refusal: WebhookRefusal) -> Problem {
    let why = refusal.to_string();
    match refusal {
        WebhookRefusal::NotSigned => {
            Problem::new(StatusCode::UNAUTHORIZED, "signature_missing", why)
        }
        WebhookRefusal::WrongSignature => {
            Problem::new(StatusCode::UNAUTHORIZED, "signature_invalid", why)
        }
        WebhookRefusal::OutOfTime => {
            Problem::new(StatusCode::UNAUTHORIZED, "signature_expired", why)
        }
        WebhookRefusal::Unreadable => Problem::unprocessable("unreadable_event", why),
    }
}
