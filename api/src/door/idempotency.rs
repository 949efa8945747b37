//! The same request twice has one effect and one answer.
//!
//! The key's lock is tried, never waited for: a twin gets 409 at once instead of occupying a
//! connection. The answer is stored in the transaction of what it answers, so there is no moment
//! at which the effect exists and its answer does not. Only successes are stored.
//!
//! Cost: [`take`] is one round trip (one advisory lock, one primary-key probe), [`store`] is one
//! more (one row inserted, two or three index entries). Neither commits.

use poem::{
    Request, RequestBody,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};
use stepwise_workflows::privacy::{self, CustomerKey, KeyStore, KeyStoreError};
use uuid::Uuid;

use super::problem::{FieldError, Problem};

/// How long an answer is kept.
const KEPT: &str = "72 hours";
/// The longest key, in characters.
const KEY_LIMIT: usize = 255;

/// The `Idempotency-Key` header and the address it was sent to. `REQUIRED` says whether a request
/// without it is refused (money and stock).
#[derive(Debug, Clone)]
pub struct Key<const REQUIRED: bool> {
    /// The key, if one was sent.
    pub key: Option<String>,
    /// The request's path: part of what "the same request" means.
    pub path: String,
}

/// A key that must be there.
pub type RequiredKey = Key<true>;
/// A key that may be there.
pub type OptionalKey = Key<false>;

impl<'a, const REQUIRED: bool> ApiExtractor<'a> for Key<REQUIRED> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = REQUIRED;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("Repeating a request under the same key repeats only its answer."),
            min_length: Some(1),
            max_length: Some(KEY_LIMIT),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let mut sent = request.headers().get_all("idempotency-key").iter();
        let key = match (sent.next(), sent.next()) {
            (None, _) if REQUIRED => {
                return Err(Problem::bad_request(
                    "idempotency_key_required",
                    "This operation needs an Idempotency-Key header: any text of your own, new \
                     for each new request and the same for each repetition.",
                )
                .into());
            }
            (None, _) => None,
            (Some(one), None) => Some(read_key(one)?),
            (Some(_), Some(_)) => return Err(invalid_key().into()),
        };
        Ok(Self { key, path: request.original_uri().path().to_owned() })
    }
}

/// Accepts the structured-field string of the IETF draft (`"abc"`) and the bare text of practice.
fn read_key(sent: &HeaderValue) -> Result<String, Problem> {
    let text = sent.to_str().map_err(|_| invalid_key())?.trim();
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let printable = bare.bytes().all(|b| (0x20..0x7f).contains(&b));
    if bare.is_empty() || bare.len() > KEY_LIMIT || !printable {
        return Err(invalid_key());
    }
    Ok(bare.to_owned())
}

fn invalid_key() -> Problem {
    Problem::bad_request(
        "invalid_idempotency_key",
        "The Idempotency-Key must be one header of 1 to 255 printable ASCII characters.",
    )
    .with_errors(vec![FieldError::new("", "invalid_idempotency_key", "See the header.")])
}

/// What a key stands for: one caller, one operation, one key, one request.
#[derive(Debug, Clone)]
pub struct Scope {
    operation: &'static str,
    hash: [u8; 32],
    fingerprint: [u8; 32],
}

impl Scope {
    /// The scope of `key`, sent by `caller` for `operation` with this path and body.
    pub fn new(
        caller: &str,
        operation: &'static str,
        key: &str,
        path: &str,
        body: &[u8; 32],
    ) -> Self {
        // Each part is preceded by its length, so that no two triples run into one another.
        let mut hash = Sha256::new();
        for part in [caller, operation, key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let fingerprint = Sha256::new().chain_update(path).chain_update(body).finalize();
        Self { operation, hash: hash.finalize().into(), fingerprint: fingerprint.into() }
    }

    /// The advisory lock's number.
    fn lock_id(&self) -> i64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.hash[..8]);
        i64::from_be_bytes(first)
    }
}

/// An answer as it is kept.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<String>,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// JSON, sealed or not.
    pub body: Vec<u8>,
    /// Whose personal data the body may hold: it is then kept sealed under their key.
    pub customer_id: Option<Uuid>,
}

