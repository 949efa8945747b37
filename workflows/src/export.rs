//! exportCustomerData: everything that the shop holds of a customer, in one document.
//!
//! The rows come from the tables as they are, without hashes and tokens; what is sealed is opened. The number of orders and events is bounded, and the
//! document says so if there are more: the lists of orders have the rest.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    cloud_event::{EnvelopeError, opened},
    order::{OrderFilter, OrderView, ReadOrderError, list_orders},
    privacy::{CustomerKey, KeyStoreError},
    refusal::refusals,
    shop::Context,
};

/// The most orders of one document.
const ORDERS: i64 = 2_000;
/// The most events of one document.
const EVENTS: i64 = 10_000;

refusals! {
    /// Why nothing is exported.
    #[derive(Debug, thiserror::Error)]
    pub enum ExportRefusal {
        /// Unknown, or being erased.
        #[error("There is no such customer.")]
        NotFound => NotFound "customer_not_found",
        /// The orders cannot be read.
        #[error(transparent)]
        Orders(#[from] ReadOrderError),
        /// The customer's key cannot be had.
        #[error(transparent)]
        Keys(#[from] KeyStoreError),
        /// A surprise.
        #[error(transparent)]
        Database(#[from] sqlx::Error),
    }
}

/// Everything about a customer.
#[derive(Debug)]
pub struct Export {
    /// When it was put together.
    pub exported_at: DateTime<Utc>,
    /// The account.
    pub customer: Value,
    /// Addresses, also removed ones that are kept still.
    pub addresses: Vec<Value>,
    /// Payment methods, also removed ones that are kept still. Without the gateway's tokens.
    pub payment_methods: Vec<Value>,
    /// Carts with their items.
    pub carts: Vec<Value>,
    /// Orders, newest first.
    pub orders: Vec<OrderView>,
    /// Events about the customer, the carts, the orders and the payments, oldest first.
    pub events: Vec<Value>,
    /// The times of open sessions.
    pub sessions: Vec<Value>,
    /// The times of attempts to log in, by network or device: these are kept as keyed hashes, which say nothing.
    pub log_in_attempts: Vec<Value>,
    /// Earlier exports.
    pub exports: Vec<Value>,
    /// Whether all orders and events are in it.
    pub is_complete: bool,
}

/// Reads everything, and notes that it was exported. Round trips: 5, and one more while money of an order moves.
pub async fn export_customer_data(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
) -> Result<Export, ExportRefusal> {
    let exported_at = ctx.now().await?;
    let (customer, addresses, payment_methods, carts, sessions, log_in_attempts, exports) =
        own(ctx, customer_id).await?;
    let customer = customer.ok_or(ExportRefusal::NotFound)?;
    let key = ctx.shop.keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    let theirs = OrderFilter { customer_id: Some(customer_id), ..OrderFilter::default() };
    let orders = list_orders(ctx.shop, ctx, theirs, None, ORDERS + 1).await?;
    let events = events(ctx, customer_id).await?;
    let is_complete = (orders.len() as i64) <= ORDERS && (events.len() as i64) <= EVENTS;
    let events = events
        .into_iter()
        .take(EVENTS as usize)
        .map(|event| open(&key, customer_id, &event))
        .collect::<Result<_, _>>()?;
    sqlx::query(
        "-- export: note it
        with forgotten as (
            delete from shop.customer_export where customer_id = $1 and exported_at < (
                select exported_at from shop.customer_export where customer_id = $1
                order by exported_at desc offset 998 limit 1)
        )
        insert into shop.customer_export (customer_id, exported_at, request_id) values ($1, $2, $3)
        on conflict do nothing",
    )
    .bind(customer_id)
    .bind(exported_at)
    .bind(ctx.cause.correlation)
    .execute(&mut **ctx)
    .await?;
    let orders = orders.into_iter().take(ORDERS as usize).collect();
    Ok(Export {
        exported_at,
        customer,
        addresses: addresses.0,
        payment_methods: payment_methods.0,
        carts: carts.0,
        orders,
        events,
        sessions: sessions.0,
        log_in_attempts: log_in_attempts.0,
        exports: exports.0,
        is_complete,
    })
}

/// A field that does not open is a surprise.
fn open(key: &CustomerKey, customer_id: Uuid, event: &Value) -> Result<Value, ExportRefusal> {
    opened(key, customer_id, "event", event).map_err(|error| match error {
        EnvelopeError::Keys(error) => error.into(),
        error => sqlx::Error::Decode(Box::new(error)).into(),
    })
}

type Rows = sqlx::types::Json<Vec<Value>>;

/// The rows of the customer's own tables; the first is `None` if the account is unknown or frozen. The lock keeps an erasure out. 1 round trip.
async fn own(
    ctx: &mut Context<'_>,
    customer_id: Uuid,
) -> Result<(Option<Value>, Rows, Rows, Rows, Rows, Rows, Rows), sqlx::Error> {
    let rows = sqlx::query_as(
        r#"-- export: own tables
        with owner as materialized (
            select customer_id, email, email_verified_at, first_name, last_name, created_at
            from shop.customer where customer_id = $1 and frozen_at is null for share
        )
        select jsonb_build_object('id', customer_id, 'email', email, 'emailVerifiedAt', email_verified_at,
                'firstName', first_name, 'lastName', last_name, 'createdAt', created_at,
                'gatewayCustomer', (select reference from shop.gateway_customer g where g.customer_id = $1)),
            (select coalesce(jsonb_agg(jsonb_build_object('id', address_id, 'recipientName', recipient_name,
                'street', street, 'city', city, 'state', state, 'postalCode', postal_code, 'country', country,
                'createdAt', created_at, 'removedAt', removed_at) order by address_id), '[]')
             from shop.shipping_address a where a.customer_id = $1),
            (select coalesce(jsonb_agg(jsonb_build_object('id', payment_method_id, 'kind', kind,
                'brand', brand, 'last4', last4, 'createdAt', m.created_at, 'removedAt', removed_at, 'attachment', attachment,
                'approval', case when p.payment_method_id is not null then jsonb_build_object('state', p.state,
                    'amount', p.amount::text, 'currency', p.currency, 'returnUrl', p.return_url,
                    'cancelUrl', p.cancel_url, 'expiresAt', p.expires_at) end) order by payment_method_id), '[]')
             from shop.payment_method m left join shop.paypal_approval p using (payment_method_id)
             where m.customer_id = $1),
            (select coalesce(jsonb_agg(jsonb_build_object('id', c.cart_id, 'lastActivityAt', c.last_activity_at,
                'createdAt', c.created_at, 'items', (
                    select coalesce(jsonb_agg(jsonb_build_object('id', i.cart_item_id, 'productId', i.product_id,
                        'variantId', i.variant_id, 'quantity', i.quantity, 'unitPrice', i.unit_price::text,
                        'addedAt', i.added_at, 'removedAt', i.removed_at) order by i.cart_item_id), '[]')
                    from shop.cart_item i where i.cart_id = c.cart_id)) order by c.cart_id), '[]')
             from shop.cart c where c.customer_id = $1),
            (select coalesce(jsonb_agg(jsonb_build_object('createdAt', s.created_at, 'lastSeenAt', s.last_seen_at,
                'expiresAt', s.expires_at, 'agent', s.agent, 'network', s.network) order by s.created_at), '[]')
             from shop.session s where s.customer_id = $1),
            (select coalesce(jsonb_agg(jsonb_build_object('tries', l.tries, 'lastAt', l.last_at, 'succeededAt', l.succeeded_at)
                order by l.last_at), '[]')
             from shop.log_in_attempt l where l.customer_id = $1),
            (select coalesce(jsonb_agg(jsonb_build_object('exportedAt', e.exported_at, 'requestId', e.request_id)
                order by e.exported_at), '[]')
             from (select * from shop.customer_export where customer_id = $1 order by exported_at desc limit 1000) e)
        from owner"#,
    )
    .bind(customer_id)
    .fetch_optional(&mut **ctx)
    .await?;
    let none = || sqlx::types::Json(Vec::new());
    Ok(rows.unwrap_or_else(|| (None, none(), none(), none(), none(), none(), none())))
}

/// The events, sealed. 1 round trip.
async fn events(ctx: &mut Context<'_>, customer_id: Uuid) -> Result<Vec<Value>, sqlx::Error> {
    sqlx::query_scalar(
        r#"-- export: events
        with about as materialized (
            select $1::uuid as id
            union all select cart_id from shop.cart where customer_id = $1
            union all select order_id from shop."order" where customer_id = $1
            union all select p.payment_id from shop."order" o join shop.payment p using (order_id)
                where o.customer_id = $1
        )
        select jsonb_build_object('at', e.recorded_at, 'event', e.name, 'aggregate', e.aggregate,
            'aggregateId', e.aggregate_id, 'payload', e.payload)
        from about a join shop.domain_event e on e.aggregate_id = a.id
        order by e.recorded_at, e.event_id limit $2"#,
    )
    .bind(customer_id)
    .bind(EVENTS + 1)
    .fetch_all(&mut **ctx)
    .await
}
