//! Proving an email address: a token that only the mail tells.
//!
//! The token is made from the customer's key and the token's id, so it needs to be kept nowhere: the database has its SHA-256, and the saga that
//! sends the mail ([`crate::sagas::register_customer`]) makes the same token again for each attempt. A customer whose key is destroyed gets no
//! mail. The token of a registration has the customer's id.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Token, mailed::LetterError};
use crate::{
    privacy::{CustomerKey, KeyStoreError},
    shop::{Shop, config::Config, mail::Mail},
};

/// The token with this id, which proves the address of the customer whose key this is.
#[must_use]
pub fn token(key: &CustomerKey, token_id: Uuid) -> Token {
    Token::of(key, b"verify-email:v1:", token_id)
}

/// The occasion of a verification mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The customer has registered, or has asked for another mail.
    Asked,
    /// The customer has not used the token of an earlier mail.
    Reminder,
}

/// A mail that is still needed: its token is in force, and its address is not proved.
pub(crate) struct Letter {
    /// The mail.
    pub(crate) mail: Mail,
    /// How long its token will be valid. Zero: it has expired.
    pub(crate) valid_for: Duration,
}

/// Somebody whose address is not proved yet.
#[derive(sqlx::FromRow)]
struct Recipient {
    email: String,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// Writes the mail with the token. `None`: the address is proved, another token has taken its place, or the customer is being erased.
/// 1 round trip.
pub(crate) async fn letter(
    shop: &Shop,
    db: impl PgExecutor<'_>,
    (customer_id, token_id): (Uuid, Uuid),
    occasion: Occasion,
) -> Result<Option<Letter>, LetterError> {
    let Some(key) = shop.keys.get(customer_id).await? else { return Ok(None) };
    let token = token(&key, token_id);
    let recipient: Option<Recipient> = sqlx::query_as(
        "-- customer: recipient of the verification mail
        select c.email, t.expires_at, saga.now() as now
        from shop.verification_token t join shop.customer c using (customer_id)
        where t.token_hash = $1 and t.used_at is null and c.email_verified_at is null
          and c.frozen_at is null",
    )
    .bind(token.hash())
    .fetch_optional(db)
    .await?;
    Ok(recipient.map(|recipient| Letter {
        valid_for: (recipient.expires_at - recipient.now).to_std().unwrap_or_default(),
        mail: recipient.mail(&token, occasion, &shop.config),
    }))
}

impl Recipient {
    /// It repeats nothing that was entered, because whoever registered may be a stranger who wants it sent.
    fn mail(&self, token: &Token, occasion: Occasion, config: &Config) -> Mail {
        let (subject, reason) = match occasion {
            Occasion::Asked => ("Please verify your email address", "welcome to the shop."),
            Occasion::Reminder => (
                "Reminder: please verify your email address",
                "you have registered at the shop, and your email address is not verified yet.",
            ),
        };
        Mail {
            to: self.email.clone(),
            subject: subject.to_owned(),
            text: format!(
                "Hello,\n\n{reason} Please verify your email address:\n\n\
                 {}/docs#verifyCustomerEmail\n\nYour verification token: {}\n\n\
                 It is valid until {}. If you did not register, do nothing.\n",
                config.base_url,
                token.expose(),
                self.expires_at.format("%Y-%m-%d %H:%M UTC"),
            ),
        }
    }
}

/// Makes a new token in force, and the customer's unused ones void. False: the address is proved, or there is no such customer. Repeating it
/// makes the same token valid for its whole lifetime. 3 round trips.
pub(crate) async fn issue(
    shop: &Shop,
    tx: &mut PgConnection,
    customer_id: Uuid,
    token_id: Uuid,
) -> Result<bool, LetterError> {
    let unproved: Option<i32> = sqlx::query_scalar(
        "-- customer: lock whose address is to be proved
        select 1 from shop.customer
        where customer_id = $1 and email_verified_at is null and frozen_at is null
        for no key update",
    )
    .bind(customer_id)
    .fetch_optional(&mut *tx)
    .await?;
    if unproved.is_none() {
        return Ok(false);
    }
    let key = shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    let hash = token(&key, token_id).hash();
    sqlx::query(
        "-- customer: void verification tokens
        delete from shop.verification_token
        where customer_id = $1 and used_at is null and token_hash <> $2",
    )
    .bind(customer_id)
    .bind(&hash)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- customer: issue verification token
        insert into shop.verification_token (token_hash, customer_id, expires_at)
        values ($2, $1, saga.now() + make_interval(secs => $3))
        on conflict (token_hash) do update set expires_at = excluded.expires_at
        where verification_token.used_at is null",
    )
    .bind(customer_id)
    .bind(&hash)
    .bind(shop.config.verification_lifetime.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(true)
}

/// Makes the customer's unused token valid for its whole lifetime again. 1 round trip.
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
