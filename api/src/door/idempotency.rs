//! Idempotency keys: a request that is sent twice has one effect and one answer.
//!
//! A request does not wait for the key's lock: if the first request still runs, the second one gets 409 at once
//! instead of occupying a connection. One that prefers to wait (`Prefer: wait=N`) asks for the lock again now and then, and holds no connection meanwhile. The answer is stored in the same transaction as the effect, so neither
//! exists without the other. Only successful answers are stored.
//!
//! Cost, for however many requests: [`take_all`] is one round trip (for each request one advisory lock and one primary-key probe), [`store_all`] is
//! one more (for each request one row inserted, two or three index entries). Neither commits.

use std::time::Duration;

use poem::{
    Request, RequestBody,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row, postgres::PgRow};
use stepwise_workflows::{
    privacy::{self, CustomerKey, KeyStore, KeyStoreError},
    shop::{Actor, Context},
};
use uuid::Uuid;

use super::{
    incoming::Incoming,
    prefer::Prefer,
    problem::{FieldError, Problem},
};

/// How long an answer is kept.
const KEPT: &str = "72 hours";
/// The code of a request whose key another request is using at the moment.
pub const IN_FLIGHT: &str = "request_in_flight";
/// The longest key, in characters.
const KEY_LIMIT: usize = 255;

/// The `Idempotency-Key` header and the path of its request. If `REQUIRED`, a request without the header
/// is refused (operations on money and stock).
#[derive(Debug, Clone)]
pub struct Key<const REQUIRED: bool> {
    /// The key, if one was sent.
    pub key: Option<String>,
    /// The request's path. Two requests with different paths are different requests.
    pub path: String,
    /// The part of the cause that the request brings along.
    pub incoming: Incoming,
    /// How long the client is willing to wait for the first request with this key.
    pub wait: Duration,
}

/// A key that the request must have.
pub type RequiredKey = Key<true>;
/// A key that the request may have.
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
            description: Some(
                "A request that is repeated with the same key returns the first answer and has no further effect. While the first one \
                 still runs, a repetition gets 409 `request_in_flight`; with `Prefer: wait=N` it waits.",
            ),
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
                    "This operation needs an Idempotency-Key header: any text of your choice, new \
                     for each new request and the same for each repetition.",
                )
                .into());
            }
            (None, _) => None,
            (Some(one), None) => Some(read_key(one)?),
            (Some(_), Some(_)) => return Err(invalid_key().into()),
        };
        let path = request.original_uri().path().to_owned();
        let wait = Prefer::of(request).0;
        Ok(Self { key, path, incoming: Incoming::of(request), wait })
    }
}

/// Reads a key. Accepts both the structured-field string of the IETF draft (`"abc"`) and the bare text that clients commonly send.
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

/// The identity of a request: its caller, operation and key, and the fingerprint of its path and body.
#[derive(Debug, Clone)]
pub struct Scope {
    operation: &'static str,
    hash: [u8; 32],
    fingerprint: [u8; 32],
    /// The fingerprint without a key, as earlier releases stored it.
    unkeyed: [u8; 32],
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
        // Each part is preceded by its length, so that different triples cannot have the same text.
        let mut hash = Sha256::new();
        for part in [caller, operation, key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let unkeyed = Sha256::new().chain_update(path).chain_update(body).finalize().into();
        Self { operation, hash: hash.finalize().into(), fingerprint: unkeyed, unkeyed }
    }

    /// The same scope, whose fingerprint only the processes of this installation can compute. A plain hash would tell whoever reads the
    /// table whether a guessed body is right, such as an email address. Processes of earlier releases, which may run beside this one, do not know it: they
    /// refuse a repeated request. So it is not for commands that move money or stock.
    #[must_use]
    pub fn keyed(self, secret: &[u8]) -> Self {
        let mut hash = Sha256::new_with_prefix(b"idempotency");
        for part in [secret, &self.unkeyed] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { fingerprint: hash.finalize().into(), ..self }
    }

    /// Whether an answer with this fingerprint is the answer to this request. An earlier release may have stored it.
    fn is_of(&self, stored: &[u8]) -> bool {
        stored == self.fingerprint || stored == self.unkeyed
    }

