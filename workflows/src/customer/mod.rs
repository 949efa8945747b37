//! Customers: registering, verifying the email address, sessions, addresses and payment methods.
//!
//! The tables of this module are the only ones where personal data is plain. A customer's key is
//! durable in the key store before the customer's row exists. Tokens (of sessions, of verification)
//! are 256 random bits; only their SHA-256 is kept.
//!
//! Every command of a customer begins with the customer's row and refuses a frozen account, whose
//! erasure has begun: `for share`, or at once for update where the row itself changes.

pub mod address;
pub(crate) mod attachment;
pub mod attempts;
pub mod email;
pub mod mailed;
pub mod method;
pub mod password;
pub mod paypal;
pub mod register;
pub mod session;
pub mod verification;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{privacy::CustomerKey, refusal::refusals, shop::Context};

/// A customer as they see themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct CustomerView {
    /// The customer.
    pub customer_id: Uuid,
    /// Lower case.
    pub email: String,
    /// Without it no order can be placed.
    pub email_verified: bool,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// When they registered.
    pub created_at: DateTime<Utc>,
}

refusals! {
    /// Why a customer is not shown.
    #[derive(Debug, thiserror::Error)]
    pub enum UnknownCustomer {
        /// Unknown, being erased, or somebody else.
        #[error("There is no such customer.")]
        NotFound => NotFound "customer_not_found",
    }
}

/// A customer who is not being erased. `None`: unknown, frozen or erased. 1 round trip.
pub async fn get_customer(
    connection: &mut PgConnection,
    customer_id: Uuid,
) -> Result<Option<CustomerView>, sqlx::Error> {
    sqlx::query_as(
        "-- customer: get
        select customer_id, email, email_verified_at is not null as email_verified, first_name,
               last_name, created_at
        from shop.customer where customer_id = $1 and frozen_at is null",
    )
    .bind(customer_id)
    .fetch_optional(connection)
    .await
}

/// Locks a customer `for share` against erasure; false: unknown, frozen or erased. 1 round trip.
pub(crate) async fn is_active(
    tx: &mut PgConnection,
    customer_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let found: Option<i32> = sqlx::query_scalar(
        "-- customer: lock for share
        select 1 from shop.customer where customer_id = $1 and frozen_at is null for share",
    )
    .bind(customer_id)
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Locks a customer who is to be changed, and returns the number of their last domain event. `None`: unknown, frozen or erased.
/// 1 round trip.
pub(crate) async fn lock(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
) -> Result<Option<i64>, sqlx::Error> {
    let locked: Option<(i64, DateTime<Utc>)> = sqlx::query_as(
        "-- customer: lock
        select event_count, saga.now() from shop.customer
        where customer_id = $1 and frozen_at is null for no key update",
    )
    .bind(customer_id)
    .fetch_optional(&mut **ctx)
    .await?;
    Ok(locked.map(|(counter, now)| {
        ctx.learn_now(now);
        counter
    }))
}

/// A secret of 256 bits that opens something. Shown once, to its owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Draws one.
    pub fn draw() -> Self {
        Self::from_bytes(&rand::random())
    }

    /// The token with this id that is made from the customer's key. It can be made again, so it needs to be kept nowhere.
    fn of(key: &CustomerKey, purpose: &[u8], id: Uuid) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length is a key");
        mac.update(purpose);
        mac.update(id.as_bytes());
        Self::from_bytes(&mac.finalize().into_bytes().into())
    }

    /// The token with these bits.
    fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The text to give to its owner, and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its hash, which is all that is stored of it.
    pub fn hash(&self) -> Vec<u8> {
        token_hash(&self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// SHA-256 of a token's text, by which it is found.
pub(crate) fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests;