/// What the sealed body of an answer is bound to.
const FIELD: &str = "idempotency.body";

/// The answer as it is stored: sealed if it is about a customer.
pub async fn seal(keys: &dyn KeyStore, answer: &Answer) -> Result<Answer, Problem> {
    let mut kept = answer.clone();
    if let Some((customer_id, key)) = key_for(keys, answer).await? {
        kept.body = privacy::seal(&key, customer_id, FIELD, &answer.body).into_bytes();
    }
    Ok(kept)
}

/// The answer as it was sent.
pub async fn unseal(keys: &dyn KeyStore, mut kept: Answer) -> Result<Answer, Problem> {
    if let Some((customer_id, key)) = key_for(keys, &kept).await? {
        let sealed = String::from_utf8_lossy(&kept.body);
        kept.body = privacy::open(&key, customer_id, FIELD, &sealed).map_err(|error| {
            tracing::error!(%error, "a kept answer does not open");
            Problem::internal()
        })?;
    }
    Ok(kept)
}

/// 404 for an erased customer: their key is gone, and with it what was kept.
async fn key_for(
    keys: &dyn KeyStore,
    answer: &Answer,
) -> Result<Option<(Uuid, CustomerKey)>, Problem> {
    let Some(customer_id) = answer.customer_id else { return Ok(None) };
    let key = keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    Ok(Some((customer_id, key)))
}

/// Locks the key for this transaction. `None`: go ahead. `Some`: this was the answer.
///
/// # Errors
/// 409 `request_in_flight` while a twin runs, 422 `idempotency_key_reused` for another request.
pub async fn take(tx: &mut PgConnection, scope: &Scope) -> Result<Option<Answer>, Problem> {
    let row = sqlx::query(
        "-- idempotency_take
        select scope_hash, customer_id, fingerprint, status, location, etag, body
        from shop.take_idempotency_key($1, $2, $3::text::interval)",
    )
    .bind(scope.lock_id())
    .bind(&scope.hash[..])
    .bind(KEPT)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else {
        return Err(Problem::conflict(
            "request_in_flight",
            "The first request with this Idempotency-Key is still running.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")));
    };
    if row.try_get::<Option<Vec<u8>>, _>("scope_hash")?.is_none() {
        return Ok(None);
    }
    if row.try_get::<Vec<u8>, _>("fingerprint")? != scope.fingerprint {
        return Err(Problem::unprocessable(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; take a new key.",
        ));
    }
    Ok(Some(Answer {
        status: u16::try_from(row.try_get::<i16, _>("status")?).unwrap_or(200),
        location: row.try_get("location")?,
        etag: row.try_get("etag")?,
        body: row.try_get("body")?,
        customer_id: row.try_get("customer_id")?,
    }))
}

/// Keeps the answer, in the transaction of its effect. An expired one under the same key gives way.
pub async fn store(tx: &mut PgConnection, scope: &Scope, answer: &Answer) -> Result<(), Problem> {
    sqlx::query(
        "-- idempotency_store
        insert into shop.idempotency
            (scope_hash, operation, customer_id, fingerprint, status, location, etag, body)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (scope_hash) do update set
            customer_id = excluded.customer_id, fingerprint = excluded.fingerprint,
            status = excluded.status, location = excluded.location, etag = excluded.etag,
            body = excluded.body, created_at = excluded.created_at",
    )
    .bind(&scope.hash[..])
    .bind(scope.operation)
    .bind(answer.customer_id)
    .bind(&scope.fingerprint[..])
    .bind(i16::try_from(answer.status).unwrap_or(200))
    .bind(&answer.location)
    .bind(&answer.etag)
    .bind(&answer.body)
    .execute(tx)
    .await?;
    Ok(())
}

/// Drops answers that are past their time, at most 1,000 in one go.
pub async fn purge(db: &sqlx::PgPool) -> Result<u64, sqlx::Error> {
    let purged = sqlx::query(
        "-- idempotency_purge
        delete from shop.idempotency where scope_hash in (
            select scope_hash from shop.idempotency
            where created_at <= saga.now() - $1::text::interval
            order by created_at limit 1000 for update skip locked)",
    )
    .bind(KEPT)
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}
