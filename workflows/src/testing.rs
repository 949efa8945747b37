//! Shared by the shop's own tests: a database, doors that need no outside world, a few rows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use async_trait::async_trait;
use rust_decimal::Decimal;
use sqlx::{PgConnection, postgres::PgConnectOptions};
use stepwise_engine::{
    Engine, Transaction,
    database::{Waits, pool},
    testing::Database,
};
use uuid::Uuid;

use crate::{
    money::Money,
    payment::gateway::{
        Attachment, Authorization, Cancellation, Capture, Charge, Confirmation, Creation,
        GatewayError, MadeRefund, MethodToken, PaymentGateway, Reference, Refund, Trouble,
    },
    privacy::{CustomerKey, KeyStore, KeyStoreError},
    shop::{
        Actor, Cause, Context, Shop,
        cause::KeyRole,
        config::Config,
        mail::{Mail, MailError, Mailer},
    },
};

/// A database with the engine's and the shop's tables.
pub(crate) async fn database() -> Database {
    Database::fresh(&[stepwise_engine::migrations::migrations(), crate::migrations::migrations()])
        .await
}

/// A shop by the default decisions, without an outside world.
pub(crate) fn shop() -> Shop {
    let (keys, reactions) = (Arc::new(Keys::default()), crate::reactions::of_event);
    Shop::new(Config::default(), keys, Arc::new(Closed), Arc::new(Closed), reactions)
}

/// The context of a command that the shop itself gives, in that transaction.
pub(crate) fn ctx<'a>(shop: &'a Shop, tx: &'a mut PgConnection) -> Context<'a> {
    ctx_because(shop, tx, &Cause::of_system(Uuid::now_v7()))
}

/// The same by an admin.
pub(crate) fn ctx_by<'a>(shop: &'a Shop, tx: &'a mut PgConnection, admin: Uuid) -> Context<'a> {
    let actor = Actor::Key(KeyRole::Admin, admin);
    ctx_because(shop, tx, &Cause::of_request(actor, Uuid::now_v7(), None))
}

/// The same for a cause. Leaks the engine and what is started: a test is short.
pub(crate) fn ctx_because<'a>(
    shop: &'a Shop,
    tx: &'a mut PgConnection,
    cause: &Cause,
) -> Context<'a> {
    let nowhere = PgConnectOptions::new();
    let pool = pool(nowhere, Waits::USUAL, 1, Duration::from_secs(1));
    static EXPLORED: Once = Once::new();
    EXPLORED.call_once(crate::sagas::explore);
    let known = Arc::new(self::shop());
    let engine: &Engine = Box::leak(Box::new(crate::sagas::engine(&known, pool)));
    let tx = Box::leak(Box::new(Transaction::over(tx)));
    Context::new(shop, engine, tx, cause.clone())
}

/// Keys in memory.
#[derive(Default)]
struct Keys(Mutex<HashMap<Uuid, Option<CustomerKey>>>);

#[async_trait]
impl KeyStore for Keys {
    async fn create_many(&self, customer_ids: &[Uuid]) -> Result<Vec<CustomerKey>, KeyStoreError> {
        let mut keys = self.0.lock().expect("no test panics while it holds the keys");
        let mut key = |id: &Uuid| {
            let key = keys.entry(*id).or_insert_with(|| Some(CustomerKey::random()));
            key.clone().ok_or(KeyStoreError::Destroyed)
        };
        customer_ids.iter().map(&mut key).collect()
    }

    async fn get(&self, customer_id: Uuid) -> Result<Option<CustomerKey>, KeyStoreError> {
        let keys = self.0.lock().expect("no test panics while it holds the keys");
        keys.get(&customer_id).cloned().ok_or(KeyStoreError::Missing(customer_id))
    }

    async fn destroy(&self, customer_id: Uuid) -> Result<bool, KeyStoreError> {
        let mut keys = self.0.lock().expect("no test panics while it holds the keys");
        Ok(keys.insert(customer_id, None).flatten().is_some())
    }
}

/// Nobody is there.
struct Closed;

#[async_trait]
impl Mailer for Closed {
    async fn send(&self, _: &str, _: &Mail) -> Result<(), MailError> {
        Err(MailError::NotDone(std::io::ErrorKind::ConnectionRefused.into()))
    }
}

const UNREACHABLE: GatewayError = GatewayError::NotDone(Trouble::Unreachable);

