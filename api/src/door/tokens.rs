//! Whom a token belongs to, and new keys for who is not a customer.
//!
//! Only hashes are stored and compared. A lookup is believed for one second, on every process, so
//! a revoked token is dead a second later.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row, postgres::PgRow};
use stepwise_engine::database::{self, Condition, in_time};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    caller::{Caller, Role, unauthorized},
    problem::Problem,
};

/// How long a looked-up token is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// The most tokens remembered at once.
const REMEMBERED: usize = 50_000;

/// SHA-256 of a token: all that is ever stored or compared.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What a lookup found.
#[derive(Debug, Clone)]
enum Found {
    Valid(Caller),
    Expired,
    Unknown,
}

type Asked = ([u8; 32], oneshot::Sender<Result<Found, Problem>>);

/// Looks tokens up, and remembers for a second. Lookups that meet while one is under way are asked
/// together, in one round trip.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: PgPool,
    environment: String,
    /// Seconds without a request after which a session is over.
    idle_s: i64,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Found)>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    asked: Vec<Asked>,
    /// Somebody is asking, and will ask for these as well.
    under_way: bool,
}

impl Callers {
    /// Service keys of another environment than this one are unknown here; a session is over after
    /// `idle` without a request.
    pub fn new(db: PgPool, environment: impl Into<String>, idle: Duration) -> Self {
        Self(Arc::new(Inner {
            db,
            environment: environment.into(),
            idle_s: i64::try_from(idle.as_secs()).unwrap_or(i64::MAX),
            remembered: Mutex::default(),
            waiting: Mutex::default(),
        }))
    }

    /// Who holds `token`. At most one round trip, shared with whoever asks at the same time; none
    /// if the token was seen in the last second.
    pub async fn look_up(&self, token: &str) -> Result<Caller, Problem> {
        let invalid = || unauthorized("token_invalid", "The token is not known here.");
        if let Some(rest) = token.strip_prefix("sk_")
            && rest.split('_').next() != Some(self.0.environment.as_str())
        {
            return Err(invalid());
        }
        let hash = token_hash(token);
        let found = match self.0.recall(&hash) {
            Some(found) => found,
            None => self.ask(hash).await?,
        };
        match found {
            Found::Valid(caller) => Ok(caller),
            Found::Expired => Err(unauthorized("token_expired", "The token has expired.")),
            Found::Unknown => Err(invalid()),
        }
    }

    /// Forgets a token at once: its session was ended in this process.
    pub fn forget(&self, hash: &[u8; 32]) {
        locked(&self.0.remembered).remove(hash);
    }

    async fn ask(&self, hash: [u8; 32]) -> Result<Found, Problem> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = locked(&self.0.waiting);
            waiting.asked.push((hash, answer));
            !std::mem::replace(&mut waiting.under_way, true)
        };
        if first {
            // A task of its own: the request that happens to be first may be given up.
            tokio::spawn(Arc::clone(&self.0).ask_all());
        }
        answered.await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

impl Inner {
    async fn ask_all(self: Arc<Self>) {
        loop {
            let asked = {
                let mut waiting = locked(&self.waiting);
                if waiting.asked.is_empty() {
                    waiting.under_way = false;
                    return;
                }
                std::mem::take(&mut waiting.asked)
            };
            let hashes: Vec<Vec<u8>> = asked.iter().map(|(hash, _)| hash.to_vec()).collect();
            let found = self.find(&hashes).await.map_err(Problem::from);
            for (hash, answer) in asked {
                let found = found.as_ref().map_err(Clone::clone).map(|found| {
                    let found = found.get(&hash).cloned().unwrap_or(Found::Unknown);
                    self.remember(hash, found.clone());
                    found
                });
                // Whoever asked may be gone.
                drop(answer.send(found));
            }
        }
    }

    /// Everybody's request waits for this: it has a limit, and a connection that was lost is no reason to turn them away. Where no
    /// connection is to be had, asking once more would only take longer.
    async fn find(&self, hashes: &[Vec<u8>]) -> Result<HashMap<[u8; 32], Found>, sqlx::Error> {
        match in_time(find(&self.db, hashes, self.idle_s)).await {
            Err(lost)
                if !matches!(lost, sqlx::Error::PoolTimedOut)
                    && database::note(&lost)
                    && database::condition() == Condition::Away =>
            {
                in_time(find(&self.db, hashes, self.idle_s)).await
            }
            found => found,
        }
    }

