//! A crowd to measure with: many verified customers, many products, carts refilled on demand.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{SeedError, write_sessions};
use crate::{customer::Token, shop::Shop};

/// Customers and products for the benchmark.
#[derive(Debug)]
pub struct Crowd {
    /// Verified customers, each with an address, a method that works, and an empty cart.
    pub customers: Vec<CrowdCustomer>,
    /// Active products, a million of each.
    pub product_ids: Vec<Uuid>,
}

/// One of the crowd. Has no password: it comes with a session.
#[derive(Debug, Clone)]
pub struct CrowdCustomer {
    /// The customer.
    pub customer_id: Uuid,
    /// Opens a session.
    pub token: Token,
    /// Where the orders go.
    pub shipping_address_id: Uuid,
    /// `pm_sandbox_ok`.
    pub payment_method_id: Uuid,
}

/// Writes so many new customers and products, in the caller's transaction. 3 round trips and one
/// write to the key store.
pub async fn crowd(
    shop: &Shop,
    tx: &mut PgConnection,
    customers: usize,
    products: usize,
) -> Result<Crowd, SeedError> {
    let product_ids = write_products(shop, tx, products).await?;
    let customers: Vec<CrowdCustomer> = (0..customers)
        .map(|_| CrowdCustomer {
            customer_id: Uuid::now_v7(),
            token: Token::draw(),
            shipping_address_id: Uuid::now_v7(),
            payment_method_id: Uuid::now_v7(),
        })
        .collect();
    let ids: Vec<Uuid> = customers.iter().map(|customer| customer.customer_id).collect();
    shop.keys.create_many(&ids).await?;
    sqlx::query(
        "-- seed: a crowd
        with person as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
                as p (customer_id, address_id, payment_method_id, cart_id)
        ), customer as (
            insert into shop.customer
                (customer_id, email, email_verified_at, first_name, last_name, created_at)
            select customer_id, 'crowd-' || customer_id || '@example.com', saga.now(), 'Crowd',
                   'Customer', saga.now()
            from person
        ), address as (
            insert into shop.shipping_address
                (address_id, customer_id, recipient_name, street, city, state, postal_code,
                 country, created_at)
            select address_id, customer_id, 'Crowd Customer', '1 Market Street',
                   'San Francisco', 'CA', '94103', $5, saga.now()
            from person
        ), method as (
            insert into shop.payment_method
                (payment_method_id, customer_id, kind, token, brand, last4, created_at)
            select payment_method_id, customer_id, 'card', 'pm_sandbox_ok', 'visa', '4242',
                   saga.now()
            from person
        )
        insert into shop.cart (cart_id, customer_id, last_activity_at, created_at)
        select cart_id, customer_id, saga.now(), saga.now() from person",
    )
    .bind(&ids)
    .bind(customers.iter().map(|customer| customer.shipping_address_id).collect::<Vec<_>>())
    .bind(customers.iter().map(|customer| customer.payment_method_id).collect::<Vec<_>>())
    .bind(customers.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(&shop.config.country)
    .execute(&mut *tx)
    .await?;
    let sessions = customers.iter().map(|customer| (customer.customer_id, &customer.token));
    write_sessions(shop, tx, sessions).await?;
    Ok(Crowd { customers, product_ids })
}

async fn write_products(
    shop: &Shop,
    tx: &mut PgConnection,
    products: usize,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let product_ids: Vec<Uuid> = (0..products).map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "-- seed: goods for a crowd
        with category as (
            insert into shop.category (category_id, name, depth, created_at)
            values ($3, 'Crowd ' || $3, 1, saga.now())
            returning category_id
        ), goods as (
            select g.*, category_id
            from category, unnest($1::uuid[], $2::uuid[]) with ordinality
                as g (product_id, inventory_id, n)
        ), product as (
            insert into shop.product
                (product_id, category_id, name, description, price, currency, status, created_by,
                 created_at, updated_at)
            select product_id, category_id, 'Product ' || n, '', 9.99 + n % 50, $4, 'active', $3,
                   saga.now(), saga.now()
            from goods
        )
        insert into shop.inventory
            (inventory_id, product_id, on_hand, low_stock_threshold, updated_at)
        select inventory_id, product_id, 1000000, $5, saga.now() from goods",
    )
    .bind(&product_ids)
    .bind(product_ids.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(Uuid::now_v7())
    .bind(shop.config.currency.code())
    .bind(shop.config.low_stock_threshold)
    .execute(tx)
    .await?;
    Ok(product_ids)
}

/// Puts `lines` different products, one of each, into every empty cart of these customers from
/// which nothing is being ordered; each cart begins at another product. Answers how many carts were
/// filled. 1 round trip.
pub async fn refill_carts(
    connection: &mut PgConnection,
    customer_ids: &[Uuid],
    product_ids: &[Uuid],
    lines: usize,
) -> Result<u64, sqlx::Error> {
    let lines = lines.min(product_ids.len());
    let (mut ids, mut customers, mut products) = (Vec::new(), Vec::new(), Vec::new());
    for customer in customer_ids {
        let first: usize = rand::random_range(0..product_ids.len().max(1));
        for line in 0..lines {
            ids.push(Uuid::now_v7());
            customers.push(*customer);
            products.push(product_ids[(first + line) % product_ids.len()]);
        }
    }
    let filled: i64 = sqlx::query_scalar(
        "-- seed: refill carts
        with wanted as materialized (
            select w.*, c.cart_id, p.price
            from unnest($1::uuid[], $2::uuid[], $3::uuid[])
                as w (cart_item_id, customer_id, product_id)
            join shop.cart c using (customer_id)
            join shop.product p using (product_id)
            where c.checkout_order_id is null
              and not exists (select from shop.cart_item i
                              where i.cart_id = c.cart_id and i.removed_at is null)
        ), item as (
            insert into shop.cart_item
                (cart_item_id, cart_id, product_id, quantity, unit_price, added_at)
            select cart_item_id, cart_id, product_id, 1, price, saga.now() from wanted
        )
        select count(distinct cart_id) from wanted",
    )
    .bind(ids)
    .bind(customers)
    .bind(products)
    .fetch_one(connection)
    .await?;
    Ok(filled.unsigned_abs())
}