#[async_trait]
impl PaymentGateway for Closed {
    async fn create(&self, _: &str, _: &Charge) -> Result<Creation, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn confirm(&self, _: &str, _: &Reference) -> Result<Confirmation, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn find(&self, _: &Reference) -> Result<Option<Authorization>, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn find_by_key(&self, _: Uuid, _: &str) -> Result<Option<Authorization>, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn cancel(&self, _: &str, _: &Reference) -> Result<Cancellation, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn find_void(&self, _: &Reference) -> Result<Option<Cancellation>, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn capture(&self, _: &str, _: &Reference, _: Money) -> Result<Capture, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn refund(&self, _: &str, _: &Reference, _: Money) -> Result<Refund, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn find_refund(&self, _: &str, _: &Reference) -> Result<Option<Refund>, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn open_customer(&self, _: &str, _: Uuid) -> Result<Creation, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn attach(
        &self,
        _: &str,
        _: &MethodToken,
        _: &Reference,
    ) -> Result<Attachment, GatewayError> {
        Err(UNREACHABLE)
    }

    async fn detach(&self, _: &str, _: &MethodToken) -> Result<(), GatewayError> {
        Err(UNREACHABLE)
    }

    async fn delete_customer(&self, _: &Reference) -> Result<(), GatewayError> {
        Err(UNREACHABLE)
    }

    async fn refunds(&self, _: &Reference) -> Result<Vec<MadeRefund>, GatewayError> {
        Err(UNREACHABLE)
    }
}

/// Moves the business clock forward, for everybody.
pub(crate) async fn pass(connection: &mut PgConnection, seconds: f64) {
    sqlx::query("-- test: time passes\nupdate saga.clock set offset_by = offset_by + make_interval(secs => $1)")
        .bind(seconds)
        .execute(connection)
        .await
        .expect("the clock moves");
}

/// An active product with so many on hand; its price in cents.
pub(crate) async fn product(connection: &mut PgConnection, cents: i64, on_hand: i32) -> Uuid {
    let (product_id, other) = (Uuid::now_v7(), Uuid::now_v7());
    sqlx::query(
        "-- test: a product
        with category as (
            insert into shop.category (category_id, name, depth, created_at)
            values ($2, $2::text, 1, saga.now())
        ), product as (
            insert into shop.product (product_id, category_id, name, description, price, currency,
                                      status, created_by, created_at, updated_at)
            values ($1, $2, 'Thing', '', $3, 'USD', 'active', $2, saga.now(), saga.now())
        )
        insert into shop.inventory (inventory_id, product_id, on_hand, updated_at)
        values ($2, $1, $4, saga.now())",
    )
    .bind(product_id)
    .bind(other)
    .bind(Decimal::new(cents, 2))
    .bind(on_hand)
    .execute(connection)
    .await
    .expect("the product is written");
    product_id
}

/// An order to which nothing but reservations refer.
pub(crate) async fn order(connection: &mut PgConnection) -> Uuid {
    let order_id = Uuid::now_v7();
    sqlx::query(
        r#"-- test: an order
        insert into shop."order" (order_id, order_number, customer_id, cart_id, payment_id, status,
            item_count, subtotal, shipping_cost, tax, total_amount, currency, shipping_address,
            created_at, updated_at)
        values ($1, $1::text, $1, $1, $1, 'pending', 1, 1, 0, 0, 1, 'USD', '', saga.now(),
            saga.now())"#,
    )
    .bind(order_id)
    .execute(connection)
    .await
    .expect("the order is written");
    order_id
}

/// The quantities on hand, reserved, and held by reservations, of a product without variants.
pub(crate) async fn stock(connection: &mut PgConnection, product_id: Uuid) -> (i32, i32, i64) {
    sqlx::query_as(
        "-- test: stock
        select on_hand, reserved,
               (select coalesce(sum(quantity), 0) from shop.reservation r
                where r.inventory_id = i.inventory_id)
        from shop.inventory i where product_id = $1 and variant_id is null",
    )
    .bind(product_id)
    .fetch_one(connection)
    .await
    .expect("the product has stock")
}

/// The names of an aggregate's events, after checking that their numbers have no gap and that the
/// counter on the aggregate's row is the last of them.
pub(crate) async fn story(connection: &mut PgConnection, aggregate_id: Uuid) -> Vec<String> {
    let events = crate::events::of_aggregate(connection, aggregate_id).await.expect("read");
    for (n, event) in (1..).zip(&events) {
        assert_eq!(event.n, n, "the numbers of {aggregate_id} have a gap");
    }
    let count: Option<i64> = sqlx::query_scalar(
        r#"-- test: counter
        select event_count from (
            select cart_id as id, event_count from shop.cart
            union all select order_id, event_count from shop."order"
            union all select payment_id, event_count from shop.payment
            union all select inventory_id, event_count from shop.inventory
            union all select product_id, event_count from shop.product
            union all select category_id, event_count from shop.category
            union all select customer_id, event_count from shop.customer
        ) aggregate where id = $1"#,
    )
    .bind(aggregate_id)
    .fetch_optional(connection)
    .await
    .expect("read");
    assert_eq!(count, Some(events.len() as i64), "the counter of {aggregate_id}");
    events.into_iter().map(|event| event.name).collect()
}
