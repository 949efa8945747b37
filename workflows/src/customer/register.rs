//! registerCustomer and verifyCustomerEmail.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{CustomerView, Token, email, token_hash, verification};
use crate::{
    events::{DomainEvent, Sealed, tell},
    privacy::KeyStoreError,
    refusal::refusals,
    shop::{
        Context, Shop,
        password::{InvalidPassword, PoolError},
    },
    text::{self, BadField},
};

/// The command.
#[derive(Clone)]
pub struct RegisterCustomer {
    /// The address; kept in lower case.
    pub email: String,
    /// 15 to 128 characters.
    pub password: String,
    /// At most 100 characters.
    pub first_name: String,
    /// At most 100 characters.
    pub last_name: String,
}

/// A new account, and the secret that proves its email address.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The account.
    pub customer: CustomerView,
    /// For the mail only.
    pub verification_token: Token,
}

refusals! {
    /// Why a registration was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum RegisterRefusal {
        /// The address has an account.
        #[error("the email address is registered already")]
        EmailAlreadyRegistered => Conflict "email_already_registered",
        /// Not an address.
        #[error(transparent)]
        InvalidEmail(#[from] email::InvalidEmail) => Unprocessable "invalid_email" at "/email",
        /// Too short, too long or guessable.
        #[error(transparent)]
        InvalidPassword(#[from] InvalidPassword) => Unprocessable "invalid_password" at "/password",
        /// A name is missing or not fit to be kept.
        #[error(transparent)]
        InvalidName(#[from] BadField),
        /// Too many passwords are being hashed.
        #[error(transparent)]
        Passwords(#[from] PoolError),
        /// The customer's key could not be kept.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// A registration that is acceptable, with its password hashed.
#[derive(Debug, Clone)]
pub struct Prepared {
    email: String,
    password_hash: String,
    first_name: String,
    last_name: String,
}

impl Prepared {
    /// The address as it is kept: equal for all spellings of it.
    pub fn email(&self) -> &str {
        &self.email
    }
}

/// Accepts or refuses what was sent, and hashes the password. Some 20 ms, and longer when others are
/// waiting: hold no connection meanwhile.
pub async fn prepare(shop: &Shop, command: RegisterCustomer) -> Result<Prepared, RegisterRefusal> {
    let email = email::accept(&command.email)?;
    let first_name = text::field("firstName", &command.first_name, 100)?;
    let last_name = text::field("lastName", &command.last_name, 100)?;
    let own = [email.as_str(), &first_name, &last_name];
    let password_hash = shop.passwords.accept(&command.password, &own).await??;
    Ok(Prepared { email, password_hash, first_name, last_name })
}

/// Opens an account, unverified. The mail that proves its address follows from its event. The key is kept before anything is locked.
/// 5 round trips besides business time, and those of the saga's start.
pub async fn register_customer(
    ctx: &mut Context<'_>,
    prepared: Prepared,
) -> Result<Registered, RegisterRefusal> {
    let Prepared { email, password_hash, first_name, last_name } = prepared;
    let is_taken: bool = sqlx::query_scalar(
        "-- customer: is the address taken
        select exists (select from shop.customer where email = $1)",
    )
    .bind(&email)
    .fetch_one(&mut **ctx)
    .await?;
    if is_taken {
        return Err(RegisterRefusal::EmailAlreadyRegistered);
    }
    let customer_id = Uuid::now_v7();
    let key = ctx.shop.keys.create(customer_id).await?;
    let verification_token = verification::token(&key, customer_id);
    let created_at = ctx.now().await?;
    let told = tell([DomainEvent::CustomerRegistered {
        customer_id,
        email: Sealed::new(&key, customer_id, "email", &email),
        first_name: Sealed::new(&key, customer_id, "firstName", &first_name),
        last_name: Sealed::new(&key, customer_id, "lastName", &last_name),
        created_at,
    }]);
    sqlx::query(
        "-- customer: register
        with registered as (
            insert into shop.customer (customer_id, email, password_hash, first_name, last_name,
                                       event_count, created_at)
            values ($1, $2, $3, $4, $5, $8, $9)
            returning customer_id, created_at
        )
        insert into shop.verification_token (token_hash, customer_id, expires_at)
        select $6, customer_id, created_at + make_interval(secs => $7) from registered",
    )
    .bind(customer_id)
    .bind(&email)
    .bind(password_hash)
    .bind(&first_name)
    .bind(&last_name)
    .bind(verification_token.hash())
    .bind(ctx.shop.config.verification_lifetime.as_secs_f64())
    .bind(told.count())
    .bind(created_at)
    .execute(&mut **ctx)
    .await
    .map_err(taken_meanwhile)?;
    ctx.record(told.after(0)).await?;
    let email_verified = false;
    let customer =
        CustomerView { customer_id, email, email_verified, first_name, last_name, created_at };
    Ok(Registered { customer, verification_token })
}

fn taken_meanwhile(error: sqlx::Error) -> RegisterRefusal {
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    match constraint {
        Some("an_email_is_registered_once") => RegisterRefusal::EmailAlreadyRegistered,
        _ => RegisterRefusal::Database(error),
    }
}

refusals! {
    /// Why a verification was refused.
    #[derive(Debug, thiserror::Error)]
    pub enum VerifyRefusal {
        /// Unknown, or used before.
        #[error("the token is not valid")]
        InvalidToken => Unprocessable "invalid_token" at "/verificationToken",
        /// Older than 24 hours.
        #[error("the token has expired")]
        TokenExpired => Unprocessable "token_expired" at "/verificationToken",
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Marks the address as verified; from now on orders can be placed. The token works once.
/// 3 round trips.
pub async fn verify_customer_email(
    ctx: &mut Context<'_>,
    token: &str,
) -> Result<CustomerView, VerifyRefusal> {
    #[derive(sqlx::FromRow)]
    struct Found {
        #[sqlx(flatten)]
        customer: CustomerView,
        event_count: i64,
        is_used: bool,
        is_expired: bool,
        now: DateTime<Utc>,
    }
    let found: Option<Found> = sqlx::query_as(
        "-- customer: lock by verification token
        select c.customer_id, c.email, c.email_verified_at is not null as email_verified,
               c.first_name, c.last_name, c.created_at, c.event_count,
               t.used_at is not null as is_used, t.expires_at <= saga.now() as is_expired,
               saga.now() as now
        from shop.verification_token t join shop.customer c using (customer_id)
        where t.token_hash = $1 and c.frozen_at is null
        for no key update of c",
    )
    .bind(token_hash(token))
    .fetch_optional(&mut **ctx)
    .await?;
    let found = found.filter(|found| !found.is_used).ok_or(VerifyRefusal::InvalidToken)?;
    if found.is_expired {
        return Err(VerifyRefusal::TokenExpired);
    }
    let customer_id = found.customer.customer_id;
    ctx.learn_now(found.now);
    let key = ctx.shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    let told = tell([DomainEvent::CustomerEmailVerified {
        customer_id,
        email: Sealed::new(&key, customer_id, "email", &found.customer.email),
        verified_at: found.now,
    }]);
    let verified = sqlx::query(
        "-- customer: verify
        with used as (
            update shop.verification_token set used_at = $3
            where token_hash = $1 and used_at is null
            returning customer_id
        )
        update shop.customer c
        set email_verified_at = coalesce(email_verified_at, $3),
            event_count = event_count + $2
        from used where c.customer_id = used.customer_id",
    )
    .bind(token_hash(token))
    .bind(told.count())
    .bind(found.now)
    .execute(&mut **ctx)
    .await?;
    if verified.rows_affected() == 0 {
        return Err(VerifyRefusal::InvalidToken);
    }
    ctx.record(told.after(found.event_count)).await?;
    Ok(CustomerView { email_verified: true, ..found.customer })
}
