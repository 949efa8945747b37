//! logIn and logOut. Who a token belongs to is asked where the tokens of all callers are looked up, at the front door.
//!
//! Logging in is three calls, so that no connection is held while the password is compared:
//! [`look_up`], [`Account::check`], [`open`].

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Token, email};
use crate::{
    refusal::refusals,
    shop::{Shop, password::PoolError},
};

/// A new session.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The customer.
    pub customer_id: Uuid,
    /// Opens the account until it expires or is revoked.
    pub token: Token,
    /// The latest moment it is valid; earlier when it is not used.
    pub expires_at: DateTime<Utc>,
}

refusals! {
    /// Why a log-in was refused. It does not tell which of address and password was wrong.
    #[derive(Debug, thiserror::Error)]
    pub enum LogInRefusal {
        /// No such account, or not its password.
        #[error("email address or password is wrong")]
        InvalidCredentials => Unauthenticated "invalid_credentials",
        /// Too many passwords are being checked.
        #[error(transparent)]
        Passwords(#[from] PoolError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// The account of an email address with which somebody wants to log in, if there is one.
#[derive(Debug)]
pub struct Account {
    known: Option<(Uuid, String)>,
    /// The client has a token of an earlier session of this account.
    pub is_own_device: bool,
}

/// The proof that somebody knows the password of this customer.
#[derive(Debug)]
pub struct Proven(Uuid);

/// Looks an account up by its email address; unknown ones look the same. `earlier_token_hash` is that
/// of a session token that the client still has. 1 round trip.
pub async fn look_up(
    db: impl PgExecutor<'_>,
    address: &str,
    earlier_token_hash: Option<&[u8]>,
) -> Result<Account, sqlx::Error> {
    let address = email::accept(address).unwrap_or_default();
    let found: Option<(Uuid, String, bool)> = sqlx::query_as(
        "-- session: whose address
        select customer_id, password_hash,
               exists (select from shop.session s
                       where s.token_hash = $2 and s.customer_id = c.customer_id)
        from shop.customer c
        where email = $1 and frozen_at is null and password_hash is not null",
    )
    .bind(address)
    .bind(earlier_token_hash)
    .fetch_optional(db)
    .await?;
    Ok(match found {
        Some((id, hash, is_own_device)) => Account { known: Some((id, hash)), is_own_device },
        None => Account { known: None, is_own_device: false },
    })
}

impl Account {
    /// Compares the password, which takes as long for an unknown account. Some 20 ms, and longer when
    /// others are waiting: hold no connection meanwhile.
    pub async fn check(self, shop: &Shop, password: &str) -> Result<Proven, LogInRefusal> {
        let (customer_id, hash) = self.known.unzip();
        let is_right = shop.passwords.matches(password, hash).await?;
        customer_id.filter(|_| is_right).map(Proven).ok_or(LogInRefusal::InvalidCredentials)
    }
}

/// Opens a session. 1 round trip.
pub async fn open(
    shop: &Shop,
    tx: &mut PgConnection,
    proven: Proven,
) -> Result<LoggedIn, LogInRefusal> {
    let Proven(customer_id) = proven;
    let token = Token::draw();
    let expires_at: Option<DateTime<Utc>> = sqlx::query_scalar(
        "-- session: open
        with owner as materialized (
            select customer_id from shop.customer
            where customer_id = $2 and frozen_at is null for share
        )
        insert into shop.session (token_hash, customer_id, created_at, last_seen_at, expires_at)
        select $1, customer_id, saga.now(), saga.now(), saga.now() + make_interval(secs => $3)
        from owner
        returning expires_at",
    )
    .bind(token.hash())
    .bind(customer_id)
    .bind(shop.config.session_lifetime.as_secs_f64())
    .fetch_optional(tx)
    .await?;
    let expires_at = expires_at.ok_or(LogInRefusal::InvalidCredentials)?;
    Ok(LoggedIn { customer_id, token, expires_at })
}

/// Ends the session of the token with this SHA-256; false: there was none.
pub async fn end(tx: &mut PgConnection, token_hash: &[u8]) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("-- session: end\ndelete from shop.session where token_hash = $1")
        .bind(token_hash)
        .execute(tx)
        .await?;
    Ok(ended.rows_affected() == 1)
}
