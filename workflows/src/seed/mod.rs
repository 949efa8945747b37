//! The demo shop that a fresh installation starts with, and the crowd that the benchmark orders for.
//!
//! Everything is written by a handful of statements, and only what is missing: seeding again after a
//! restart changes nothing that is there, except that every demo customer gets a new session.
//! Seeded rows tell no story: they begin with no domain events and no audit.

pub mod bulk;
mod goods;

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    customer::Token,
    privacy::KeyStoreError,
    shop::{
        Shop,
        password::{InvalidPassword, PoolError},
    },
};

/// The password of every demo customer.
pub const DEMO_PASSWORD: &str = "violet tram over nine bridges";

/// The demo customers' payment methods, by the way the sandbox gateway treats them. The gateway's
/// token is `pm_sandbox_` and the name.
pub const DEMO_METHODS: [&str; 9] = [
    "ok",
    "declined",
    "slow",
    "timeoutBefore",
    "timeoutAfter",
    "actsLate",
    "twice",
    "unsupported",
    "challenge",
];

const CUSTOMERS: usize = 50;
const STOCK: i32 = 1_000_000;

/// Everything that a newcomer needs to order in the demo shop.
#[derive(Debug)]
pub struct DemoShop {
    /// Active products with ample stock.
    pub product_ids: Vec<Uuid>,
    /// Verified customers, each with an address and every payment method.
    pub customers: Vec<DemoCustomer>,
}

/// A demo customer.
#[derive(Debug)]
pub struct DemoCustomer {
    /// The customer.
    pub customer_id: Uuid,
    /// For logging in, with [`DEMO_PASSWORD`].
    pub email: String,
    /// Opens a new session.
    pub token: Token,
    /// Where the orders go.
    pub shipping_address_id: Uuid,
    /// One for each of [`DEMO_METHODS`].
    pub payment_methods: BTreeMap<String, Uuid>,
}

