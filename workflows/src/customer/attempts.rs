//! How often somebody may try to log in to one account.
//!
//! A try is counted before its password is compared, by one statement that all processes share, so
//! fifty guesses at the same moment are limited as fifty in a row. Five are free; then each must wait
//! twice as long as the one before, a minute at most. A success forgets them.
//!
//! Tries are counted per account and network (or device, for a client that has a token of an earlier
//! session), so that a stranger's guesses keep nobody out but the stranger. A network's first try is
//! never refused. Guesses at one account from many networks slow down only the networks that its
//! owner never logged in from.
//!
//! Log-ins that turn out to be wrong are counted by the minute, too, for all accounts together: one password that is tried at a
//! thousand accounts is one try at each of them.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

/// How many tries at one account from networks that are not known slow all of these down.
const TRIES_OF_STRANGERS: i32 = 20;

/// The keys under which attempts are counted. They are keyed hashes, so that no address of a person is stored.
#[derive(Debug, Clone, Copy)]
pub struct Scopes {
    /// This account tried from this network or device.
    pub own: [u8; 32],
    /// This account tried from networks that are not known.
    pub account: [u8; 32],
    /// It is known whatever was counted: a client with a token of an earlier session.
    pub is_known: bool,
    /// The customer whose account it is, for the erasure. `None`: the address has no account.
    pub customer_id: Option<Uuid>,
}

/// Counts a try. `Some`: it must not be made before this time has passed. 1 round trip, 1 more for a
/// refusal.
pub async fn count(db: &PgPool, scopes: &Scopes) -> Result<Option<Duration>, sqlx::Error> {
    let is_admitted: bool = sqlx::query_scalar(
        "-- log-in attempt: count
        with slowed as materialized (
            select exists (
                select from shop.log_in_attempt
                where scope_hash = $2 and tries >= $3
                  and last_at > saga.now() - interval '15 minutes') and not $4 as is_so
        ), own as (
            insert into shop.log_in_attempt as a (scope_hash, tries, last_at, customer_id)
            values ($1, 1, saga.now(), $5)
            on conflict (scope_hash) do update
            set tries = case when a.last_at > saga.now() - interval '15 minutes'
                             then a.tries + 1 else 1 end,
                last_at = saga.now(), customer_id = coalesce(excluded.customer_id, a.customer_id)
            where a.last_at + shop.log_in_wait(
                a.tries, a.succeeded_at is null and (select is_so from slowed)) <= saga.now()
            returning succeeded_at is null and not $4 as is_stranger
        ), strangers as (
            insert into shop.log_in_attempt as a (scope_hash, tries, last_at, customer_id)
            select $2, 1, saga.now(), $5 from own where is_stranger
            on conflict (scope_hash) do update
            set tries = case when a.last_at > saga.now() - interval '15 minutes'
                             then a.tries + 1 else 1 end,
                last_at = saga.now(), customer_id = coalesce(excluded.customer_id, a.customer_id)
        )
        select exists (select from own)",
    )
    .bind(&scopes.own[..])
    .bind(&scopes.account[..])
    .bind(TRIES_OF_STRANGERS)
    .bind(scopes.is_known)
    .bind(scopes.customer_id)
    .fetch_one(db)
    .await?;
    if is_admitted {
        return Ok(None);
    }
    let wait_s: Option<f64> = sqlx::query_scalar(
        "-- log-in attempt: how long to wait
        select extract(epoch from last_at + shop.log_in_wait(tries, succeeded_at is null)
                                  - saga.now())::float8
        from shop.log_in_attempt where scope_hash = $1",
    )
    .bind(&scopes.own[..])
    .fetch_optional(db)
    .await?;
    Ok(Some(Duration::from_secs_f64(wait_s.unwrap_or_default().clamp(0.0, 60.0))))
}

/// Takes back a try whose password was not compared. 1 round trip.
pub async fn uncount(db: impl PgExecutor<'_>, scopes: &Scopes) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- log-in attempt: take back
        update shop.log_in_attempt set tries = tries - 1 where scope_hash = $1 and tries > 0",
    )
    .bind(&scopes.own[..])
    .execute(db)
    .await?;
    Ok(())
}

/// The password was right: forgets the tries, and remembers the network or device as known. 1 round
/// trip.
pub async fn succeed(tx: &mut PgConnection, scopes: &Scopes) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- log-in attempt: succeed
        insert into shop.log_in_attempt (scope_hash, tries, last_at, succeeded_at, customer_id)
        values ($1, 0, saga.now(), saga.now(), $2)
        on conflict (scope_hash) do update
        set tries = 0, last_at = saga.now(), succeeded_at = saga.now(), customer_id = excluded.customer_id",
    )
    .bind(&scopes.own[..])
    .bind(scopes.customer_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts a log-in with a wrong address or password. 1 round trip.
pub async fn count_wrong(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- log-in attempt: count a wrong one
        insert into shop.wrong_log_in as w (minute, log_ins)
        values (date_trunc('minute', saga.now()), 1)
        on conflict (minute) do update set log_ins = w.log_ins + 1",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Log-ins with a wrong address or password, of all accounts together.
#[derive(Debug, Clone, Copy, PartialEq, sqlx::FromRow)]
pub struct Wrong {
    /// In the last quarter of an hour.
    pub lately: i64,
    /// In a usual quarter of an hour: the median of the day before that, so that an attack of some hours does not become usual.
    pub usually: f64,
}

impl Wrong {
    /// How many in a quarter of an hour are no reason to worry.
    const FEW: i64 = 100;
    /// How many times as many as usual are a reason to worry.
    const RISE: f64 = 10.0;

    /// Reads the counts. 1 round trip.
    pub async fn read(db: impl PgExecutor<'_>) -> Result<Self, sqlx::Error> {
        sqlx::query_as(
            "-- log-in attempt: wrong ones
            with clock as materialized (select saga.now() as now),
            counted as (
                select floor(extract(epoch from now - minute) / 900)::int as quarter, sum(log_ins) as log_ins
                from clock, shop.wrong_log_in where minute > now - interval '24 hours 15 minutes' group by quarter
            )
            select (coalesce(max(log_ins) filter (where quarter = 0), 0))::bigint as lately,
                percentile_disc(0.5) within group (order by coalesce(log_ins, 0)) filter (where quarter > 0)::float8 as usually
            from generate_series(0, 96) quarter left join counted using (quarter)",
        )
        .fetch_one(db)
        .await
    }

    /// Whether there are so many more than usual that somebody may be guessing at many accounts.
    pub fn have_risen(&self) -> bool {
        self.lately >= Self::FEW && self.lately as f64 >= Self::RISE * self.usually
    }
}