    /// The same for the requests with the same caller, operation and key, whatever their bodies are.
    pub fn id(&self) -> [u8; 32] {
        self.hash
    }

    /// The salt for hashing the request's password: it depends on caller, operation and key only.
    pub fn salt(&self) -> [u8; 32] {
        self.hash
    }

    /// The advisory lock's number.
    fn lock_id(&self) -> i64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.hash[..8]);
        i64::from_be_bytes(first)
    }
}

/// A stored answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<String>,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The JSON body, sealed or not.
    pub body: Vec<u8>,
    /// The customer whose personal data the body may contain. Such a body is stored sealed with the customer's key.
    pub customer_id: Option<Uuid>,
}

impl Answer {
    /// The answer as it is stored for this caller. If it names no customer and the caller is one, it is the caller's: it is sealed under
    /// their key, and deleted when they are erased. A guest has no key and has given no personal data, so a guest's answer belongs to nobody.
    #[must_use]
    pub fn owned_by(self, caller: &Actor) -> Self {
        let caller = match caller {
            Actor::Customer(id) => Some(*id),
            Actor::Guest(_) | Actor::Key(..) | Actor::Anyone | Actor::System => None,
        };
        Self { customer_id: self.customer_id.or(caller), ..self }
    }
}

/// The field name that a sealed body is bound to.
const FIELD: &str = "idempotency.body";

/// Turns an answer into its stored form: the body is sealed if it belongs to a customer.
pub async fn seal(keys: &dyn KeyStore, mut kept: Answer) -> Result<Answer, Problem> {
    if let Some((customer_id, key)) = key_for(keys, &kept).await? {
        kept.body = privacy::seal(&key, customer_id, FIELD, &kept.body).into_bytes();
    }
    Ok(kept)
}

/// Turns a stored answer into its original form.
pub async fn unseal(keys: &dyn KeyStore, mut kept: Answer) -> Result<Answer, Problem> {
    if let Some((customer_id, key)) = key_for(keys, &kept).await? {
        let sealed = String::from_utf8_lossy(&kept.body);
        kept.body = privacy::open(&key, customer_id, FIELD, &sealed).map_err(|error| {
            tracing::error!(%error, "a stored answer cannot be decrypted");
            Problem::internal()
        })?;
    }
    Ok(kept)
}

/// The key of the answer's customer. `None` for an answer of nobody, and for one without a body, which has nothing to seal: such commands, as the end of a
/// session, do not need the key store. 404 if the customer was erased: the key is destroyed, so the stored answer cannot be read.
async fn key_for(
    keys: &dyn KeyStore,
    answer: &Answer,
) -> Result<Option<(Uuid, CustomerKey)>, Problem> {
    let Some(customer_id) = answer.customer_id.filter(|_| !answer.body.is_empty()) else {
        return Ok(None);
    };
    let key = keys.get(customer_id).await?.ok_or(KeyStoreError::Destroyed)?;
    Ok(Some((customer_id, key)))
}

/// Locks the key for this transaction, and returns the stored answer if there is one: [`take_all`] for one request.
///
/// # Errors
/// As of [`take_all`].
pub async fn take(ctx: &mut Context<'_>, scope: &Scope) -> Result<Option<Answer>, Problem> {
    take_all(ctx, &[scope]).await?.pop().unwrap_or_else(|| Err(Problem::internal()))
}

