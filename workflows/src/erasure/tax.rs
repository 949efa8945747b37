//! The records that tax law wants kept: name and address of each order that was paid.
//!
//! They are sealed under a key of their own, which has the anonymized id as its name in the key store, before the customer's key is destroyed. Only
//! whoever may read tax records asks for that key. It is destroyed at the end of the statutory time, whatever copies of the database there are.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Person;
use crate::{
    events::Sealed,
    order::Address,
    privacy::{CustomerKey, KeyStore, KeyStoreError},
    refusal::refusals,
    shop::Context,
};

/// The field to which a record is bound.
const FIELD: &str = "taxRecord";

/// How many orders are sealed in one transaction.
const BATCH: i64 = 200;

/// How many keys are destroyed in one call of [`end_retention`].
const KEYS: i64 = 100;

refusals! {
    /// Why a tax record is not read.
    #[derive(Debug, thiserror::Error)]
    pub enum TaxRecordRefusal {
        /// No such order, or it has no record.
        #[error("the order has no tax record")]
        NotFound => NotFound "tax_record_not_found",
        /// The key store failed.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Seals the addresses of some paid orders under the key of the anonymized id; false: none is left. Round trips: 1, or 2.
pub async fn keep_records(
    ctx: &mut Context<'_>,
    person: Person,
    general: &CustomerKey,
    tax: &CustomerKey,
) -> Result<bool, sqlx::Error> {
    let orders: Vec<(Uuid, String)> = sqlx::query_as(
        r#"-- erasure: paid orders without a tax record
        select o.order_id, o.shipping_address
        from shop."order" o join shop.payment p using (payment_id)
        where o.customer_id = $1 and o.tax_record is null
            and p.state in ('captured', 'partially_refunded', 'refunded')
        order by o.order_id limit $2 for no key update of o"#,
    )
    .bind(person.customer)
    .bind(BATCH)
    .fetch_all(&mut **ctx)
    .await?;
    if orders.is_empty() {
        return Ok(false);
    }
    let (ids, records): (Vec<Uuid>, Vec<String>) = orders
        .into_iter()
        .map(|(order, sealed)| {
            let address: Option<Address> =
                Sealed::from_text(sealed).open(general, person.customer, "shippingAddress");
            let record = Sealed::new(tax, person.anonymized, FIELD, &address);
            (order, record.as_text().to_owned())
        })
        .unzip();
    sqlx::query(
        r#"-- erasure: keep tax records
        update shop."order" o set tax_record = k.record
        from unnest($1::uuid[], $2::text[]) as k (order_id, record) where o.order_id = k.order_id"#,
    )
    .bind(ids)
    .bind(records)
    .execute(&mut **ctx)
    .await?;
    Ok(true)
}

/// Takes the records of a customer back who is not erased after all. Round trips: 1.
pub(super) async fn forget_records(
    tx: &mut PgConnection,
    customer: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"-- erasure: forget tax records
        update shop."order" set tax_record = null where customer_id = $1 and tax_record is not null"#,
    )
    .bind(customer)
    .execute(tx)
    .await
    .map(|_| ())
}

/// The name and address of a paid order whose customer was erased; `None`: the statutory time is over, or the address could not be read even then.
/// Round trips: 1.
pub async fn read_record(
    db: &PgPool,
    keys: &dyn KeyStore,
    order: Uuid,
) -> Result<Option<Address>, TaxRecordRefusal> {
    let found: Option<(Uuid, Option<String>)> = sqlx::query_as(
        r#"-- erasure: tax record
        select customer_id, tax_record from shop."order" where order_id = $1"#,
    )
    .bind(order)
    .fetch_optional(db)
    .await?;
    let Some((anonymized, Some(record))) = found else { return Err(TaxRecordRefusal::NotFound) };
    let key = keys.get(anonymized).await?;
    Ok(key.and_then(|key| Sealed::from_text(record).open(&key, anonymized, FIELD)).flatten())
}

/// Destroys the keys of tax records whose statutory time is over, at most 100 a call; how many. Round trips: 2.
///
/// # Errors
/// The key store's or the database's, in words.
pub async fn end_retention(db: &PgPool, keys: &dyn KeyStore) -> Result<u64, TaxRecordRefusal> {
    let due: Vec<Uuid> = sqlx::query_scalar(
        "-- erasure: keys whose time is over
        select anonymized_id from shop.erasure where tax_until <= saga.now() order by tax_until limit $1",
    )
    .bind(KEYS)
    .fetch_all(db)
    .await?;
    for &anonymized in &due {
        keys.destroy(anonymized).await?;
    }
    if due.is_empty() {
        return Ok(0);
    }
    let ended = sqlx::query(
        "-- erasure: the statutory time is over
        update shop.erasure set tax_until = null where anonymized_id = any($1)",
    )
    .bind(due)
    .execute(db)
    .await?;
    Ok(ended.rows_affected())
}
