//! Erasing a person: their data is deleted, and their orders are kept under an anonymized id.
//!
//! The functions here are the steps of [`crate::sagas::gdpr_erasure`], in its order. The command freezes the account under the lock of the customer's
//! row ([`begin`]), which every command of the customer locks as well. So an order that is placed at the same moment is either seen here, or refused.
//!
//! Personal data outside the customer's own tables is ciphertext under the customer's key. So destroying the key erases it wherever it was copied, and
//! only the customer's own tables are left to be deleted from ([`rows`]). The records that the law wants kept are sealed a second time before that, under a key that
//! belongs to the anonymized id and is destroyed at the end of the statutory time ([`tax`]).

pub mod certificate;
pub mod replay;
pub mod rows;
pub mod tax;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};
use stepwise_engine::inspect::{self, Summary};
use uuid::Uuid;

use crate::{
    payment::gateway::{MethodToken, Reference},
    privacy::KeyStoreError,
    refusal::refusals,
    shop::Context,
};

/// Somebody who is to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The customer.
    pub customer: Uuid,
    /// The id that stands for the customer in orders afterwards.
    pub anonymized: Uuid,
}

refusals! {
    /// Why nobody is erased.
    #[derive(Debug, thiserror::Error)]
    pub enum ErasureRefusal {
        /// The request does not confirm it.
        #[error("confirmation must be true: an erasure cannot be taken back")]
        ConfirmationRequired => Unprocessable "confirmation_required" at "/confirmation",
        /// An order is not over.
        #[error("an order is not delivered, cancelled or failed yet; nothing is erased before that")]
        PendingOrdersExist => Conflict "pending_orders_exist",
        /// Unknown.
        #[error("There is no such customer.")]
        NotFound => NotFound "customer_not_found",
        /// The key store failed.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// The decision about a request to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The account is frozen, and its sessions are ended.
    Frozen(Person),
    /// An earlier request has done so.
    Already,
}

/// When the orders of somebody who is to be erased are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// An order that is not over refuses the erasure.
    MustBeOver,
    /// The person was erased before, and an older backup was restored: they are erased whatever their orders are.
    DoNotMatter,
}

/// Freezes the account and ends its sessions, unless an order is not over. Round trips: 2.
///
/// The lock comes first and alone: the second statement sees each order whose placement had the lock before.
pub async fn begin(
    ctx: &mut Context<'_>,
    customer: Uuid,
    orders: Orders,
) -> Result<Begun, ErasureRefusal> {
    if lock(ctx, customer).await?.ok_or(ErasureRefusal::NotFound)? {
        return Ok(Begun::Already);
    }
    let person = Person { customer, anonymized: Uuid::now_v7() };
    let frozen: i64 = sqlx::query_scalar(
        r#"-- erasure: freeze the account
        with frozen as (
            update shop.customer set frozen_at = saga.now()
            where customer_id = $1 and not ($3 and exists (
                select from shop."order" o where o.customer_id = $1
                    and o.status in ('placing', 'pending', 'confirmed', 'shipped')))
            returning customer_id, frozen_at
        ), noted as (
            insert into shop.erasure (customer_id, anonymized_id, requested_at)
            select customer_id, $2, frozen_at from frozen
        ), ended as (
            delete from shop.session where customer_id = (select customer_id from frozen)
        )
        select count(*) from frozen"#,
    )
    .bind(customer)
    .bind(person.anonymized)
    .bind(orders == Orders::MustBeOver)
    .fetch_one(&mut **ctx)
    .await?;
    if frozen == 0 { Err(ErasureRefusal::PendingOrdersExist) } else { Ok(Begun::Frozen(person)) }
}

/// Locks the customer's row, against every command of the customer and every command about an order. Answers whether the account is frozen; `None`: it is
/// unknown. Round trips: 1.
pub async fn lock(tx: &mut PgConnection, customer: Uuid) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "-- erasure: lock the customer
        select frozen_at is not null from shop.customer where customer_id = $1 for update",
    )
    .bind(customer)
    .fetch_optional(tx)
    .await
}

/// Gives an account back whose erasure was called off before its key was destroyed. The customer logs in again. Round trips: 3.
pub async fn thaw(ctx: &mut Context<'_>, person: Person) -> Result<(), ErasureRefusal> {
    let thawed = sqlx::query(
        "-- erasure: give the account back
        with gone as (
            delete from shop.erasure where customer_id = $1 and anonymized_id = $2 and erased_at is null
            returning customer_id
        ), unwatched as (
            -- Sagas of releases before 0085 leave their carts watched when they are called off.
            update shop.cart set is_watched = false where customer_id = (select customer_id from gone)
        )
        update shop.customer set frozen_at = null where customer_id = (select customer_id from gone)",
    )
    .bind(person.customer)
    .bind(person.anonymized)
    .execute(&mut **ctx)
    .await?;
    if thawed.rows_affected() == 1 {
        tax::forget_records(ctx, person.customer).await?;
    }
    ctx.shop.keys.destroy(person.anonymized).await?;
    Ok(())
}

/// The subjects of everything that runs for a customer.
#[derive(Debug, Default)]
pub struct Subjects {
    /// The customer, the cart, the payment methods.
    pub own: Vec<String>,
    /// The orders.
    pub orders: Vec<String>,
}

