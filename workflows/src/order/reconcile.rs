//! Comparing payments with the gateway although it has sent no event, because an event may be lost.
//!
//! A payment is first asked about an hour after it was made or has changed. From an answer to the next question it is as long as it has been unchanged: at
//! most six hours while its money is reserved, because an authorization lapses, and at most 30 days after it was taken. A payment that was given up although
//! somebody at the provider had taken its money is asked about at once: it was left with `ask_at` at its change. Payments whose money is being
//! moved are left to the saga that moves it. If that saga was ended by an operator, nobody would settle the move: its row is withdrawn, and the gateway says
//! what became of it.
//!
//! A question to which no answer has come is asked again an hour after it was chosen ([`choose`]): only an answer sets the long pause ([`answered`]).
//!
//! A payment that the gateway cannot be asked about is asked about again after half an hour, an hour and so on, up to a day. A person is told at the third
//! time ([`put_off`]).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    outside::{self, Applied, Truth},
    store::lock_order_paid_by,
};
use crate::{
    payment::{
        PaymentState,
        gateway::{AuthorizationStatus, Reference},
        parked::{Misfit, Parked, RECONCILE, park},
    },
    shop::Context,
};

/// How many questions in a row may stay without an answer before a person is told.
const TOLD_AT: i16 = 3;

/// A payment to ask the gateway about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Question {
    /// The order.
    pub order_id: Uuid,
    /// Its payment.
    pub payment_id: Uuid,
    /// The gateway's reference of the authorization.
    #[sqlx(try_from = "String")]
    pub reference: Reference,
    /// When the payment last changed. An answer is applied only if it has not changed since.
    pub changed_at: DateTime<Utc>,
    /// The payment's state. Empty in what earlier builds have stored.
    #[serde(default)]
    pub state: String,
    /// How many questions before this one had no answer.
    #[serde(default)]
    pub unanswered: i16,
}

impl Question {
    /// Whether the books say what this answer says, as far as that can be seen without them: then there is nothing to [`apply`].
    #[must_use]
    pub fn agrees(&self, truth: &Truth) -> bool {
        let Some(found) = &truth.authorization else { return false };
        self.unanswered == 0
            && found.reference == self.reference
            && match &found.status {
                AuthorizationStatus::Authorized => self.state == PaymentState::Authorized.as_str(),
                AuthorizationStatus::Captured { .. } => {
                    truth.refunds.is_empty() && self.state == PaymentState::Captured.as_str()
                }
                _ => false,
            }
    }
}

/// A payment that is due, and whether a void or refund of it was asked for an hour ago or earlier and is not settled.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Due {
    /// The question.
    #[sqlx(flatten)]
    pub question: Question,
    /// Whether a saga has asked for a void or refund, and has not settled it.
    pub is_asked: bool,
}

/// The payments that have waited longest to be asked about, so many at most, in the order in which they are locked later. A payment that was chosen is due
/// again an hour later, unless an answer says otherwise, so that the next page begins with others. 1 round trip, 1 row operation a payment.
///
/// # Errors
/// The database's.
pub async fn choose(ctx: &mut Context<'_>, at_most: u16) -> Result<Vec<Due>, sqlx::Error> {
    let mut due: Vec<Due> = sqlx::query_as(
        r#"-- reconcile: choose
        with chosen as (
            select p.payment_id,
                exists (select from shop.payment_transaction t
                        where t.payment_id = p.payment_id and t.settled_at is null and t.kind <> 'dispute') as is_asked
            from shop.payment p
            where p.state in ('authorized', 'captured', 'partially_refunded', 'refunded')
              and coalesce(p.ask_at, p.created_at) <= saga.now()
              and (p.updated_at <= saga.now() - interval '1 hour' or p.ask_at = p.updated_at)
              and p.authorization_id is not null
              and not exists (select from shop.payment_transaction t
                              where t.payment_id = p.payment_id and t.settled_at is null and t.kind <> 'dispute'
                                and (t.kind not in ('void', 'refund') or t.requested_at > saga.now() - interval '1 hour'))
            order by coalesce(p.ask_at, p.created_at) limit $1
            for update of p skip locked
        )
        update shop.payment p
        set ask_at = saga.now() + interval '1 hour'
        from chosen where p.payment_id = chosen.payment_id
        returning p.order_id, p.payment_id, p.authorization_id as reference, p.updated_at as changed_at, p.state,
            p.unanswered, chosen.is_asked"#,
    )
    .bind(i32::from(at_most))
    .fetch_all(&mut **ctx)
    .await?;
    due.sort_by_key(|due| due.question.order_id);
    Ok(due)
}

