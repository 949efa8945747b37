//! A database and a key store belong together.
//!
//! The first process that uses both records the store's fingerprint in `shop.key_store`. Every later one
//! compares before it does anything else: with another store, customers that exist would look as if their
//! keys were missing, and new ones would get keys that the other processes do not have.

use futures::TryStreamExt as _;
use sqlx::PgPool;
use uuid::Uuid;

use super::{KeyStore, KeyStoreError};

/// Why a key store must not be used with a database.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// The database is used with another store.
    #[error("the key store belongs to another database")]
    OtherStore,
    /// The store has never been used with this database, and does not hold the key of this customer.
    #[error("the key store does not hold the key of customer {0}")]
    LacksKey(Uuid),
    /// The store cannot be read.
    #[error(transparent)]
    Keys(KeyStoreError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The fingerprint of the key store that this database is used with; `None`: no process has used one yet.
pub async fn recorded(db: &PgPool) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("-- key_store recorded\nselect fingerprint from shop.key_store")
        .fetch_optional(db)
        .await
}

/// Makes sure that the store with this fingerprint is the database's. Where none is recorded, the store must hold
/// the key of every customer, and is recorded.
///
/// Round trips: 1; the first time 3, and a look at the key of every customer.
pub async fn claim(db: &PgPool, fingerprint: Uuid, keys: &dyn KeyStore) -> Result<(), Stranger> {
    let known = match recorded(db).await? {
        Some(known) => known,
        None => {
            if let Some(customer) = first_without_key(db, keys, i64::MAX).await? {
                return Err(Stranger::LacksKey(customer));
            }
            record(db, fingerprint).await?
        }
    };
    if known == fingerprint { Ok(()) } else { Err(Stranger::OtherStore) }
}

/// Records the fingerprint unless another process was faster; answers the one that is recorded.
async fn record(db: &PgPool, fingerprint: Uuid) -> Result<Uuid, sqlx::Error> {
    sqlx::query(
        "-- key_store record
        insert into shop.key_store (fingerprint, recorded_at) values ($1, saga.now())
        on conflict (one) do nothing",
    )
    .bind(fingerprint)
    .execute(db)
    .await?;
    recorded(db).await?.ok_or(sqlx::Error::RowNotFound)
}

/// The first of the newest customers whose key the store has never held. An erased customer's key is remembered
/// as destroyed, so it is not missing.
pub async fn first_without_key(
    db: &PgPool,
    keys: &dyn KeyStore,
    newest: i64,
) -> Result<Option<Uuid>, Stranger> {
    let mut customers = sqlx::query_scalar::<_, Uuid>(
        "-- key_store customers\nselect customer_id from shop.customer order by customer_id desc limit $1",
    )
    .bind(newest)
    .fetch(db);
    while let Some(customer) = customers.try_next().await? {
        match keys.get(customer).await {
            Ok(_) => {}
            Err(KeyStoreError::Missing(_)) => return Ok(Some(customer)),
            Err(error) => return Err(Stranger::Keys(error)),
        }
    }
    Ok(None)
}