/// Locks the keys for this transaction, and returns for each of them, in this order, the stored answer if there is one. The same statement tells the
/// context business time. The keys must differ: a transaction does not see that it has a lock already.
///
/// # Errors
/// The database's. For one key: 409 [`IN_FLIGHT`] while another request with this key runs, 422 `idempotency_key_reused` if the key was used for
/// another request.
pub async fn take_all(
    ctx: &mut Context<'_>,
    scopes: &[&Scope],
) -> Result<Vec<Result<Option<Answer>, Problem>>, Problem> {
    // Without a row of the function, another transaction holds the lock. A row of nulls: nothing was answered yet.
    let rows = sqlx::query(
        "-- idempotency_take
        select taken.is_free is not null as is_free, taken.scope_hash, taken.customer_id,
               taken.fingerprint, taken.status, taken.location, taken.etag, taken.body,
               saga.now() as now
        from unnest($1::bigint[], $2::bytea[]) with ordinality as asked (lock_id, scope_hash, n)
        left join lateral (
            select true as is_free, answered.*
            from shop.take_idempotency_key(asked.lock_id, asked.scope_hash, $3::text::interval)
                as answered
        ) taken on true
        order by asked.n",
    )
    .bind(scopes.iter().map(|scope| scope.lock_id()).collect::<Vec<_>>())
    .bind(scopes.iter().map(|scope| &scope.hash[..]).collect::<Vec<_>>())
    .bind(KEPT)
    .fetch_all(&mut **ctx)
    .await?;
    if let Some(row) = rows.first() {
        ctx.learn_now(row.try_get("now")?);
    }
    let taken = scopes.iter().zip(&rows).map(|(scope, row)| answered(scope, row));
    Ok(taken.collect::<Result<_, sqlx::Error>>()?)
}

/// The stored answer in a row of [`take_all`].
fn answered(scope: &Scope, row: &PgRow) -> Result<Result<Option<Answer>, Problem>, sqlx::Error> {
    if !row.try_get::<bool, _>("is_free")? {
        return Ok(Err(Problem::conflict(
            IN_FLIGHT,
            "The first request with this Idempotency-Key is still running.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))));
    }
    if row.try_get::<Option<Vec<u8>>, _>("scope_hash")?.is_none() {
        return Ok(Ok(None));
    }
    if !scope.is_of(&row.try_get::<Vec<u8>, _>("fingerprint")?) {
        return Ok(Err(Problem::unprocessable(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; use a new key.",
        )));
    }
    Ok(Ok(Some(Answer {
        status: u16::try_from(row.try_get::<i16, _>("status")?).unwrap_or(200),
        location: row.try_get("location")?,
        etag: row.try_get("etag")?,
        body: row.try_get("body")?,
        customer_id: row.try_get("customer_id")?,
    })))
}

/// Whether an answer is stored under the key, perhaps one that has expired. Takes no lock.
pub async fn is_stored(db: &PgPool, scope: &Scope) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- idempotency_is_stored
        select exists (select from shop.idempotency where scope_hash = $1)",
    )
    .bind(&scope.hash[..])
    .fetch_one(db)
    .await
}

/// Stores the answer in the transaction of its effect: [`store_all`] for one request.
pub async fn store(ctx: &mut Context<'_>, scope: &Scope, answer: &Answer) -> Result<(), Problem> {
    store_all(ctx, &[(scope, answer)]).await
}

/// Stores the answers in the transaction of their effects. Replaces expired answers of the same keys. The keys must differ.
pub async fn store_all(
    ctx: &mut Context<'_>,
    answers: &[(&Scope, &Answer)],
) -> Result<(), Problem> {
    let now = ctx.now().await?;
    let status = |answer: &Answer| i16::try_from(answer.status).unwrap_or(200);
    sqlx::query(
        "-- idempotency_store
        insert into shop.idempotency
            (scope_hash, operation, customer_id, fingerprint, status, location, etag, body,
             created_at)
        select a.*, $9
        from unnest($1::bytea[], $2::text[], $3::uuid[], $4::bytea[], $5::smallint[], $6::text[],
                    $7::text[], $8::bytea[]) as a
        on conflict (scope_hash) do update set
            customer_id = excluded.customer_id, fingerprint = excluded.fingerprint,
            status = excluded.status, location = excluded.location, etag = excluded.etag,
            body = excluded.body, created_at = excluded.created_at",
    )
    .bind(answers.iter().map(|(scope, _)| &scope.hash[..]).collect::<Vec<_>>())
    .bind(answers.iter().map(|(scope, _)| scope.operation).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, answer)| answer.customer_id).collect::<Vec<_>>())
    .bind(answers.iter().map(|(scope, _)| &scope.fingerprint[..]).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, answer)| status(answer)).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, answer)| answer.location.as_deref()).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, answer)| answer.etag.as_deref()).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, answer)| &answer.body[..]).collect::<Vec<_>>())
    .bind(now)
    .execute(&mut **ctx)
    .await?;
    Ok(())
}
