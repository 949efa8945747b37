//! The gateway's answer to a question that an event has led to.

use stepwise_engine::SignalError;
use uuid::Uuid;

use super::{
    Question, Reception, Subject,
    books::read,
    hear::tell,
    park::{book_dispute, count, park},
};
use crate::{
    order::outside::{self, Applied, Truth},
    payment::{
        PaymentState,
        gateway::{
            AuthorizationStatus, GatewayError, GatewayEvent, GatewayEventKind, News,
            PaymentGateway, Reference, RefundStatus, Trouble,
        },
        parked::Misfit,
    },
    shop::Context,
};

/// Asks the gateway about the payment. Outside any transaction.
///
/// # Errors
/// The gateway's; it sends the event again.
pub async fn ask(gateway: &dyn PaymentGateway, question: &Question) -> Result<Truth, GatewayError> {
    let asked = outside::ask(gateway, &question.reference).await;
    asked.or_else(|error| of_another_program(&question.subject, error))
}

/// A payment that our books do not have, and that the gateway describes as none of ours is described, was made by another program with the same
/// account: the gateway has no authorization of ours under that reference.
fn of_another_program(subject: &Subject, error: GatewayError) -> Result<Truth, GatewayError> {
    match (subject, error) {
        (
            Subject::Unnamed,
            GatewayError::NotDone(Trouble::Garbled) | GatewayError::Unknown(Trouble::Garbled),
        ) => Ok(Truth { authorization: None, refunds: Vec::new() }),
        (_, error) => Err(error),
    }
}

/// Applies the gateway's answer to the payment. Round trips: 1 to 9.
///
/// # Errors
/// The database's or the engine's; the gateway sends the event again.
pub async fn conclude(
    ctx: &mut Context<'_>,
    event: &GatewayEvent,
    question: &Question,
    truth: &Truth,
) -> Result<Reception, SignalError> {
    match question.subject {
        Subject::Order { id, is_booked } => Ok(apply(ctx, event, id, is_booked, truth).await?),
        Subject::Unnamed => apply_by_order(ctx, event, &question.reference, truth).await,
    }
}

/// Applies the answer to the payment of an order, or parks the event if they do not fit.
pub(super) async fn apply(
    ctx: &mut Context<'_>,
    event: &GatewayEvent,
    order_id: Uuid,
    is_booked: bool,
    truth: &Truth,
) -> Result<Reception, sqlx::Error> {
    let order = Some(order_id);
    let contradicts = Misfit::ContradictsOurBooks;
    if !is_booked {
        return match holds_money(truth) {
            true => park(ctx, event, contradicts, order).await,
            false => Ok(Reception::Nothing),
        };
    }
    let applied = outside::apply(ctx, order_id, truth).await?;
    match applied {
        Some(Applied::Later) => Ok(Reception::Later),
        None | Some(Applied::Contradicts) => park(ctx, event, contradicts, order).await,
        Some(Applied::RefundFailed(_)) => park(ctx, event, Misfit::RefundFailed, order).await,
        Some(Applied::Corrected) => Ok(Reception::Applied),
        Some(Applied::Agrees) if is_confirmed(&event.news, truth) => Ok(Reception::Nothing),
        Some(Applied::Agrees) => park(ctx, event, contradicts, order).await,
    }
}

/// Applies the answer about an authorization that our books did not have, to the order for which the gateway says that it was made.
///
/// While the payment is being authorized, the refund or dispute has overtaken the gateway's answer to the saga. It is heard like other changes that
/// do so: the gateway is to send it again, until the books have the payment.
async fn apply_by_order(
    ctx: &mut Context<'_>,
    event: &GatewayEvent,
    reference: &Reference,
    truth: &Truth,
) -> Result<Reception, SignalError> {
    let Some(order) = truth.authorization.as_ref().and_then(|found| found.order_id) else {
        // Another shop's payment.
        return Ok(count(ctx, event).await?);
    };
    let Some(known) = read(ctx, reference, Some(order), &event.news).await? else {
        return Ok(park(ctx, event, Misfit::UnknownPayment, Some(order)).await?);
    };
    let is_booked = known.pays_with(reference);
    let is_dispute = matches!(event.news, News::Dispute { .. });
    if known.state == PaymentState::Authorizing {
        let engine = ctx.engine;
        return tell(engine, ctx, event, &known, GatewayEventKind::Refunded).await;
    }
    Ok(match (is_dispute, is_booked) {
        (true, true) => book_dispute(ctx, event, order).await?,
        (true, false) => park(ctx, event, Misfit::ContradictsOurBooks, Some(order)).await?,
        (false, _) => apply(ctx, event, order, is_booked, truth).await?,
    })
}

/// Whether the gateway, when it was asked, says what its event has said. A refund that has failed since explains every difference in amounts.
fn is_confirmed(news: &News, truth: &Truth) -> bool {
    use AuthorizationStatus as A;

    let Some(found) = &truth.authorization else { return false };
    match news {
        News::Authorization(_, told) => match (&told.status, &found.status) {
            (A::Cancelled, now) => *now == A::Cancelled,
            (A::Captured { refunded: told, .. }, A::Captured { refunded: now, .. }) => {
                let failed =
                    truth.refunds.iter().any(|r| matches!(r.status, RefundStatus::Failed(_)));
                told.amount() <= now.amount() || failed
            }
            (A::Captured { .. }, _) => false,
            _ => true,
        },
        // The release of a void is shown as a refund as well.
        News::Refund { refund, .. } => {
            found.status == A::Cancelled
                || truth.refunds.iter().any(|made| made.reference == refund.reference)
        }
        News::Dispute { .. } | News::Approval { .. } | News::NoConcern | News::Unreadable => true,
    }
}

/// Whether a customer's money is reserved or taken under the authorization.
fn holds_money(truth: &Truth) -> bool {
    match truth.authorization.as_ref().map(|found| &found.status) {
        Some(AuthorizationStatus::Authorized) => true,
        Some(AuthorizationStatus::Captured { captured, refunded }) => {
            refunded.amount() < captured.amount()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An order at PayPal that was captured at once has no authorization, so its answer is none that we understand.
    #[test]
    fn what_cannot_be_understood_is_of_another_program_unless_our_books_have_it() {
        let garbled = || GatewayError::NotDone(Trouble::Garbled);
        let ours = Subject::Order { id: Uuid::nil(), is_booked: true };
        let truth = of_another_program(&Subject::Unnamed, garbled()).expect("no payment of ours");
        assert_eq!(truth.authorization, None);
        of_another_program(&ours, garbled()).expect_err("it is to be asked again");
        let away = GatewayError::NotDone(Trouble::Unreachable);
        of_another_program(&Subject::Unnamed, away).expect_err("it is to be asked again");
    }
}
