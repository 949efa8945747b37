//! Mails about an account that somebody may ask for without being logged in: finding the account, and counting the requests.
//!
//! The answer must not tell whether an address has an account, neither by its words nor by its time. So a request does the same for every
//! address: it counts, looks the address up, and starts a saga. If there is no account, the saga is about an id that nobody has, and its first
//! step finds nothing to do.

use std::time::Duration;

use sqlx::PgConnection;
use stepwise_engine::StepError;
use uuid::Uuid;

use super::email::{self, InvalidEmail};
use crate::{privacy::KeyStoreError, refusal::refusals};

/// The mails of one kind that an address gets in an hour at most.
pub const MOST_PER_HOUR: i32 = 3;

refusals! {
    /// Why no mail is sent.
    #[derive(Debug, thiserror::Error)]
    pub enum AskRefusal {
        /// Not an address.
        #[error(transparent)]
        InvalidEmail(#[from] InvalidEmail) => Unprocessable "invalid_email" at "/email",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Why a mail could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LetterError {
    /// The customer's key cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<LetterError> for StepError {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Database(error) => Self::Database(error),
            // The storage may answer again, as a lost connection does.
            LetterError::Keys(KeyStoreError::Storage(error)) => Self::Database(error.into()),
            LetterError::Keys(error) => Self::Broken(error.to_string()),
        }
    }
}

/// The account of an address, or an id that no account has. 1 round trip.
pub(crate) async fn account_or_nobody(
    tx: &mut PgConnection,
    address: &str,
) -> Result<Uuid, AskRefusal> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "-- customer: whose mail
        select customer_id from shop.customer where email = $1 and frozen_at is null",
    )
    .bind(email::accept(address)?)
    .fetch_optional(tx)
    .await?;
    Ok(found.unwrap_or_else(Uuid::now_v7))
}

/// Counts a request for a mail. `Some`: there were too many in the last hour, and the next one is admitted after this time. `scope` is a keyed
/// hash of the kind of mail and the address. 1 round trip, 1 more for a refusal.
pub async fn count(
    tx: &mut PgConnection,
    scope: &[u8; 32],
) -> Result<Option<Duration>, sqlx::Error> {
    let counted = sqlx::query(
        "-- mail request: count
        insert into shop.mail_request as r (scope_hash, asked_at, last_at)
        values ($1, array[saga.now()], saga.now())
        on conflict (scope_hash) do update
        set asked_at = array(select at from unnest(r.asked_at) as at
                             where at > saga.now() - interval '1 hour' order by at) || saga.now(),
            last_at = saga.now()
        where (select count(*) from unnest(r.asked_at) as at
               where at > saga.now() - interval '1 hour') < $2",
    )
    .bind(&scope[..])
    .bind(MOST_PER_HOUR)
    .execute(&mut *tx)
    .await?;
    if counted.rows_affected() == 1 {
        return Ok(None);
    }
    let wait_s: Option<f64> = sqlx::query_scalar(
        "-- mail request: how long to wait
        select extract(epoch from min(at) + interval '1 hour' - saga.now())::float8
        from shop.mail_request r, unnest(r.asked_at) as at
        where r.scope_hash = $1 and at > saga.now() - interval '1 hour'",
    )
    .bind(&scope[..])
    .fetch_one(tx)
    .await?;
    Ok(Some(Duration::from_secs_f64(wait_s.unwrap_or_default().clamp(0.0, 3_600.0))))
}
