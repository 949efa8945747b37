//! Erasing again after a restore: a backup brings people back who were erased after it was made.
//!
//! Two stores are restored, each from a backup of its own. The key store remembers each destroyed key, so an older database is compared with it
//! ([`without_key`]). An older key store is compared with the database, which remembers each erasure ([`destroy_again`]). If both are older, only a
//! copy of the log that was kept elsewhere tells.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sqlx::PgPool;
use uuid::Uuid;

use crate::privacy::{KeyStore, KeyStoreError, belonging::Stranger};

/// Somebody who was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Erased {
    /// The customer.
    pub customer_id: Uuid,
    /// The id in the orders.
    pub anonymized_id: Uuid,
    /// When.
    pub erased_at: DateTime<Utc>,
}

/// Everybody who was erased, in the order of the erasures.
pub async fn log(db: &PgPool) -> Result<Vec<Erased>, sqlx::Error> {
    sqlx::query_as(
        "-- erasure: log
        select customer_id, anonymized_id, erased_at from shop.erasure
        where erased_at is not null order by erased_at, customer_id",
    )
    .fetch_all(db)
    .await
}

/// Destroys the keys of everybody whom the database knows as erased, and the keys of those tax records whose statutory time is over. If an older
/// key store lacks the key of tax records, they are lost: that key is recorded as destroyed as well, so that the orders can be read. Answers how many
/// keys were there.
pub async fn destroy_again(db: &PgPool, keys: &dyn KeyStore) -> Result<u64, Stranger> {
    let erased: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(
        "-- erasure: keys to destroy again
        select customer_id, anonymized_id, tax_until is null from shop.erasure
        where erased_at is not null order by erased_at, customer_id",
    )
    .fetch_all(db)
    .await?;
    let mut destroyed = 0;
    for (customer, anonymized, is_over) in erased {
        destroyed += u64::from(keys.destroy(customer).await.map_err(Stranger::Keys)?);
        let is_lost = match keys.get(anonymized).await {
            Ok(_) => false,
            Err(KeyStoreError::Missing(_)) => true,
            Err(error) => return Err(Stranger::Keys(error)),
        };
        if is_over || is_lost {
            destroyed += u64::from(keys.destroy(anonymized).await.map_err(Stranger::Keys)?);
        }
    }
    Ok(destroyed)
}

/// The customers whose key is destroyed, and who are not erased in this database. Looks at the key of every customer.
pub async fn without_key(db: &PgPool, keys: &dyn KeyStore) -> Result<Vec<Uuid>, Stranger> {
    let mut customers = sqlx::query_scalar::<_, Uuid>(
        "-- erasure: customers
        select customer_id from shop.customer c
        where not exists (select from shop.erasure e
                          where e.customer_id = c.customer_id and e.erased_at is not null)",
    )
    .fetch(db);
    let mut without = Vec::new();
    while let Some(customer) = customers.try_next().await? {
        match keys.get(customer).await {
            // A key that an older key store does not have is not destroyed; `stepwise doctor` names its customer.
            Ok(Some(_)) | Err(KeyStoreError::Missing(_)) => {}
            Ok(None) => without.push(customer),
            Err(error) => return Err(Stranger::Keys(error)),
        }
    }
    Ok(without)
}

/// Those of these customers whom the database has, and has not erased.
pub async fn not_erased(db: &PgPool, customers: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "-- erasure: not erased
        select customer_id from shop.customer c where customer_id = any($1)
            and not exists (select from shop.erasure e
                            where e.customer_id = c.customer_id and e.erased_at is not null)
        order by customer_id",
    )
    .bind(customers)
    .fetch_all(db)
    .await
}
