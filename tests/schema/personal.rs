//! The register of personal data: every column of the shop that can hold text says whether it holds personal data, and under which key.
//!
//! A new column of the types text, bytea, json or jsonb fails this test until it stands here. The page docs/personal-data.md is written from it.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use stepwise_engine::testing::Database;

use Holds::{General, Nothing, Plain, Staff, Tax};

/// The content of a column.
#[derive(Clone, Copy)]
enum Holds {
    /// Personal data of a customer, plain. The row is deleted or the column emptied by the erasure.
    Plain,
    /// Personal data of a customer, sealed under the customer's key.
    General,
    /// Personal data of a customer, sealed under the key that is kept for the statutory time.
    Tax,
    /// Words of the staff or a name of theirs. They are told to write no personal data of customers.
    Staff,
    /// None.
    Nothing,
}

impl Holds {
    fn words(self) -> &'static str {
        match self {
            Plain => "personal, plain: emptied or deleted by the erasure",
            General => "personal, sealed under the customer's key",
            Tax => "personal, sealed under the key of the tax records",
            Staff => "about staff",
            Nothing => "not personal",
        }
    }
}

/// Table, columns, what they hold, for what purpose.
const REGISTER: &[(&str, &[&str], Holds, &str)] = &[
    ("access_key", &["key_hash", "role", "scopes"], Nothing, "access of staff and services"),
    ("access_key", &["name"], Staff, "access of staff and services"),
    ("cart", &["guest_token_hash"], Nothing, "hash of a token"),
    ("category", &["name"], Nothing, "catalogue"),
    ("customer", &["email", "first_name", "last_name"], Plain, "account, contract"),
    ("customer", &["password_hash"], Plain, "log-in"),
    ("customer", &["published_types"], Nothing, "counters"),
    ("domain_event", &["aggregate", "name"], Nothing, "names of the catalogue"),
    (
        "domain_event",
        &["payload"],
        General,
        "record of what happened; personal fields only are sealed",
    ),
    ("domain_event", &["actor"], Nothing, "an id"),
    ("door_secret", &["name", "secret"], Nothing, "secrets of the installation"),
    (
        "erasure_certificate",
        &["previous_hash", "hash", "certificate"],
        Nothing,
        "proof of erasures",
    ),
    ("gateway_customer", &["reference"], Plain, "payments"),
    ("gateway_event_count", &["kind", "last_event_id"], Nothing, "counters"),
    (
        "idempotency",
        &["scope_hash", "operation", "fingerprint", "location", "etag"],
        Nothing,
        "repeated requests",
    ),
    (
        "idempotency",
        &["body"],
        General,
        "repeated requests; deleted after 72 hours or by the erasure",
    ),
    ("inventory_audit", &["change"], Nothing, "stock"),
    ("inventory_audit", &["reason"], Staff, "stock"),
    (
        "log_in_attempt",
        &["scope_hash"],
        Nothing,
        "keyed hashes, which expire, or are deleted with the customer",
    ),
    (
        "order",
        &["order_number", "status", "currency", "failure_reason", "published_types"],
        Nothing,
        "accounts",
    ),
    (
        "order",
        &["tracking_number", "carrier"],
        Nothing,
        "delivery; the carrier's number of a parcel",
    ),
    ("order", &["shipping_address", "cancel_reason"], General, "contract"),
    ("order", &["tax_record"], Tax, "accounts: Art. 17(3)(b) GDPR"),
    ("order_line", &["name"], Nothing, "accounts"),
    ("mail_request", &["scope_hash"], Nothing, "keyed hashes, which expire"),
    ("mail_request", &["asked_at"], Nothing, "times"),
    (
        "parked_gateway_event",
        &["event_id", "why", "kind", "reference", "currency", "verb"],
        Nothing,
        "payments",
    ),
    ("parked_gateway_event", &["verb_by", "verb_reason"], Staff, "payments"),
    (
        "payment",
        &["method", "state", "currency", "authorization_id", "failure_reason"],
        Nothing,
        "accounts",
    ),
    ("password_reset", &["token_hash"], Plain, "log-in; the hash of a token"),
    ("payment_method", &["kind", "attachment"], Nothing, "payments"),
    ("payment_method", &["token", "brand", "last4"], Plain, "payments"),
    (
        "payment_transaction",
        &["kind", "state", "currency", "key", "reference", "reason"],
        Nothing,
        "accounts",
    ),
    ("paypal_approval", &["currency", "state"], Nothing, "payments"),
    ("paypal_approval", &["return_url", "cancel_url"], Plain, "payments"),
    ("product", &["name", "description", "currency", "status"], Nothing, "catalogue"),
    ("product", &["published_types"], Nothing, "counters"),
    ("product_variant", &["name"], Nothing, "catalogue"),
    ("reservation", &["source"], Nothing, "stock"),
    ("rate_bucket", &["name_hash"], Nothing, "keyed hashes, which expire"),
    ("session", &["token_hash"], Plain, "log-in; the hash of a token"),
    ("session", &["agent", "network"], Plain, "log-in; shown to the customer"),
    (
        "shipping_address",
        &["recipient_name", "street", "city", "state", "postal_code", "country"],
        Plain,
        "contract",
    ),
    ("verification_token", &["token_hash"], Plain, "log-in; the hash of a token"),
];

