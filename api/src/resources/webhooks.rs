//! Webhooks, which other systems call. A webhook's signature is verified before its body is parsed, and each event is processed once.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use poem::{IntoResponse, Request, RequestBody, Response, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    registry::{MetaMediaType, MetaRequest, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use stepwise_adapters::{
    gateway::webhook::{self, SIGNATURE_HEADER, WebhookRefusal},
    paypal::webhook::{NotBelieved, Transmission},
};
use stepwise_engine::Transaction;
use stepwise_workflows::{
    gateway_events::{Look, Reception, ask, conclude, echo::is_echo, look},
    payment::gateway::{GatewayError, GatewayEvent},
    shop::{Actor, Context},
};

use super::{
    Group,
    words::{ReceiptWords, Word},
};
use crate::door::{
    Door,
    caller::Anyone,
    incoming::Incoming,
    json,
    problem::Problem,
    reply::{Reply, described},
};

/// The operations that other systems call.
pub struct Webhooks;

/// The receipt of an event.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Received {
    /// `received`; `ignored` if the event concerns no payment of this shop; `parked` if it was stored for a person.
    status: Word<ReceiptWords>,
    /// For a parked event, the reason: `unknown_payment`, `other_amount`, `unreadable`, `contradicts_our_books`,
    /// `refund_failed` or `dispute`.
    reason: Option<String>,
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

/// The unparsed body of a webhook, with its signature: that of the gateway, or that of PayPal.
struct Signed {
    body: Vec<u8>,
    signature: Option<String>,
    transmission: Option<Transmission>,
    incoming: Incoming,
}

impl<'a> ApiExtractor<'a> for Signed {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let event = MetaSchema {
            description: Some(
                "An event in the format of the provider that sends it, with that provider's signature in the headers.",
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
        let transmission = Transmission::read(|name| request.header(name));
        let incoming = Incoming::of(request);
        Ok(Self { body: json::read(body).await?, signature, transmission, incoming })
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
        received(taken_in(&by.door, &sent.incoming, &event).await?)
    }

    /// Receive an event of PayPal. PayPal is asked whether it has sent the event.
    #[oai(path = "/paypal", method = "post", operation_id = "receivePayPalWebhook")]
    async fn paypal(&self, by: Anyone, sent: Signed) -> Result<Reaction, Problem> {
        let Some(paypal) = &by.door.paypal else {
            return Err(Problem::conflict(
                "paypal_not_offered",
                "This shop takes no payments by PayPal.",
            ));
        };
        let event = paypal.receive(sent.transmission.as_ref(), &sent.body).await;
        let event = event.map_err(|why| match why {
            NotBelieved::Refused(refusal) => not_believed(refusal),
            NotBelieved::Unasked(error) => not_answered(error),
        })?;
        received(taken_in(&by.door, &sent.incoming, &event).await?)
    }
}

/// The answer to the sender of an event.
fn received(reception: Reception) -> Result<Reaction, Problem> {
    metrics::counter!("stepwise_gateway_events_total", "outcome" => outcome(reception))
        .increment(1);
    match reception {
        Reception::Signalled | Reception::Applied | Reception::Nothing => Ok(taken("received")),
        Reception::NoConcern => Ok(taken("ignored")),
        Reception::Parked(why) => Ok(Reaction::Parked(Reply::new(&Received {
            status: "parked".into(),
            reason: Some(why.as_str().to_owned()),
        }))),
        Reception::Later => Err(Problem::unavailable(
            "payment_in_progress",
            "A move of this payment is under way. Send the event again later.",
        )),
        Reception::Full => Err(Problem::unavailable(
            "too_many_parked_events",
            "Too many events wait for an operator. Send this one again later.",
        )),
    }
}

/// Takes an event in: compares it with the books, asks the gateway if they differ, and applies the answer. Round trips for an echo: 1.
async fn taken_in(
    door: &Door,
    incoming: &Incoming,
    event: &GatewayEvent,
) -> Result<Reception, Problem> {
    if is_echo(&door.db, event).await? {
        return Ok(Reception::Nothing);
    }
    let mut tx = door.begin().await?;
    let question = match look(&door.engine, &mut tx, event).await? {
        Look::Done(reception) => return end(tx, reception).await,
        Look::Ask(question) => question,
    };
    tx.commit().await?;
    let truth = ask(&*door.shop.gateway, &question).await.map_err(not_answered)?;
    let mut tx = door.begin().await?;
    // The shop acts: an event is a hint, and its sender is no actor of ours.
    let cause = incoming.cause(Actor::System);
    let mut ctx = Context::new(&door.shop, &door.engine, &mut tx, cause);
    let reception = conclude(&mut ctx, event, &question, &truth).await?;
    end(tx, reception).await
}

/// Ends the transaction of an event. If the event could not be parked, nothing that was booked for it stays: the sender sends it again, and it is
/// taken in whole then.
async fn end(tx: Transaction, reception: Reception) -> Result<Reception, Problem> {
    match reception {
        Reception::Full => tx.rollback().await?,
        _ => tx.commit().await?,
    }
    Ok(reception)
}

fn taken(status: &'static str) -> Reaction {
    Reaction::Taken(Reply::new(&Received { status: status.into(), reason: None }))
}

/// The label of the metric.
fn outcome(reception: Reception) -> &'static str {
    match reception {
        Reception::Signalled | Reception::Applied => "applied",
        Reception::Nothing => "known",
        Reception::Later => "later",
        Reception::NoConcern => "no_concern",
        Reception::Parked(why) => why.as_str(),
        Reception::Full => "full",
    }
}

/// The event says something new, and the gateway cannot be asked about it now: it is to send the event again.
pub(super) fn not_answered(error: GatewayError) -> Problem {
    tracing::warn!(%error, "cannot ask the payment gateway about its event");
    Problem::unavailable(
        "gateway_unavailable",
        "The payment gateway cannot be asked about this event now. Send the request again later.",
    )
}

fn not_believed(refusal: WebhookRefusal) -> Problem {
    let why = refusal.to_string();
    let code = match refusal {
        WebhookRefusal::NotSigned => "signature_missing",
        WebhookRefusal::WrongSignature => "signature_invalid",
        WebhookRefusal::OutOfTime => "signature_expired",
    };
    Problem::new(StatusCode::UNAUTHORIZED, code, why)
}
