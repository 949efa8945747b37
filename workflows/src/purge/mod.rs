//! Deleting rows that nobody needs any more, so that no table grows for ever.
//!
//! One list says it all: for each kind of row its table, the column with its time, and how long it is kept after that. The worker's process goes
//! through the list every few seconds ([`run`]) and deletes in batches of some milliseconds each. A row that somebody else has locked is left for the
//! next time, so several processes may do this at once. [`backlogs`] counts the rows that should be gone.
//!
//! Deliberately absent: carts, which end by their sagas ([`crate::sagas::cart_expiry`]); the engine's own tables, which the engine keeps small; domain
//! events, the audit of stock, orders and payments, which are kept for good.

use std::time::Duration;

use sqlx::PgPool;
use stepwise_engine::database::in_time;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How many rows a statement deletes at most.
pub const BATCH: u32 = 1_000;

/// The pause between two batches, in which others get their turn.
const PAUSE: Duration = Duration::from_millis(2);

/// One kind of row that is deleted when it is old.
#[derive(Debug)]
pub struct Rule {
    /// The name in the settings and in metrics.
    pub name: &'static str,
    /// How long it is kept unless configured otherwise.
    pub kept: Duration,
    /// The shortest time for which it may be kept.
    pub at_least: Duration,
    delete: &'static str,
    count: &'static str,
}

/// Writes the list: a name, how long a row is kept and must be kept, its table, the column with its time, and the condition beside the time.
macro_rules! rules {
    ($($name:literal: $kept:expr, at least $at_least:expr, $table:literal by $age:literal where $condition:literal;)*) => {
        /// All kinds of rows that are deleted when they are old.
        pub const RULES: &[Rule] = &[$(Rule {
            name: $name,
            kept: Duration::from_secs($kept),
            at_least: Duration::from_secs($at_least),
            delete: concat!(
                "-- purge: ", $name, "
                delete from ", $table, " where ctid = any(array(
                    select ctid from ", $table, "
                    where ", $age, " <= saga.now() - make_interval(secs => $1) and ", $condition, "
                    limit $2
                    for update skip locked))"
            ),
            count: concat!(
                "-- purge: count ", $name, "
                select count(*) from (
                    select from ", $table, "
                    where ", $age, " <= saga.now() - make_interval(secs => $1) and ", $condition, "
                    limit 10000) old"
            ),
        }),*];
    };
}

rules! {
    "idempotency-answers": 72 * HOUR, at least 72 * HOUR, "shop.idempotency" by "created_at" where "true";
    "sessions": DAY, at least 0, "shop.session" by "expires_at" where "true";
    "verification-tokens": 30 * DAY, at least 0, "shop.verification_token" by "expires_at" where "true";
    "log-in-attempts": 15 * MINUTE, at least 15 * MINUTE, "shop.log_in_attempt" by "last_at" where "succeeded_at is null";
    "wrong-log-ins": 2 * DAY, at least 2 * DAY, "shop.wrong_log_in" by "minute" where "true";
    "known-networks": 90 * DAY, at least 0, "shop.log_in_attempt" by "succeeded_at" where "succeeded_at is not null";
    "password-resets": DAY, at least 0, "shop.password_reset" by "expires_at" where "true";
    "mail-requests": HOUR, at least HOUR, "shop.mail_request" by "last_at" where "true";
    "rate-buckets": 15 * MINUTE, at least 0, "shop.rate_bucket" by "full_at" where "true";
    "removed-payment-methods": 7 * DAY, at least HOUR, "shop.payment_method" by "removed_at" where "kind = 'card' and coalesce(attachment, '') not in ('asked', 'attached')";
    "unused-approvals": 7 * DAY, at least DAY, "shop.payment_method" by "created_at" where "kind = 'paypal' and payment_method_id in (select payment_method_id from shop.paypal_approval where state <> 'used')";
    "parked-events": 90 * DAY, at least 0, "shop.parked_gateway_event" by "ended_at" where "ended_at is not null";
}

/// How long each kind of row is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention(Vec<Duration>);

impl Default for Retention {
    fn default() -> Self {
        Self(RULES.iter().map(|rule| rule.kept).collect())
    }
}

/// Why a time is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRetention {
    /// No kind of row has this name.
    #[error("there is no such kind of row")]
    Unknown,
    /// Rows of this kind are needed for longer.
    #[error("it must be kept for at least {0:?}")]
    TooShort(Duration),
}

impl Retention {
    /// Keeps rows of the kind with this name for so long.
    ///
    /// # Errors
    /// [`BadRetention`]; nothing is changed.
    pub fn keep(&mut self, name: &str, time: Duration) -> Result<(), BadRetention> {
        let (rule, kept) = RULES
            .iter()
            .zip(&mut self.0)
            .find(|(rule, _)| rule.name == name)
            .ok_or(BadRetention::Unknown)?;
        if time < rule.at_least {
            return Err(BadRetention::TooShort(rule.at_least));
        }
        *kept = time;
        Ok(())
    }

    fn each(&self) -> impl Iterator<Item = (&'static Rule, Duration)> {
        RULES.iter().zip(self.0.iter().copied())
    }
}

/// Deletes all rows that are older than they are kept. Returns how many. Each batch is a transaction of its own, of 1 round trip.
///
/// # Errors
/// The first of the database's; earlier batches stay deleted, and the other kinds of rows are deleted all the same.
pub async fn run(db: &PgPool, retention: &Retention) -> Result<u64, sqlx::Error> {
    let (mut total, mut failed) = (0, None);
    for (rule, kept) in retention.each() {
        match delete_all(db, rule, kept).await {
            Ok(deleted) => total += deleted,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(total), Err)
}

async fn delete_all(db: &PgPool, rule: &Rule, kept: Duration) -> Result<u64, sqlx::Error> {
    let mut total = 0;
    loop {
        let delete = sqlx::query(rule.delete).bind(kept.as_secs_f64()).bind(i64::from(BATCH));
        let deleted = in_time(delete.execute(db)).await?.rows_affected();
        total += deleted;
        if deleted < u64::from(BATCH) {
            return Ok(total);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How many rows of each kind are older than they are kept; each count ends at 10,000. 1 round trip a kind.
///
/// # Errors
/// The database's.
pub async fn backlogs(
    db: &PgPool,
    retention: &Retention,
) -> Result<Vec<(&'static str, i64)>, sqlx::Error> {
    let mut backlogs = Vec::with_capacity(RULES.len());
    for (rule, kept) in retention.each() {
        let rows = sqlx::query_scalar(rule.count).bind(kept.as_secs_f64()).fetch_one(db).await?;
        backlogs.push((rule.name, rows));
    }
    Ok(backlogs)
}

#[cfg(test)]
mod tests;
