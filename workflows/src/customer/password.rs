//! Changing a password, and resetting a forgotten one with a token that only a mail tells.
//!
//! A token is made from the customer's key and the token's id, as that of a verification is ([`super::verification`]), and only its SHA-256 is
//! kept. A customer has one at most: a new one takes the place of the old one. With a new password all other sessions end, and a log-in that has
//! compared the old password opens none ([`super::session::open`]).
//!
//! Each command is two calls, so that no connection is held while a password is hashed: `prepare_..`, then the command with what that returned.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Token, mailed::LetterError, token_hash};
use crate::{
    privacy::{CustomerKey, KeyStoreError},
    refusal::refusals,
    shop::{
        Shop,
        config::Config,
        mail::Mail,
        password::{InvalidPassword, PoolError, check_length},
    },
};

/// The token with this id, which resets the password of the customer whose key this is.
#[must_use]
pub fn reset_token(key: &CustomerKey, token_id: Uuid) -> Token {
    Token::of(key, b"reset-password:v1:", token_id)
}

/// Makes a new token in force, and an earlier one void. False: there is no such customer. 3 round trips.
pub(crate) async fn issue_reset(
    shop: &Shop,
    tx: &mut PgConnection,
    customer_id: Uuid,
    token_id: Uuid,
) -> Result<bool, LetterError> {
    if !super::is_active(&mut *tx, customer_id).await? {
        return Ok(false);
    }
    let key = shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    sqlx::query(
        "-- customer: issue reset token
        insert into shop.password_reset (customer_id, token_hash, expires_at)
        values ($1, $2, saga.now() + make_interval(secs => $3))
        on conflict (customer_id) do update
        set token_hash = excluded.token_hash, expires_at = excluded.expires_at",
    )
    .bind(customer_id)
    .bind(reset_token(&key, token_id).hash())
    .bind(shop.config.reset_lifetime.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(true)
}

#[derive(sqlx::FromRow)]
struct Recipient {
    email: String,
    expires_at: Option<DateTime<Utc>>,
}

/// Writes the mail with the token. `None`: it has expired, was used, or another one has taken its place. 1 round trip.
pub(crate) async fn reset_letter(
    shop: &Shop,
    db: impl PgExecutor<'_>,
    customer_id: Uuid,
    token_id: Uuid,
) -> Result<Option<Mail>, LetterError> {
    let Some(key) = shop.keys.get(customer_id).await? else { return Ok(None) };
    let token = reset_token(&key, token_id);
    let recipient: Option<Recipient> = sqlx::query_as(
        "-- customer: recipient of the reset mail
        select c.email, r.expires_at
        from shop.password_reset r join shop.customer c using (customer_id)
        where r.token_hash = $1 and r.expires_at > saga.now() and c.frozen_at is null",
    )
    .bind(token.hash())
    .fetch_optional(db)
    .await?;
    Ok(recipient.map(|recipient| recipient.reset_mail(&token, &shop.config)))
}

/// Writes the mail which says that the password was changed. `None`: the customer is being erased. 1 round trip.
pub(crate) async fn changed_letter(
    db: impl PgExecutor<'_>,
    customer_id: Uuid,
) -> Result<Option<Mail>, LetterError> {
    let recipient: Option<Recipient> = sqlx::query_as(
        "-- customer: recipient of the mail about the password
        select email, null::timestamptz as expires_at
        from shop.customer where customer_id = $1 and frozen_at is null",
    )
    .bind(customer_id)
    .fetch_optional(db)
    .await?;
    Ok(recipient.map(|Recipient { email, .. }| Mail {
        to: email,
        subject: "Your password was changed".to_owned(),
        text: "Hello,\n\nthe password of your account was changed, and all other sessions were ended. \
               If you did not change it, reset your password now.\n"
            .to_owned(),
    }))
}

impl Recipient {
    fn reset_mail(&self, token: &Token, config: &Config) -> Mail {
        let until = self.expires_at.unwrap_or_default();
        Mail {
            to: self.email.clone(),
            subject: "Reset your password".to_owned(),
            text: format!(
                "Hello,\n\nsomebody has asked to reset the password of your account. Choose a new one:\n\n\
                 {}/docs#resetPassword\n\nYour reset token: {}\n\n\
                 It is valid until {}. If you did not ask for it, do nothing: your password stays as it is.\n",
                config.base_url,
                token.expose(),
                until.format("%Y-%m-%d %H:%M UTC"),
            ),
        }
    }
}

refusals! {
    /// Why a password was not reset.
    #[derive(Debug, thiserror::Error)]
    pub enum ResetRefusal {
        /// Unknown, used before, or void because a newer one was sent.
        #[error("the token is not valid")]
        InvalidToken => Unprocessable "invalid_token" at "/resetToken",
        /// Older than 15 minutes.
        #[error("the token has expired")]
        TokenExpired => Unprocessable "token_expired" at "/resetToken",
        /// Too short, too long or guessable.
        #[error(transparent)]
        InvalidPassword(#[from] InvalidPassword) => Unprocessable "invalid_password" at "/password",
        /// Too many passwords are being hashed.
        #[error(transparent)]
        Passwords(#[from] PoolError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// A new password, hashed, for the holder of a token.
#[derive(Debug, Clone)]
pub struct PreparedReset {
    customer_id: Uuid,
    token_hash: Vec<u8>,
    password_hash: String,
}

/// Looks the token up, and hashes the new password only if the token is valid, because everybody may send tokens. 1 round trip, then some 20 ms without a
/// connection. The reset itself checks the token again, under the lock of the customer's row.
pub async fn prepare_reset(
    shop: &Shop,
    db: impl PgExecutor<'_>,
    token: &str,
    password: &str,
) -> Result<PreparedReset, ResetRefusal> {
    check_length(password)?;
    let token_hash = token_hash(token);
    let found: Option<(Uuid, String, String, String, bool)> = sqlx::query_as(
        "-- customer: whose reset token
        select c.customer_id, c.email, c.first_name, c.last_name, r.expires_at <= saga.now()
        from shop.password_reset r join shop.customer c using (customer_id)
        where r.token_hash = $1 and c.frozen_at is null",
    )
    .bind(&token_hash)
    .fetch_optional(db)
    .await?;
    let (customer_id, email, first_name, last_name, is_expired) =
        found.ok_or(ResetRefusal::InvalidToken)?;
    if is_expired {
        return Err(ResetRefusal::TokenExpired);
    }
    let own = [email.as_str(), &first_name, &last_name];
    let password_hash = shop.passwords.accept(password, &own).await??;
    Ok(PreparedReset { customer_id, token_hash, password_hash })
}

/// Uses the token: replaces the password and ends all sessions. Returns the customer. 2 round trips.
pub(crate) async fn reset(
    tx: &mut PgConnection,
    prepared: PreparedReset,
) -> Result<Uuid, ResetRefusal> {
    let PreparedReset { customer_id, token_hash, password_hash } = prepared;
    let spent = sqlx::query(
        "-- customer: use reset token
        with owner as materialized (
            select customer_id from shop.customer
            where customer_id = $1 and frozen_at is null for no key update
        )
        delete from shop.password_reset r using owner
        where r.customer_id = owner.customer_id and r.token_hash = $2 and r.expires_at > saga.now()",
    )
    .bind(customer_id)
    .bind(token_hash)
    .execute(&mut *tx)
    .await?;
    if spent.rows_affected() == 0 {
        return Err(ResetRefusal::InvalidToken);
    }
    sqlx::query(
        "-- customer: reset password
        with changed as (
            update shop.customer set password_hash = $2 where customer_id = $1
            returning customer_id
        )
        delete from shop.session s using changed
        where s.customer_id = changed.customer_id",
    )
    .bind(customer_id)
    .bind(password_hash)
    .execute(tx)
    .await?;
    Ok(customer_id)
}

refusals! {
    /// Why a password was not changed.
    #[derive(Debug, thiserror::Error)]
    pub enum ChangePasswordRefusal {
        /// Unknown, or the account is being erased.
        #[error("There is no such customer.")]
        CustomerNotFound => NotFound "customer_not_found",
        /// Not the password of the account.
        #[error("the current password is wrong")]
        WrongPassword => Unprocessable "wrong_password" at "/currentPassword",
        /// Too short, too long or guessable.
        #[error(transparent)]
        InvalidPassword(#[from] InvalidPassword) => Unprocessable "invalid_password" at "/newPassword",
        /// Too many passwords are being hashed.
        #[error(transparent)]
        Passwords(#[from] PoolError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// A new password, hashed, for a customer who knows the old one.
#[derive(Debug, Clone)]
pub struct PreparedChange {
    customer_id: Uuid,
    old_hash: String,
    new_hash: String,
}

/// Compares the current password, and hashes the new one. 1 round trip, then some 40 ms without a connection.
pub async fn prepare_change(
    shop: &Shop,
    db: impl PgExecutor<'_>,
    customer_id: Uuid,
    (current, new): (&str, &str),
) -> Result<PreparedChange, ChangePasswordRefusal> {
    check_length(new)?;
    let found: Option<(String, String, String, String)> = sqlx::query_as(
        "-- customer: whose password
        select password_hash, email, first_name, last_name from shop.customer
        where customer_id = $1 and frozen_at is null and password_hash is not null",
    )
    .bind(customer_id)
    .fetch_optional(db)
    .await?;
    let (old_hash, email, first_name, last_name) =
        found.ok_or(ChangePasswordRefusal::CustomerNotFound)?;
    if !shop.passwords.matches(current, Some(old_hash.clone())).await? {
        return Err(ChangePasswordRefusal::WrongPassword);
    }
    let new_hash = shop.passwords.accept(new, &[&email, &first_name, &last_name]).await??;
    Ok(PreparedChange { customer_id, old_hash, new_hash })
}

/// Replaces the password, ends all sessions but the one whose token has this SHA-256, and voids a token that would reset the password.
/// Returns the customer. 1 round trip.
pub(crate) async fn change(
    tx: &mut PgConnection,
    prepared: PreparedChange,
    own_token_hash: &[u8],
) -> Result<Uuid, ChangePasswordRefusal> {
    let PreparedChange { customer_id, old_hash, new_hash } = prepared;
    let is_changed: bool = sqlx::query_scalar(
        "-- customer: change password
        with changed as (
            update shop.customer set password_hash = $3
            where customer_id = $1 and password_hash = $2 and frozen_at is null
            returning customer_id
        ), voided as (
            delete from shop.password_reset r using changed where r.customer_id = changed.customer_id
        ), ended as (
            delete from shop.session s using changed
            where s.customer_id = changed.customer_id and s.token_hash <> $4
        )
        select exists (select from changed)",
    )
    .bind(customer_id)
    .bind(old_hash)
    .bind(new_hash)
    .bind(own_token_hash)
    .fetch_one(tx)
    .await?;
    // Another request has changed it meanwhile.
    if is_changed { Ok(customer_id) } else { Err(ChangePasswordRefusal::WrongPassword) }
}