impl Subjects {
    /// Reads them. Round trips: 1.
    pub async fn of(db: impl PgExecutor<'_>, customer: Uuid) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, bool)> = sqlx::query_as(
            r#"-- erasure: subjects of a customer
            select $1::uuid::text, false
            union all select cart_id::text, false from shop.cart where customer_id = $1
            union all select payment_method_id::text, false from shop.payment_method where customer_id = $1
            union all select order_id::text, true from shop."order" where customer_id = $1"#,
        )
        .bind(customer)
        .fetch_all(db)
        .await?;
        let mut subjects = Self::default();
        for (subject, is_order) in rows {
            if is_order { subjects.orders.push(subject) } else { subjects.own.push(subject) }
        }
        Ok(subjects)
    }

    /// The instances about any of them that have not ended: those about the customer's own things, and those about orders. Round trips: 2.
    pub async fn open(
        &self,
        tx: &mut PgConnection,
    ) -> Result<(Vec<Summary>, Vec<Summary>), sqlx::Error> {
        let own = inspect::open_about_any(tx, &self.own).await?;
        Ok((own, inspect::open_about_any(tx, &self.orders).await?))
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> Vec<String> {
        let Self { mut own, orders } = self;
        own.extend(orders);
        own
    }
}

/// How long ago the erasure was asked for, in seconds of business time. `None`: there is no such erasure. Round trips: 1.
pub async fn age(db: impl PgExecutor<'_>, customer: Uuid) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar(
        "-- erasure: age
        select extract(epoch from saga.now() - requested_at)::float8 from shop.erasure where customer_id = $1",
    )
    .bind(customer)
    .fetch_optional(db)
    .await
}

/// Deletes the payment method that was detached at the gateway, and answers the next one, which counts as removed from now on: if the erasure is called
/// off while the gateway detaches it, the customer must not get it back, because nobody can pay with it. Round trips: 1, or 2.
pub async fn next_method(
    tx: &mut PgConnection,
    customer: Uuid,
    detached: Option<Uuid>,
) -> Result<Option<Uuid>, sqlx::Error> {
    if let Some(detached) = detached {
        sqlx::query(
            "-- erasure: delete a detached method
            delete from shop.payment_method where payment_method_id = $1 and customer_id = $2",
        )
        .bind(detached)
        .bind(customer)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query_scalar(
        "-- erasure: next method
        update shop.payment_method set removed_at = coalesce(removed_at, saga.now())
        where payment_method_id = (
            select payment_method_id from shop.payment_method where customer_id = $1
            order by payment_method_id limit 1)
        returning payment_method_id",
    )
    .bind(customer)
    .fetch_optional(tx)
    .await
}

/// The payment methods of a customer that count as removed and are attached at the gateway. Round trips: 1.
pub async fn removed_and_attached(
    tx: &mut PgConnection,
    customer: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "-- erasure: removed methods that are attached
        select payment_method_id from shop.payment_method
        where customer_id = $1 and removed_at is not null and attachment = 'attached'",
    )
    .bind(customer)
    .fetch_all(tx)
    .await
}

/// The gateway's token of a payment method, also of one that the customer has removed. Round trips: 1.
pub async fn token(pool: &PgPool, method: Uuid) -> Result<Option<MethodToken>, sqlx::Error> {
    let token: Option<Option<String>> = sqlx::query_scalar(
        "-- erasure: token of a method
        select token from shop.payment_method where payment_method_id = $1",
    )
    .bind(method)
    .fetch_optional(pool)
    .await?;
    Ok(token.flatten().map(MethodToken))
}

/// The customer's account at the gateway. `None`: none was opened. Round trips: 1.
pub async fn account(pool: &PgPool, customer: Uuid) -> Result<Option<Reference>, sqlx::Error> {
    let account: Option<String> = sqlx::query_scalar(
        "-- erasure: account at the gateway
        select reference from shop.gateway_customer where customer_id = $1",
    )
    .bind(customer)
    .fetch_optional(pool)
    .await?;
    Ok(account.map(Reference))
}

/// The address to which the customer got mails. Round trips: 1.
pub async fn address(pool: &PgPool, customer: Uuid) -> Result<Option<String>, sqlx::Error> {
    let address: Option<Option<String>> = sqlx::query_scalar(
        "-- erasure: address of mails
        select email from shop.customer where customer_id = $1",
    )
    .bind(customer)
    .fetch_optional(pool)
    .await?;
    Ok(address.flatten())
}

/// An erasure, as its customer and staff see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct ErasureView {
    /// The customer.
    pub customer_id: Uuid,
    /// The id that stands for the customer in orders.
    pub anonymized_id: Uuid,
    /// When everything was deleted.
    pub erased_at: Option<DateTime<Utc>>,
}

/// The erasure of a customer. Round trips: 1.
pub async fn get_erasure(
    connection: &mut PgConnection,
    customer: Uuid,
) -> Result<Option<ErasureView>, sqlx::Error> {
    sqlx::query_as(
        "-- erasure: get
        select customer_id, anonymized_id, erased_at from shop.erasure where customer_id = $1",
    )
    .bind(customer)
    .fetch_optional(connection)
    .await
}