/// Notes that the gateway could not be asked about the payment, so that it is asked again after a longer pause. Tells a person at the third time in a
/// row. 1 round trip, and 1 to tell.
///
/// # Errors
/// The database's.
pub async fn put_off(ctx: &mut Context<'_>, question: &Question) -> Result<(), sqlx::Error> {
    let Question { order_id, payment_id, reference, changed_at, .. } = question;
    let unanswered: Option<i16> = sqlx::query_scalar(
        "-- reconcile: put off
        update shop.payment set unanswered = least(unanswered + 1, 100),
            ask_at = saga.now() + least(interval '15 minutes' * 2 ^ least(unanswered + 1, 7), interval '1 day')
        where payment_id = $1 and updated_at = $2 returning unanswered",
    )
    .bind(payment_id)
    .bind(changed_at)
    .fetch_optional(&mut **ctx)
    .await?;
    if unanswered == Some(TOLD_AT) {
        let why = Misfit::Unreadable;
        let id = &format!("reconcile-{payment_id}-{}", why.as_str());
        let (reference, order_id) = (Some(reference), Some(*order_id));
        let news = Parked { id, why, kind: RECONCILE, reference, order_id, amount: None, at: None };
        park(ctx, &news).await?;
    }
    Ok(())
}

/// Notes that the gateway has answered about these payments, and that the answers are applied: the next question comes after the long pause. A payment
/// that has changed since it was chosen is due an hour after that. 1 round trip, 1 row operation a payment.
///
/// # Errors
/// The database's.
pub async fn answered(ctx: &mut Context<'_>, payments: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- reconcile: answered
        update shop.payment set unanswered = 0,
            ask_at = case when ask_at is not null then saga.now() + greatest(interval '1 hour', least(saga.now() - updated_at,
                case when state = 'authorized' then interval '6 hours' else interval '30 days' end)) end
        where payment_id = any($1) and (ask_at is not null or unanswered > 0)",
    )
    .bind(payments)
    .execute(&mut **ctx)
    .await?;
    Ok(())
}

/// Brings the payment into agreement with the gateway's answer, unless it has changed since it was chosen. Keeps a contradiction for a person. Whether
/// the answer was applied: then [`answered`] is to be told. 2 round trips, those of [`outside::apply`], and 1 to keep it.
///
/// # Errors
/// The database's.
pub async fn apply(
    ctx: &mut Context<'_>,
    question: &Question,
    truth: &Truth,
) -> Result<bool, sqlx::Error> {
    let Question { order_id, payment_id, reference, changed_at, .. } = question;
    let Some(order) = lock_order_paid_by(ctx, *order_id, &reference.0).await? else {
        return Ok(false);
    };
    let is_unchanged: Option<bool> = sqlx::query_scalar(
        "-- reconcile: has it changed
        select updated_at = $2 and not exists (select from shop.payment_transaction t
            where t.payment_id = p.payment_id and t.settled_at is null and t.kind <> 'dispute')
        from shop.payment p where payment_id = $1",
    )
    .bind(payment_id)
    .bind(changed_at)
    .fetch_optional(&mut **ctx)
    .await?;
    if order.payment_id != *payment_id || is_unchanged != Some(true) {
        return Ok(false);
    }
    let paid = order.paid_amount()?;
    let (why, amount) = match outside::apply(ctx, *order_id, truth).await? {
        Some(Applied::Agrees | Applied::Corrected | Applied::Later) => return Ok(true),
        Some(Applied::RefundFailed(amount)) => (Misfit::RefundFailed, amount),
        Some(Applied::Contradicts) | None => (Misfit::ContradictsOurBooks, paid),
    };
    // Each further refund that fails is a row of its own.
    let failed = truth.refunds.iter().filter(|made| made.has_failed()).count();
    let news = Parked {
        id: &format!("reconcile-{payment_id}-{}-{failed}", why.as_str()),
        why,
        kind: RECONCILE,
        reference: Some(reference),
        order_id: Some(*order_id),
        amount: Some(amount),
        at: None,
    };
    park(ctx, &news).await?;
    Ok(true)
}