    fn recall(&self, hash: &[u8; 32]) -> Option<Found> {
        let remembered = locked(&self.remembered);
        let (at, found) = remembered.get(hash)?;
        (at.elapsed() < BELIEVED_FOR).then(|| found.clone())
    }

    fn remember(&self, hash: [u8; 32], found: Found) {
        let mut remembered = locked(&self.remembered);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (at, _)| at.elapsed() < BELIEVED_FOR);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(hash, (Instant::now(), found));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while holding it")
}

/// Finds the holders of many tokens in one round trip; a session that was used is touched, at most
/// once in ten minutes.
async fn find(
    db: &PgPool,
    hashes: &[Vec<u8>],
    idle_s: i64,
) -> Result<HashMap<[u8; 32], Found>, sqlx::Error> {
    let rows = sqlx::query(
        "-- callers_by_tokens
        with touched as (
            update shop.session set last_seen_at = saga.now()
            where token_hash = any($1) and last_seen_at < saga.now() - interval '10 minutes'
                and last_seen_at > saga.now() - $2::bigint * interval '1 second')
        select s.token_hash, 'customer' as role, s.customer_id as id, '{}'::text[] as scopes,
            s.expires_at <= saga.now()
                or s.last_seen_at <= saga.now() - $2::bigint * interval '1 second' as expired
        from shop.session s
        join shop.customer c on c.customer_id = s.customer_id and c.frozen_at is null
        where s.token_hash = any($1)
        union all
        select guest_token_hash, 'guest', customer_id, '{}', false
        from shop.cart where guest_token_hash = any($1) and merged_into is null
        union all
        select key_hash, role, id, scopes, coalesce(expires_at <= saga.now(), false)
        from shop.access_key where key_hash = any($1) and revoked_at is null",
    )
    .bind(hashes)
    .bind(idle_s)
    .fetch_all(db)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get("token_hash")?;
        if let Ok(hash) = <[u8; 32]>::try_from(hash) {
            found.insert(hash, read(&row, hash)?);
        }
    }
    Ok(found)
}

fn read(row: &PgRow, token_hash: [u8; 32]) -> Result<Found, sqlx::Error> {
    if row.try_get("expired")? {
        return Ok(Found::Expired);
    }
    let role = match row.try_get::<&str, _>("role")? {
        "customer" => Role::Customer,
        "guest" => Role::Guest,
        "viewer" => Role::Viewer,
        "operator" => Role::Operator,
        "admin" => Role::Admin,
        _ => Role::Service,
    };
    let scopes: Vec<String> = row.try_get("scopes")?;
    Ok(Found::Valid(Caller { role, id: row.try_get("id")?, scopes: scopes.into(), token_hash }))
}

/// A new access key: who holds it, what it may do, how long it lives.
#[derive(Debug)]
pub struct NewKey<'k> {
    /// `admin`, `operator`, `viewer` or `service`.
    pub role: &'k str,
    /// Shown in audits.
    pub name: &'k str,
    /// For services.
    pub scopes: &'k [String],
    /// `None`: does not expire.
    pub lives_days: Option<i32>,
}

/// Makes an access key and answers the token, which is never shown again.
pub async fn make_key(db: &PgPool, environment: &str, new: NewKey<'_>) -> sqlx::Result<String> {
    let id = Uuid::now_v7();
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let token = match new.role {
        "service" => format!("sk_{environment}_{}_{secret}", id.simple()),
        role => format!("{role}_{secret}"),
    };
    sqlx::query(
        "-- access_key_make
        insert into shop.access_key (id, key_hash, role, name, scopes, expires_at)
        values ($1, $2, $3, $4, $5, saga.now() + make_interval(days => $6))",
    )
    .bind(id)
    .bind(&token_hash(&token)[..])
    .bind(new.role)
    .bind(new.name)
    .bind(new.scopes)
    .bind(new.lives_days)
    .execute(db)
    .await?;
    Ok(token)
}