/// Why seeding failed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The demo password is not acceptable: a mistake in this module.
    #[error(transparent)]
    Password(#[from] InvalidPassword),
    /// The demo password could not be hashed.
    #[error(transparent)]
    Passwords(#[from] PoolError),
    /// The customers' keys could not be kept.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// A surprise.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Fills the demo shop, in the caller's transaction. 7 round trips, one password hash and one write
/// to the key store; well under a second.
pub async fn demo(shop: &Shop, tx: &mut PgConnection) -> Result<DemoShop, SeedError> {
    goods::write(shop, tx, STOCK).await?;
    let emails: Vec<String> = (1..=CUSTOMERS).map(|n| format!("demo{n:02}@example.com")).collect();
    add_missing_customers(shop, tx, &emails).await?;
    complete_customers(tx, &emails, &shop.config.country).await?;
    let customers = open_sessions(shop, tx, &emails).await?;
    let product_ids = sqlx::query_scalar(
        "-- seed: products
        select product_id from shop.product join shop.inventory i using (product_id)
        where product_id = any($1) and status = 'active' and deleted_at is null
          and on_hand - reserved >= 1000
        order by product_id",
    )
    .bind(goods::product_ids())
    .fetch_all(tx)
    .await?;
    Ok(DemoShop { product_ids, customers })
}

/// Keys first, then rows: a row whose key is missing could not be sealed for.
async fn add_missing_customers(
    shop: &Shop,
    tx: &mut PgConnection,
    emails: &[String],
) -> Result<(), SeedError> {
    let known: Vec<String> = sqlx::query_scalar(
        "-- seed: which customers are there
        select email from shop.customer where email = any($1)",
    )
    .bind(emails)
    .fetch_all(&mut *tx)
    .await?;
    let missing: Vec<&String> = emails.iter().filter(|email| !known.contains(*email)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hash = shop.passwords.accept(DEMO_PASSWORD, &[]).await??;
    let ids: Vec<Uuid> = missing.iter().map(|_| Uuid::now_v7()).collect();
    shop.keys.create_many(&ids).await?;
    let names: Vec<&str> =
        missing.iter().map(|email| email.split('@').next().unwrap_or("demo")).collect();
    sqlx::query(
        "-- seed: customers
        insert into shop.customer (customer_id, email, email_verified_at, password_hash,
                                   first_name, last_name, created_at)
        select c.customer_id, c.email, saga.now(), $3, initcap(c.name), 'Customer', saga.now()
        from unnest($1::uuid[], $2::text[], $4::text[]) as c (customer_id, email, name)
        on conflict on constraint an_email_is_registered_once do nothing",
    )
    .bind(ids)
    .bind(missing.iter().map(|email| email.as_str()).collect::<Vec<_>>())
    .bind(hash)
    .bind(names)
    .execute(tx)
    .await?;
    Ok(())
}

/// An address and every payment method for whoever lacks one.
async fn complete_customers(
    tx: &mut PgConnection,
    emails: &[String],
    country: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- seed: addresses
        insert into shop.shipping_address
            (address_id, customer_id, recipient_name, street, city, state, postal_code, country,
             created_at)
        select e.address_id, c.customer_id, c.first_name || ' ' || c.last_name,
               e.n || ' Market Street', split_part(e.place, '|', 1), split_part(e.place, '|', 2),
               split_part(e.place, '|', 3), $4, saga.now()
        from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality
                 as e (email, address_id, place, n)
        join shop.customer c on c.email = e.email and c.frozen_at is null
        where not exists (select from shop.shipping_address s
                          where s.customer_id = c.customer_id and s.removed_at is null)",
    )
    .bind(emails)
    .bind(emails.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind((0..emails.len()).map(|n| PLACES[n % PLACES.len()]).collect::<Vec<_>>())
    .bind(country)
    .execute(&mut *tx)
    .await?;
    let wanted: Vec<(&String, &str)> =
        emails.iter().flat_map(|email| DEMO_METHODS.map(|method| (email, method))).collect();
    sqlx::query(
        "-- seed: payment methods
        insert into shop.payment_method
            (payment_method_id, customer_id, kind, token, brand, last4, created_at)
        select m.payment_method_id, c.customer_id, 'card', m.token, 'visa', '4242', saga.now()
        from unnest($1::uuid[], $2::text[], $3::text[]) as m (payment_method_id, email, token)
        join shop.customer c on c.email = m.email and c.frozen_at is null
        where not exists (select from shop.payment_method o
                          where o.customer_id = c.customer_id and o.token = m.token
                            and o.removed_at is null)",
    )
    .bind(wanted.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(email, _)| email.as_str()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, method)| format!("pm_sandbox_{method}")).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Cities with their states and ZIP codes.
const PLACES: [&str; 5] = [
    "San Francisco|CA|94103",
    "New York|NY|10001",
    "Austin|TX|78701",
    "Portland|OR|97201",
    "Seattle|WA|98101",
];

async fn open_sessions(
    shop: &Shop,
    tx: &mut PgConnection,
    emails: &[String],
) -> Result<Vec<DemoCustomer>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        customer_id: Uuid,
        email: String,
        shipping_address_id: Uuid,
        names: Vec<String>,
        methods: Vec<Uuid>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "-- seed: who is there
        select c.customer_id, c.email,
               (select address_id from shop.shipping_address a
                where a.customer_id = c.customer_id and a.removed_at is null
                order by address_id limit 1) as shipping_address_id,
               m.names, m.methods
        from shop.customer c, lateral (
            select array_agg(substr(token, 12) order by payment_method_id) as names,
                   array_agg(payment_method_id order by payment_method_id) as methods
            from shop.payment_method
            where customer_id = c.customer_id and removed_at is null
              and token like 'pm\\_sandbox\\_%'
        ) m
        where c.email = any($1) and c.frozen_at is null
        order by c.email",
    )
    .bind(emails)
    .fetch_all(&mut *tx)
    .await?;
    let customers: Vec<DemoCustomer> = rows
        .into_iter()
        .map(|row| DemoCustomer {
            customer_id: row.customer_id,
            email: row.email,
            token: Token::draw(),
            shipping_address_id: row.shipping_address_id,
            payment_methods: row.names.into_iter().zip(row.methods).collect(),
        })
        .collect();
    let sessions = customers.iter().map(|customer| (customer.customer_id, &customer.token));
    write_sessions(shop, tx, sessions).await?;
    Ok(customers)
}

/// Opens a session for each, and forgets the expired ones of everybody.
async fn write_sessions<'a>(
    shop: &Shop,
    tx: &mut PgConnection,
    sessions: impl Iterator<Item = (Uuid, &'a Token)>,
) -> Result<(), sqlx::Error> {
    let (customers, hashes): (Vec<Uuid>, Vec<Vec<u8>>) =
        sessions.map(|(customer, token)| (customer, token.hash())).unzip();
    sqlx::query(
        "-- seed: sessions
        with forgotten as (
            delete from shop.session where expires_at <= saga.now()
        )
        insert into shop.session (token_hash, customer_id, created_at, last_seen_at, expires_at)
        select s.token_hash, s.customer_id, saga.now(), saga.now(),
               saga.now() + make_interval(secs => $3)
        from unnest($1::bytea[], $2::uuid[]) as s (token_hash, customer_id)",
    )
    .bind(hashes)
    .bind(customers)
    .bind(shop.config.session_lifetime.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
