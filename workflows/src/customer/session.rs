//! logIn, logOut, listSessions and endSession. The front door looks up the holder of a token, together with the tokens of all other callers.
//!
//! Logging in is three calls, so that no connection is held while the password is compared:
//! [`look_up`], [`Account::check`], [`open`].
//!
//! A session's id is made from the hash of its token, so that neither is shown. A customer has a limited number of sessions.

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
    /// The session.
    pub session_id: Uuid,
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
pub struct Proven {
    customer_id: Uuid,
    /// The hash that the password was compared with.
    password_hash: String,
}

/// The place from which somebody logs in, as the owner is shown it.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// The program, as it names itself.
    pub agent: Option<String>,
    /// The network: an address prefix.
    pub network: Option<String>,
}

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
    /// The customer, if there is such an account.
    #[must_use]
    pub fn customer_id(&self) -> Option<Uuid> {
        self.known.as_ref().map(|(customer_id, _)| *customer_id)
    }

    /// Compares the password, which takes as long for an unknown account. Some 20 ms, and longer when
    /// others are waiting: hold no connection meanwhile.
    pub async fn check(self, shop: &Shop, password: &str) -> Result<Proven, LogInRefusal> {
        let hash = self.known.as_ref().map(|(_, hash)| hash.clone());
        let is_right = shop.passwords.matches(password, hash).await?;
        let (customer_id, password_hash) =
            self.known.filter(|_| is_right).ok_or(LogInRefusal::InvalidCredentials)?;
        Ok(Proven { customer_id, password_hash })
    }
}

/// Opens a session, and ends those that began first if the customer has too many. It is refused if the password was replaced since it was compared.
/// 1 round trip.
pub async fn open(
    shop: &Shop,
    tx: &mut PgConnection,
    proven: Proven,
    device: &Device,
) -> Result<LoggedIn, LogInRefusal> {
    let Proven { customer_id, password_hash } = proven;
    let token = Token::draw();
    let opened: Option<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "-- session: open
        with owner as materialized (
            select customer_id from shop.customer
            where customer_id = $2 and password_hash = $4 and frozen_at is null for share
        ), too_many as (
            delete from shop.session where token_hash in (
                select s.token_hash from shop.session s join owner using (customer_id)
                order by s.created_at desc, s.token_hash offset $7)
        )
        insert into shop.session
            (token_hash, customer_id, created_at, last_seen_at, expires_at, agent, network)
        select $1, customer_id, saga.now(), saga.now(), saga.now() + make_interval(secs => $3),
               $5, $6
        from owner
        returning shop.session_id(token_hash), expires_at",
    )
    .bind(token.hash())
    .bind(customer_id)
    .bind(shop.config.session_lifetime.as_secs_f64())
    .bind(password_hash)
    .bind(&device.agent)
    .bind(&device.network)
    .bind(i64::from(shop.config.most_sessions.max(1) - 1))
    .fetch_optional(tx)
    .await?;
    let (session_id, expires_at) = opened.ok_or(LogInRefusal::InvalidCredentials)?;
    Ok(LoggedIn { customer_id, session_id, token, expires_at })
}

/// A session as its customer sees it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SessionView {
    /// The session.
    pub session_id: Uuid,
    /// When the customer logged in.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to within ten minutes.
    pub last_used_at: DateTime<Utc>,
    /// The latest moment it is valid.
    pub expires_at: DateTime<Utc>,
    /// The program that logged in, as it named itself.
    pub agent: Option<String>,
    /// The network that it logged in from: an address prefix.
    pub network: Option<String>,
    /// Whether it is the session of this token.
    pub is_current: bool,
}

/// The sessions of a customer that are not over, newest first, after this one. `own_token_hash` is that of the asking session. 1 round trip.
pub async fn list(
    shop: &Shop,
    connection: &mut PgConnection,
    (customer_id, own_token_hash): (Uuid, &[u8]),
    after: Option<(DateTime<Utc>, Uuid)>,
    count: i64,
) -> Result<Vec<SessionView>, sqlx::Error> {
    let (before, before_id) = after.unzip();
    sqlx::query_as(
        "-- session: list
        select * from (
            select shop.session_id(token_hash) as session_id, created_at, last_seen_at as last_used_at, expires_at, agent, network,
                   token_hash = $2 as is_current
            from shop.session
            where customer_id = $1 and expires_at > saga.now()
              and last_seen_at > saga.now() - make_interval(secs => $3)) s
        where $4::timestamptz is null or (created_at, session_id) < ($4, $5)
        order by created_at desc, session_id desc limit $6",
    )
    .bind(customer_id)
    .bind(own_token_hash)
    .bind(shop.config.session_idle.as_secs_f64())
    .bind(before)
    .bind(before_id)
    .bind(count)
    .fetch_all(connection)
    .await
}

refusals! {
    /// Why a session is not ended.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownSession {
        /// Unknown, over, or somebody else's.
        #[error("There is no such session.")]
        NotFound => NotFound "session_not_found",
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Ends a session of the customer. 1 round trip.
pub async fn end_one(
    tx: &mut PgConnection,
    customer_id: Uuid,
    session_id: Uuid,
) -> Result<(), UnknownSession> {
    let ended = sqlx::query(
        "-- session: end one
        delete from shop.session
        where customer_id = $1 and shop.session_id(token_hash) = $2",
    )
    .bind(customer_id)
    .bind(session_id)
    .execute(tx)
    .await?;
    if ended.rows_affected() == 0 { Err(UnknownSession::NotFound) } else { Ok(()) }
}

/// Ends the session of the token with this SHA-256; false: there was none.
pub async fn end(tx: &mut PgConnection, token_hash: &[u8]) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("-- session: end\ndelete from shop.session where token_hash = $1")
        .bind(token_hash)
        .execute(tx)
        .await?;
    Ok(ended.rows_affected() == 1)
}
