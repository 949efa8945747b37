//! The verbs of operators on parked events: reading them, and ending them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor};
use stepwise_engine::SignalError;
use uuid::Uuid;

use super::Misfit;
use crate::{
    money::Money,
    refusal::refusals,
    text::{self, BadField},
};

/// The maximum length of a reason.
const REASON_CHARS: usize = 500;

/// The maximum length of an operator's name.
const NAME_CHARS: usize = 100;

/// A parked event as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ParkedEvent {
    /// The gateway's id of the event.
    pub event_id: String,
    /// Why it is parked.
    #[sqlx(try_from = "String")]
    pub why: Misfit,
    /// The gateway's name of its kind.
    pub kind: String,
    /// The gateway's reference of the authorization.
    pub reference: Option<String>,
    /// The order.
    pub order_id: Option<Uuid>,
    amount: Option<Decimal>,
    currency: Option<String>,
    /// When it happened, as far as the gateway says.
    pub happened_at: Option<DateTime<Utc>>,
    /// When it was parked.
    pub parked_at: DateTime<Utc>,
    /// When a person has ended it. `None`: it waits.
    pub ended_at: Option<DateTime<Utc>>,
    /// The last verb of an operator: `retry` or `dismiss`.
    pub verb: Option<String>,
    /// The operator.
    pub verb_by: Option<String>,
    /// The operator's reason.
    pub verb_reason: Option<String>,
    /// When.
    pub verb_at: Option<DateTime<Utc>>,
}

impl ParkedEvent {
    /// The amount that it is about. `None`: it is about none, or about one in a currency that this version does not know.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        Money::stored(self.amount?, self.currency.as_deref()?).ok()
    }

    /// The reference of the payment about which the gateway is to be asked again. `None`: the event has ended, or asking again cannot end it.
    #[must_use]
    pub fn question(&self) -> Option<&str> {
        let is_open = self.ended_at.is_none() && self.why.may_be_over();
        self.reference.as_deref().filter(|_| is_open)
    }
}

refusals! {
    /// Why a verb does nothing to a parked event.
    #[derive(Debug, thiserror::Error)]
    pub enum ParkedRefusal {
        /// Unknown, or ended more than 90 days ago.
        #[error("There is no such parked event.")]
        NotFound => NotFound "parked_event_not_found",
        /// A person has ended it.
        #[error("The event has been ended before.")]
        Ended => Conflict "parked_event_ended",
        /// Asking the gateway again cannot end it.
        #[error("An event that is parked because of `{0}` is not ended by asking the gateway again: do what it needs, then dismiss it.")]
        NotRetryable(&'static str) => Conflict "parked_event_not_retryable",
        /// A saga is moving money of the payment.
        #[error("A move of this payment is under way. Try again later.")]
        InProgress => Unavailable "payment_in_progress",
        /// The reason is missing, too long, or not fit to be kept.
        #[error(transparent)]
        InvalidField(#[from] BadField),
        /// The signal to the saga that authorizes the payment.
        #[error(transparent)]
        Signal(#[from] SignalError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// An operator's words with a verb.
#[derive(Debug, Clone)]
pub struct Said {
    by: String,
    reason: String,
}

impl Said {
    /// The operator and the reason, each one line.
    ///
    /// # Errors
    /// One of them is missing, too long, or not fit to be kept.
    pub fn new(by: &str, reason: &str) -> Result<Self, BadField> {
        let by = text::field("by", by, NAME_CHARS)?;
        Ok(Self { by, reason: text::field("reason", reason, REASON_CHARS)? })
    }
}

/// A verb of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The gateway was asked again.
    Retry,
    /// A person has done what was to be done.
    Dismiss,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Dismiss => "dismiss",
        }
    }
}

/// The parked events that wait for a person, oldest first, after the one with this time and id. 1 round trip.
///
/// # Errors
/// The database's.
pub async fn waiting(
    db: impl PgExecutor<'_>,
    after: Option<(DateTime<Utc>, String)>,
    limit: i64,
) -> Result<Vec<ParkedEvent>, sqlx::Error> {
    let (at, id) = after.unzip();
    sqlx::query_as(
        "-- parked: waiting
        select event_id, why, kind, reference, order_id, amount, currency, happened_at, parked_at, ended_at,
               verb, verb_by, verb_reason, verb_at
        from shop.parked_gateway_event
        where ended_at is null and ($1::timestamptz is null or (parked_at, event_id) > ($1, $2))
        order by parked_at, event_id limit $3",
    )
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// A parked event, also one that a person has ended. 1 round trip.
///
/// # Errors
/// There is none, or the database's.
pub async fn get(db: impl PgExecutor<'_>, id: &str) -> Result<ParkedEvent, ParkedRefusal> {
    let found = sqlx::query_as(
        "-- parked: get
        select event_id, why, kind, reference, order_id, amount, currency, happened_at, parked_at, ended_at,
               verb, verb_by, verb_reason, verb_at
        from shop.parked_gateway_event
        where event_id = $1 and (ended_at is null or ended_at > saga.now() - interval '90 days')",
    );
    found.bind(id).fetch_optional(db).await?.ok_or(ParkedRefusal::NotFound)
}

/// Locks a parked event that waits. 2 round trips: lock, read.
pub(crate) async fn lock(tx: &mut PgConnection, id: &str) -> Result<ParkedEvent, ParkedRefusal> {
    let waits = sqlx::query_scalar(
        "-- parked: lock
        select ended_at is null from shop.parked_gateway_event where event_id = $1 for update",
    );
    match waits.bind(id).fetch_optional(&mut *tx).await? {
        Some(true) => get(tx, id).await,
        Some(false) => Err(ParkedRefusal::Ended),
        None => Err(ParkedRefusal::NotFound),
    }
}

/// Ends a parked event, because a person has done what was to be done. 4 round trips.
///
/// # Errors
/// The event is unknown or ended, or the database's.
pub async fn dismiss(
    tx: &mut PgConnection,
    id: &str,
    said: &Said,
) -> Result<ParkedEvent, ParkedRefusal> {
    lock(tx, id).await?;
    end(tx, id, Verb::Dismiss, said).await
}

/// Ends a parked event that is locked. 2 round trips: write, read.
pub(crate) async fn end(
    tx: &mut PgConnection,
    id: &str,
    verb: Verb,
    said: &Said,
) -> Result<ParkedEvent, ParkedRefusal> {
    sqlx::query(
        "-- parked: end
        update shop.parked_gateway_event
        set ended_at = saga.now(), verb = $2, verb_by = $3, verb_reason = $4, verb_at = saga.now()
        where event_id = $1",
    )
    .bind(id)
    .bind(verb.as_str())
    .bind(&said.by)
    .bind(&said.reason)
    .execute(&mut *tx)
    .await?;
    tracing::info!(event = id, verb = verb.as_str(), "a parked gateway event has been ended");
    get(tx, id).await
}

/// Notes a retry after which a locked event still needs a person, for this reason. 2 round trips: write, read.
pub(crate) async fn keep(
    tx: &mut PgConnection,
    id: &str,
    why: Misfit,
    said: &Said,
) -> Result<ParkedEvent, ParkedRefusal> {
    sqlx::query(
        "-- parked: keep
        update shop.parked_gateway_event
        set why = $2, verb = $3, verb_by = $4, verb_reason = $5, verb_at = saga.now()
        where event_id = $1",
    )
    .bind(id)
    .bind(why.as_str())
    .bind(Verb::Retry.as_str())
    .bind(&said.by)
    .bind(&said.reason)
    .execute(&mut *tx)
    .await?;
    get(tx, id).await
}
