//! The verb `retry` on a parked event: the gateway is asked about its payment, and the answer is applied as if the event had come now.

use super::{
    Reception, answer,
    books::read,
    decide::{Decision, decide},
    hear::tell,
};
use crate::{
    order::outside::{self, Truth},
    payment::{
        gateway::{
            AuthorizationStatus, GatewayError, GatewayEvent, GatewayEventKind, News,
            PaymentGateway, Reference,
        },
        parked::{self, Misfit, ParkedEvent, ParkedRefusal, Said, Verb},
    },
    shop::Context,
};

/// Asks the gateway about the payment of a parked event ([`ParkedEvent::question`]). Outside any transaction.
///
/// # Errors
/// The gateway's.
pub async fn ask_again(
    gateway: &dyn PaymentGateway,
    reference: &str,
) -> Result<Truth, GatewayError> {
    outside::ask(gateway, &Reference(reference.to_owned())).await
}

/// Applies the gateway's answer to the payment of a parked event, and ends the event if nothing is left to do. Otherwise the event waits on, for the
/// reason that it has now. `truth` is `None` if there was nothing to ask. Round trips: 5 to 12.
///
/// # Errors
/// The event is unknown, ended or not to be retried, a saga is moving money of the payment, or the database's.
pub async fn retry(
    ctx: &mut Context<'_>,
    id: &str,
    truth: Option<&Truth>,
    said: &Said,
) -> Result<ParkedEvent, ParkedRefusal> {
    let event = parked::lock(ctx, id).await?;
    let truth = truth.ok_or(ParkedRefusal::NotRetryable(event.why.as_str()))?;
    match apply(ctx, &event, truth).await? {
        Reception::Later => Err(ParkedRefusal::InProgress),
        Reception::Parked(why) => parked::keep(ctx, id, why, said).await,
        Reception::Full => parked::keep(ctx, id, event.why, said).await,
        Reception::Signalled | Reception::Applied | Reception::Nothing | Reception::NoConcern => {
            parked::end(ctx, id, Verb::Retry, said).await
        }
    }
}

async fn apply(
    ctx: &mut Context<'_>,
    event: &ParkedEvent,
    truth: &Truth,
) -> Result<Reception, ParkedRefusal> {
    let Some(found) = &truth.authorization else { return Ok(Reception::Parked(event.why)) };
    let now = GatewayEvent {
        id: event.event_id.clone(),
        name: event.kind.clone(),
        at: event.happened_at,
        news: News::Authorization(kind_of(&found.status), found.clone()),
    };
    let reference = &found.reference;
    let order = found.order_id.or(event.order_id);
    let Some(known) = read(ctx, reference, order, &now.news).await? else {
        return Ok(Reception::Parked(Misfit::UnknownPayment));
    };
    match decide(&known, &now.news) {
        Decision::Later => Ok(Reception::Later),
        Decision::Park(why) => Ok(Reception::Parked(why)),
        // The saga asks the gateway by itself. Whether the books agree afterwards is for the next retry to say.
        Decision::Signal(kind) => {
            let engine = ctx.engine;
            tell(engine, ctx, &now, &known, kind).await?;
            Ok(Reception::Parked(event.why))
        }
        // The event was parked although the books may have said the same, so they are compared in full.
        Decision::Nothing | Decision::Ask | Decision::BookDispute => {
            let is_booked = known.pays_with(reference);
            Ok(answer::apply(ctx, &now, known.order_id, is_booked, truth).await?)
        }
    }
}

/// The change that has led to this status.
fn kind_of(status: &AuthorizationStatus) -> GatewayEventKind {
    use AuthorizationStatus as A;

    match status {
        A::Created | A::Processing => GatewayEventKind::Other,
        A::ApprovalRequired(_) => GatewayEventKind::ApprovalRequired,
        A::Authorized => GatewayEventKind::Authorized,
        A::Declined(_) | A::Unsupported => GatewayEventKind::Declined,
        A::Captured { .. } => GatewayEventKind::Captured,
        A::Cancelled => GatewayEventKind::Cancelled,
    }
}
