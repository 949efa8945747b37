//! Proving an email address: a token that only the mail tells.
//!
//! The token is made from the customer's key, so it needs to be kept nowhere: the database has its SHA-256, and the saga that sends the
//! mail ([`crate::sagas::verify_email`]) makes the same token again for each attempt. A customer whose key is destroyed gets no mail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::Token;
use crate::{
    privacy::CustomerKey,
    shop::{config::Config, mail::Mail},
};

/// The token that proves a customer's address.
///
/// # Panics
/// Never: any key is long enough.
#[must_use]
pub fn token(key: &CustomerKey, customer_id: Uuid) -> Token {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length is a key");
    mac.update(b"verify-email:v1:");
    mac.update(customer_id.as_bytes());
    Token::from_bytes(&mac.finalize().into_bytes().into())
}

/// Somebody whose address is not proved yet.
#[derive(Clone, sqlx::FromRow)]
pub(crate) struct Recipient {
    email: String,
    first_name: String,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// The recipient of the mail; `None`: the address is proved, or the customer is being erased. Round trips: 1.
pub(crate) async fn recipient(
    db: impl PgExecutor<'_>,
    customer_id: Uuid,
) -> Result<Option<Recipient>, sqlx::Error> {
    sqlx::query_as(
        "-- customer: recipient of the verification mail
        select c.email, c.first_name, max(t.expires_at) as expires_at, saga.now() as now
        from shop.customer c join shop.verification_token t using (customer_id)
        where c.customer_id = $1 and c.email_verified_at is null and c.frozen_at is null and t.used_at is null
        group by c.email, c.first_name",
    )
    .bind(customer_id)
    .fetch_optional(db)
    .await
}

impl Recipient {
    /// For how long the token is valid yet.
    pub(crate) fn is_valid_for(&self) -> Duration {
        (self.expires_at - self.now).to_std().unwrap_or_default()
    }

    pub(crate) fn mail(&self, token: &Token, config: &Config) -> Mail {
        Mail {
            to: self.email.clone(),
            subject: "Please verify your email address".to_owned(),
            text: format!(
                "Hello {},\n\nwelcome to the shop. Please verify your email address:\n\n\
                 {}/docs#verifyCustomerEmail\n\nYour verification token: {}\n\n\
                 It is valid until {}. If you did not register, do nothing.\n",
                self.first_name,
                config.base_url,
                token.expose(),
                self.expires_at.format("%Y-%m-%d %H:%M UTC"),
            ),
        }
    }
}

/// Makes the customer's unused token valid for its whole lifetime again. Round trips: 1.
pub(crate) async fn prolong(
    tx: &mut PgConnection,
    customer_id: Uuid,
    lifetime: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- customer: prolong verification token
        update shop.verification_token set expires_at = saga.now() + make_interval(secs => $2)
        where customer_id = $1 and used_at is null",
    )
    .bind(customer_id)
    .bind(lifetime.as_secs_f64())
    .execute(tx)
    .await
    .map(|_| ())
}
