//! The rows about a person: which are deleted, which lose what is personal, which stay, and why.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Person;

/// The effect of an erasure on one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCount {
    /// The table.
    pub store: String,
    /// Rows about the person.
    pub found: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows kept.
    pub kept: u64,
    /// Why rows were kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub basis: Option<String>,
}

/// A statement about the rows of one table. `$1` is the customer, `$2` the anonymized id.
struct Store {
    table: &'static str,
    statement: &'static str,
    /// Why the rows are kept. `None`: the statement deletes them.
    kept_because: Option<&'static str>,
}

/// The legal basis of what stays readable.
const TAX_LAW: &str = "Art. 17(3)(b) GDPR: accounts and invoices, kept for the statutory time; \
     no personal data but what is sealed under the key of the tax records";

/// The row of a customer without the customer.
const COUNTERS: &str = "the counters of events and messages go on; every personal column is empty";

/// In the lock order: customer, cart, order, payment.
const STORES: &[Store] = &[
    Store {
        table: "shop.customer",
        statement: r#"-- erasure: anonymize the customer
        update shop.customer set email = null, email_verified_at = null, password_hash = null, first_name = null, last_name = null
        where customer_id = $1 and $2::uuid is not null"#,
        kept_because: Some(COUNTERS),
    },
    Store {
        table: "shop.session",
        statement: r#"-- erasure: delete sessions
        delete from shop.session where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.verification_token",
        statement: r#"-- erasure: delete verification tokens
        delete from shop.verification_token where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.password_reset",
        statement: r#"-- erasure: delete tokens that reset a password
        delete from shop.password_reset where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.log_in_attempt",
        statement: r#"-- erasure: delete attempts to log in
        delete from shop.log_in_attempt where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.shipping_address",
        statement: r#"-- erasure: delete addresses
        delete from shop.shipping_address where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.cart_item",
        statement: r#"-- erasure: delete items of carts
        with held as materialized (
            select cart_id from shop.cart where customer_id = $1 and $2::uuid is not null for update
        )
        delete from shop.cart_item where cart_id in (select cart_id from held)"#,
        kept_because: None,
    },
    Store {
        table: "shop.cart",
        statement: r#"-- erasure: delete carts
        delete from shop.cart where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.parked_gateway_event",
        statement: r#"-- erasure: delete parked events that have ended
        delete from shop.parked_gateway_event e using shop."order" o
        where o.order_id = e.order_id and o.customer_id = $1 and e.ended_at is not null and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.order",
        statement: r#"-- erasure: anonymize orders
        update shop."order" set customer_id = $2, shipping_address = '', cancel_reason = null where customer_id = $1"#,
        kept_because: Some(TAX_LAW),
    },
    Store {
        table: "shop.payment",
        statement: r#"-- erasure: anonymize payments
        update shop.payment set customer_id = $2 where customer_id = $1"#,
        kept_because: Some(TAX_LAW),
    },
    Store {
        table: "shop.paypal_approval",
        statement: r#"-- erasure: delete approvals at PayPal
        delete from shop.paypal_approval where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.gateway_customer",
        statement: r#"-- erasure: delete the account at the gateway
        delete from shop.gateway_customer where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.payment_method",
        statement: r#"-- erasure: delete payment methods
        delete from shop.payment_method where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    // Last: a command that holds the lock of an order may be about to store its answer.
    Store {
        table: "shop.idempotency",
        statement: r#"-- erasure: delete stored answers
        delete from shop.idempotency where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
    Store {
        table: "shop.customer_export",
        statement: r#"-- erasure: delete notes of exports
        delete from shop.customer_export where customer_id = $1 and $2::uuid is not null"#,
        kept_because: None,
    },
];

/// Deletes and anonymizes everything about the person, and counts it. Round trips: one for each store.
pub async fn erase(tx: &mut PgConnection, person: Person) -> Result<Vec<StoreCount>, sqlx::Error> {
    let mut counts = Vec::with_capacity(STORES.len());
    for store in STORES {
        let done = sqlx::query(store.statement)
            .bind(person.customer)
            .bind(person.anonymized)
            .execute(&mut *tx)
            .await?;
        let found = done.rows_affected();
        let (deleted, kept) = if store.kept_because.is_some() { (0, found) } else { (found, 0) };
        counts.push(StoreCount {
            store: store.table.to_owned(),
            found,
            deleted,
            kept,
            basis: store.kept_because.map(str::to_owned),
        });
    }
    Ok(counts)
}

/// The tables in which personal data is plain.
pub const PLAIN: [&str; 8] = [
    "shop.customer",
    "shop.gateway_customer",
    "shop.password_reset",
    "shop.shipping_address",
    "shop.payment_method",
    "shop.paypal_approval",
    "shop.session",
    "shop.verification_token",
];

/// The search after the deletion. `$1` is the customer.
const LEFT: &str = r#"-- erasure: search for what is left
    select store from (
        select 'shop.customer' as store from shop.customer where customer_id = $1
            and num_nonnulls(email, email_verified_at, password_hash, first_name, last_name) > 0
        union all select 'shop.session' from shop.session where customer_id = $1
        union all select 'shop.verification_token' from shop.verification_token where customer_id = $1
        union all select 'shop.password_reset' from shop.password_reset where customer_id = $1
        union all select 'shop.log_in_attempt' from shop.log_in_attempt where customer_id = $1
        union all select 'shop.shipping_address' from shop.shipping_address where customer_id = $1
        union all select 'shop.gateway_customer' from shop.gateway_customer where customer_id = $1
        union all select 'shop.payment_method' from shop.payment_method where customer_id = $1
        union all select 'shop.paypal_approval' from shop.paypal_approval where customer_id = $1
        union all select 'shop.idempotency' from shop.idempotency where customer_id = $1
        union all select 'shop.customer_export' from shop.customer_export where customer_id = $1
        union all select 'shop.cart' from shop.cart where customer_id = $1
        union all select 'shop.order' from shop."order" where customer_id = $1
        union all select 'shop.payment' from shop.payment where customer_id = $1
    ) found limit 1"#;

/// A table that still has something of the person; `None`: nothing is left. Round trips: 1.
pub async fn left(tx: &mut PgConnection, person: Person) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(LEFT).bind(person.customer).fetch_optional(tx).await
}
