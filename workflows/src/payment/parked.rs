//! News about payments that do not fit our books, kept for a person.
//!
//! An operator ends a parked event with a verb: `retry` asks the gateway again, and [`dismiss`] says that a person has done what was to be
//! done. The row says who did it and why, and goes after 90 days.

#[cfg(test)]
mod tests;
mod verbs;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use self::verbs::{ParkedEvent, ParkedRefusal, Said, dismiss, get, waiting};
pub(crate) use self::verbs::{Verb, end, keep, lock};
use super::gateway::Reference;
use crate::money::Money;

/// The maximum number of parked events that wait. Beyond it the gateway keeps further ones and sends them again.
pub const AT_MOST: i64 = 10_000;

/// The maximum length of a reference that is stored.
const REFERENCE_CHARS: usize = 255;

/// Why an event is kept for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The event names an order that is unknown.
    UnknownPayment,
    /// The payment is known, but its amount is another one.
    OtherAmount,
    /// This version cannot read the event.
    Unreadable,
    /// The gateway's word cannot follow from what our books say, or the gateway does not confirm its own event.
    ContradictsOurBooks,
    /// A refund that our books counted has failed. The books are corrected, but the customer does not have the money.
    RefundFailed,
    /// The customer's bank disputes the payment, or has decided the dispute. It is in the books.
    Dispute,
}

impl Misfit {
    /// The word in SQL and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPayment => "unknown_payment",
            Self::OtherAmount => "other_amount",
            Self::Unreadable => "unreadable",
            Self::ContradictsOurBooks => "contradicts_our_books",
            Self::RefundFailed => "refund_failed",
            Self::Dispute => "dispute",
        }
    }

    /// Whether asking the gateway again may show that nothing is left to do. The other ones are in the books already, or name no payment.
    #[must_use]
    pub fn may_be_over(self) -> bool {
        matches!(self, Self::UnknownPayment | Self::OtherAmount | Self::ContradictsOurBooks)
    }
}

/// A word that is no reason.
#[derive(Debug, thiserror::Error)]
#[error("not a reason to park an event")]
pub struct UnknownMisfit;

impl TryFrom<String> for Misfit {
    type Error = UnknownMisfit;

    fn try_from(word: String) -> Result<Self, UnknownMisfit> {
        [
            Self::UnknownPayment,
            Self::OtherAmount,
            Self::Unreadable,
            Self::ContradictsOurBooks,
            Self::RefundFailed,
            Self::Dispute,
        ]
        .into_iter()
        .find(|misfit| misfit.as_str() == word)
        .ok_or(UnknownMisfit)
    }
}

/// The kind of the news that the shop has found by itself, when it compared a payment with the gateway.
pub const RECONCILE: &str = "reconcile";

/// News for a person.
#[derive(Debug, Clone)]
pub struct Parked<'a> {
    /// The id. A second one with the same id is not kept, and a copy of one that a person has ended does not open it again. What the shop itself has
    /// found once more ([`RECONCILE`]) does.
    pub id: &'a str,
    /// The reason.
    pub why: Misfit,
    /// The name of its kind: the gateway's, or [`RECONCILE`].
    pub kind: &'a str,
    /// The gateway's reference of the authorization.
    pub reference: Option<&'a Reference>,
    /// The order.
    pub order_id: Option<Uuid>,
    /// The amount that it is about.
    pub amount: Option<Money>,
    /// When it happened, as far as the gateway says.
    pub at: Option<DateTime<Utc>>,
}

/// Keeps it for a person. False: [`AT_MOST`] are kept already, and nothing was stored. The shop's own news ([`RECONCILE`]) is always kept: it comes once
/// for each payment and reason. Round trips: 1, and 1 for one that was not stored.
///
/// # Errors
/// The database's.
pub async fn park(tx: &mut PgConnection, news: &Parked<'_>) -> Result<bool, sqlx::Error> {
    let currency = news.amount.map(|amount| amount.currency());
    let parked = sqlx::query(
        "-- webhook: park
        with parked as (
            select count(*) as events from (select from shop.parked_gateway_event where ended_at is null limit $9) p
        )
        insert into shop.parked_gateway_event as known
            (event_id, why, kind, reference, order_id, amount, currency, happened_at, parked_at)
        select $1, $2, $3, $4, $5, $6, $7, $8, saga.now() from parked where events < $9 or $3 = $10
        on conflict (event_id) do update set ended_at = null, parked_at = excluded.parked_at, why = excluded.why,
            reference = excluded.reference, order_id = excluded.order_id, amount = excluded.amount,
            currency = excluded.currency, happened_at = excluded.happened_at
        where known.ended_at is not null and known.kind = $10",
    )
    .bind(news.id)
    .bind(news.why.as_str())
    .bind(news.kind)
    .bind(news.reference.map(|reference| plain(&reference.0)))
    .bind(news.order_id)
    .bind(news.amount.map(|amount| amount.amount()))
    .bind(currency.as_ref().map(|currency| currency.code()))
    .bind(news.at)
    .bind(AT_MOST)
    .bind(RECONCILE)
    .execute(&mut *tx)
    .await?;
    let (event, why) = (news.id, news.why.as_str());
    if parked.rows_affected() == 0 {
        let is_parked = is_parked(tx, news.id).await?;
        if !is_parked {
            tracing::error!(event, why, "too many gateway events are parked");
        }
        return Ok(is_parked);
    }
    tracing::warn!(event, kind = news.kind, why, "a gateway event needs a person; it is parked");
    Ok(true)
}

async fn is_parked(tx: &mut PgConnection, id: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- webhook: is parked
        select exists (select from shop.parked_gateway_event
                       where event_id = $1 and (ended_at is null or kind <> $2))",
    )
    .bind(id)
    .bind(RECONCILE)
    .fetch_one(tx)
    .await
}

/// The number of parked events that wait, for the gauge of operators.
///
/// # Errors
/// The database's.
pub async fn parked_events(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "-- webhook: parked events
        select count(*) from shop.parked_gateway_event where ended_at is null",
    )
    .fetch_one(pool)
    .await
}

/// A text of the gateway without what Postgres does not take, cut to its maximum length.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REFERENCE_CHARS).collect()
}