const PAGE: &str = "docs/personal-data.md";

fn page() -> String {
    let mut page = String::from(
        "# Personal data, column by column\n\n\
         The register of processing (Art. 30 GDPR) of the database's part. Written by a test (`STEPWISE_UPDATE=1`), which fails for a new column that can hold \
         text and is not listed. The legal basis of what an account, an order or a payment needs is the contract (Art. 6(1)(b) GDPR), of accounts the law \
         (Art. 6(1)(c)). [ARCHITECTURE.md](ARCHITECTURE.md#where-personal-data-is) has the other places.\n\n\
         The erasure deletes the rows and destroys the customer's key. `stepwise erasure scrub` then writes the plain tables anew. Sealed data is unreadable in every copy \
         from then on. Plain rows are also in the database's write-ahead log and in its backups, until these are rotated: how long you keep them bounds how long an \
         erased customer's plain data exists. Keep neither for more than 30 days.\n\n\
         | table | columns | what they hold | purpose |\n|---|---|---|---|\n",
    );
    for (table, columns, holds, purpose) in REGISTER {
        let columns = columns.join(", ");
        writeln!(page, "| shop.{table} | {columns} | {} | {purpose} |", holds.words())
            .expect("a text");
    }
    page
}

#[tokio::test]
async fn every_column_that_can_hold_text_is_in_the_register_of_personal_data() {
    let migrations =
        [stepwise_engine::migrations::migrations(), stepwise_workflows::migrations::migrations()];
    let db = Database::fresh(&migrations).await;
    let there: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns
         where table_schema = 'shop' and table_name <> '_migrations'
            and data_type in ('text', 'bytea', 'json', 'jsonb', 'ARRAY', 'character varying')",
    )
    .fetch_all(db.pool())
    .await
    .expect("readable");
    db.close().await;
    let there: BTreeSet<(String, String)> = there.into_iter().collect();
    let listed: BTreeSet<(String, String)> = REGISTER
        .iter()
        .flat_map(|(table, columns, ..)| {
            columns.iter().map(|column| ((*table).to_owned(), (*column).to_owned()))
        })
        .collect();
    let unlisted: Vec<_> = there.difference(&listed).collect();
    assert!(
        unlisted.is_empty(),
        "say in tests/schema/personal.rs what these columns hold: {unlisted:?}"
    );
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "these columns are not there any more: {gone:?}");
}

#[test]
fn the_page_of_personal_data_is_the_register() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    if std::env::var_os("STEPWISE_UPDATE").is_some() {
        std::fs::write(&path, page()).expect("written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "{PAGE} is out of date: run this test with STEPWISE_UPDATE=1");
}
