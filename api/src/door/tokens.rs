//! Looks up the holder of a token, and creates keys for staff and services.
//!
//! Only hashes of tokens are stored and compared. Each process caches a lookup for one second, so
//! every process refuses a revoked token within a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use stepwise_engine::database;
use uuid::Uuid;

use super::{
    caller::{Caller, Role, token_hash, unauthorized},
    gather::Gather,
    problem::Problem,
};

/// How long a lookup is cached.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// The maximum number of tokens that are looked up in one round trip.
const LOOKED_UP_TOGETHER: usize = 500;
/// The maximum number of cached lookups.
const REMEMBERED: usize = 50_000;

/// The result of a lookup.
#[derive(Debug, Clone)]
enum Found {
    Valid(Caller),
    Expired,
    Unknown,
}

/// Looks up tokens and caches the results for a second. Lookups that arrive while another one is running share the next one.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    environment: String,
    look_ups: Gather<[u8; 32], Found>,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Found)>>,
}

impl Callers {
    /// Creates an empty cache. Service keys of another environment are unknown. A session expires after
    /// `idle` without a request.
    pub fn new(db: PgPool, environment: impl Into<String>, idle: Duration) -> Self {
        let idle_s = i64::try_from(idle.as_secs()).unwrap_or(i64::MAX);
        let look_ups = Gather::reads(LOOKED_UP_TOGETHER, move |hashes: Vec<[u8; 32]>| {
            let db = db.clone();
            Box::pin(async move {
                let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
                let hashes = hashes.as_slice();
                database::ask(&db, |mut db| async move { find(&mut db, hashes, idle_s).await })
                    .await
            })
        });
        let remembered = Mutex::default();
        Self(Arc::new(Inner { environment: environment.into(), look_ups, remembered }))
    }

    /// Looks up the holder of `token`. At most one round trip, which simultaneous lookups share; none
    /// if the token was looked up in the last second.
    pub async fn look_up(&self, token: &str) -> Result<Caller, Problem> {
        let invalid = || unauthorized("token_invalid", "The token is unknown.");
        if let Some(rest) = token.strip_prefix("sk_")
            && rest.split('_').next() != Some(self.0.environment.as_str())
        {
            return Err(invalid());
        }
        let hash = token_hash(token);
        let found = match self.0.recall(&hash) {
            Some(found) => found,
            None => self.0.ask(hash).await?,
        };
        match found {
            Found::Valid(caller) => Ok(caller),
            Found::Expired => Err(unauthorized("token_expired", "The token has expired.")),
            Found::Unknown => Err(invalid()),
        }
    }

    /// Whether this process has seen the token as valid, however long ago. No round trip.
    pub fn knows(&self, token: &str) -> bool {
        let remembered = locked(&self.0.remembered);
        matches!(remembered.get(&token_hash(token)), Some((_, Found::Valid(_))))
    }

    /// Removes a token from the cache, because this process has ended its session.
    pub fn forget(&self, hash: &[u8; 32]) {
        locked(&self.0.remembered).remove(hash);
    }

    /// Whether the token with this hash is unknown, revoked or expired. 1 round trip, which simultaneous lookups share. False if the database does
    /// not answer.
    pub async fn is_over(&self, hash: [u8; 32]) -> bool {
        matches!(self.0.ask(hash).await, Ok(Found::Expired | Found::Unknown))
    }
}

impl Inner {
    async fn ask(&self, hash: [u8; 32]) -> Result<Found, Problem> {
        let found = self.look_ups.get(hash).await?.unwrap_or(Found::Unknown);
        self.remember(hash, found.clone());
        Ok(found)
    }

    fn recall(&self, hash: &[u8; 32]) -> Option<Found> {
        let remembered = locked(&self.remembered);
        let (at, found) = remembered.get(hash)?;
        (at.elapsed() < BELIEVED_FOR).then(|| found.clone())
    }

    fn remember(&self, hash: [u8; 32], found: Found) {
        let mut remembered = locked(&self.remembered);
        // Valid tokens are forgotten last, and never all at once: their holders are admitted whatever others send from their address.
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (at, found)| {
                at.elapsed() < BELIEVED_FOR || matches!(found, Found::Valid(_))
            });
        }
        if remembered.len() >= REMEMBERED {
            let mut times: Vec<Instant> = remembered.values().map(|(at, _)| *at).collect();
            let (_, middle, _) = times.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            remembered.retain(|_, (at, _)| *at > middle);
        }
        remembered.insert(hash, (Instant::now(), found));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while holding it")
}

/// The statement for the tokens that `$one_of` selects.
macro_rules! find_sql {
    ($one_of:literal) => {
        concat!(
            "-- callers_by_tokens
        with clock as materialized (
            select now, now - $2::bigint * interval '1 second' as idle_since from saga.now() as now
        ), touched as (
            update shop.session set last_seen_at = (select now from clock)
            where token_hash in (
                select s.token_hash from clock, shop.session s
                where s.token_hash ",
            $one_of,
            " and s.last_seen_at < clock.now - interval '10 minutes'
                    and s.last_seen_at > clock.idle_since
                for update of s skip locked))
        select s.token_hash, 'customer' as role, s.customer_id as id, '{}'::text[] as scopes,
            s.expires_at <= clock.now or s.last_seen_at <= clock.idle_since as expired
        from clock, shop.session s
        join shop.customer c on c.customer_id = s.customer_id and c.frozen_at is null
        where s.token_hash ",
            $one_of,
            "
        union all
        select guest_token_hash, 'guest', customer_id, '{}', false
        from shop.cart where merged_into is null and guest_token_hash ",
            $one_of,
            "
        union all
        select k.key_hash, k.role, k.id, k.scopes, coalesce(k.expires_at <= clock.now, false)
        from clock, shop.access_key k where k.revoked_at is null and k.key_hash ",
            $one_of
        )
    };
}

/// One is looked up alone most of the time. Postgres plans this once, but the other each time: it guesses how many tokens there are.
const FIND_ONE: &str = find_sql!("= $1");

const FIND: &str = find_sql!("= any($1)");

/// Finds the holders of many tokens in one round trip. Also records that their sessions were used, at most
/// once in ten minutes; a session that somebody holds is left.
async fn find(
    db: &mut PgConnection,
    hashes: &[Vec<u8>],
    idle_s: i64,
) -> Result<HashMap<[u8; 32], Found>, sqlx::Error> {
    let finding = match hashes {
        [hash] => sqlx::query(FIND_ONE).bind(hash),
        hashes => sqlx::query(FIND).bind(hashes),
    };
    let rows = finding.bind(idle_s).fetch_all(db).await?;
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

/// A new access key: its role, holder, scopes and lifetime.
#[derive(Debug)]
pub struct NewKey<'k> {
    /// `admin`, `operator`, `viewer` or `service`.
    pub role: &'k str,
    /// The holder's name, which audits show.
    pub name: &'k str,
    /// The scopes of a service; empty for other roles.
    pub scopes: &'k [String],
    /// Days until the key expires. `None` means never.
    pub lives_days: Option<i32>,
}

/// Creates an access key and returns its token, which cannot be shown again.
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
