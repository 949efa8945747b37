//! Queues: instances that wait ([`crate::Start::queued`]) until a quota admits them.
//!
//! A quota ([`Quota`]) holds for a saga as a whole, for each of its queue keys, or for one key (in place of the one for each). `at_once` limits how
//! many instances are admitted and have not ended. An instance that retries, waits, sleeps or is stuck keeps its place, so with 1 they exclude each
//! other from admission to end, whatever dies meanwhile. There is no counter: the admitted rows themselves are counted. A rate is a bucket of tokens
//! by the business clock that holds one period's tokens: after a pause up to `starts` instances may begin together. Without a quota a queued instance
//! is admitted at once.
//!
//! Instances are admitted by priority, then by age. A class has a head start of [`crate::Priority::HEAD_START`] over the next, so nothing starves.
//! Any worker may admit, under a try-lock per saga. It gets a hint when a queued instance starts or ends in its process; otherwise it looks within
//! [`crate::WorkerConfig::poll`]. Until it is admitted, an instance takes signals and its timers stand still. An instance leaves its queue when it is
//! admitted or when it starts to unwind. A child that its parent takes back after its end unwinds without admission.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::{
    base::{id::shard_of, limits},
    store::wake::{UPKEEP, WAKE_CHANNEL},
    worker::engine::Engine,
};

/// How many instances may run. If both limits are given, both hold; without a limit, all may run.
///
/// ```
/// use std::time::Duration;
/// use stepwise_engine::{Engine, Quota, Rate, Scope};
///
/// # async fn f(engine: &Engine) -> Result<(), sqlx::Error> {
/// let mut tx = engine.begin().await?;
/// // 100 imports at the same time, of one customer only one, and of the large one ten an hour.
/// engine.set_quota(&mut tx, "import", Scope::Saga, Quota::at_once(100)).await?;
/// engine.set_quota(&mut tx, "import", Scope::EachKey, Quota::at_once(1)).await?;
/// let hourly = Rate { starts: 10, per: Duration::from_secs(3_600) };
/// let large = Quota { rate: Some(hourly), ..Quota::at_once(2) };
/// engine.set_quota(&mut tx, "import", Scope::Key("customer 7"), large).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// How many instances may be admitted and not ended.
    pub at_once: Option<u32>,
    /// How many instances are admitted per period.
    pub rate: Option<Rate>,
}

/// A bucket of `starts` tokens that fills evenly within `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub starts: u32,
    /// Business time, not zero.
    pub per: Duration,
}

/// The instances that a quota counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All queued instances of the saga together.
    Saga,
    /// The instances of one queue key, for each key that has no quota of its own.
    EachKey,
    /// The instances of this queue key.
    Key(&'a str),
}

impl Quota {
    /// At most so many at once.
    #[must_use]
    pub fn at_once(limit: u32) -> Self {
        Self { at_once: Some(limit), rate: None }
    }

    /// At most so many per period of business time.
    #[must_use]
    pub fn rate(starts: u32, per: Duration) -> Self {
        Self { at_once: None, rate: Some(Rate { starts, per }) }
    }
}

/// (scope, at once, starts, milliseconds).
type QuotaRow = (String, Option<i32>, Option<i32>, Option<i64>);

impl Engine {
    /// Sets the quota of a saga with the caller's commit, in place of the one before; [`Quota::default`] removes it. Instances that are admitted
    /// stay admitted. Round trips: 1.
    ///
    /// # Errors
    /// The database's; it refuses a rate of no starts or no time. [`sqlx::Error::Encode`] for a key that cannot be stored.
    pub async fn set_quota(
        &self,
        tx: &mut PgConnection,
        saga: &str,
        scope: Scope<'_>,
        quota: Quota,
    ) -> Result<(), sqlx::Error> {
        let (scope, key) = match scope {
            Scope::Saga => ("saga", ""),
            Scope::EachKey => ("each key", ""),
            Scope::Key(key) => ("key", key),
        };
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        limits::check_name("name of the saga", saga)?;
        limits::check_name("queue key", key)?;
        sqlx::query(
            "-- name: set quota
            with quota as (
                select $5::integer as at_once, $6::integer as starts, $7 * interval '1 ms' as per
            ),
            lifted as (
                delete from saga.quota o using quota q
                where o.shard = $1 and o.name = $2 and o.scope = $3 and o.queue_key = $4 and q.at_once is null and q.starts is null
            ),
            set as (
                insert into saga.quota (shard, name, scope, queue_key, at_once, starts, per)
                select $1, $2, $3, $4, q.at_once, q.starts, q.per from quota q where q.at_once is not null or q.starts is not null
                on conflict (shard, name, scope, queue_key) do update
                set at_once = excluded.at_once, starts = excluded.starts, per = excluded.per
            )
            select pg_notify($8, $9)",
        )
        .bind(shard_of(saga))
        .bind(saga)
        .bind(scope)
        .bind(key)
        .bind(quota.at_once.map(number))
        .bind(quota.rate.map(|rate| number(rate.starts)))
        .bind(quota.rate.map(|rate| limits::ms(rate.per)))
        .bind(WAKE_CHANNEL)
        .bind(UPKEEP)
        .execute(tx)
        .await
        .map(|_| ())
    }

    /// The quota that holds for a queue key of a saga (its own, else that for each), and that of the saga as a whole. Round trips: 1.
    ///
    /// # Errors
    /// The database's.
    pub async fn quotas(&self, saga: &str, key: &str) -> Result<(Quota, Quota), sqlx::Error> {
        let rows: Vec<QuotaRow> = sqlx::query_as(
            "-- name: inspect quotas
            select scope, at_once, starts, (extract(epoch from per) * 1000)::bigint from saga.quota
            where shard = $1 and name = $2 and (scope <> 'key' or queue_key = $3)",
        )
        .bind(shard_of(saga))
        .bind(saga)
        .bind(key)
        .fetch_all(self.pool())
        .await?;
        let of = |scope: &str| {
            let (_, at_once, starts, ms) = rows.iter().find(|row| row.0 == scope)?;
            let rate = starts.zip(*ms).map(|(starts, ms)| Rate {
                starts: starts.unsigned_abs(),
                per: Duration::from_millis(ms.unsigned_abs()),
            });
            Some(Quota { at_once: at_once.map(i32::unsigned_abs), rate })
        };
        Ok((
            of("key").or_else(|| of("each key")).unwrap_or_default(),
            of("saga").unwrap_or_default(),
        ))
    }
}

/// How many queue keys one statement looks at.
const PAGE: i64 = 1_000;

macro_rules! tokens {
    ($quota:literal, $bucket:literal) => {
        concat!(
            "case when ",
            $quota,
            ".starts is null then 1000 else floor(",
            $quota,
            ".starts * (1 - greatest(0, coalesce(extract(epoch from ",
            $bucket,
            ".full_at - clock.now), 0)) / extract(epoch from ",
            $quota,
            ".per)) + 0.000001) end"
        )
    };
}

macro_rules! heads {
    ($class:literal) => {
        concat!(
            "(select i.shard, i.saga_id, i.created_at + ",
            $class,
            " * interval '60 seconds' as turn
            from saga.instance i
            where i.name = $1 and i.queued and i.queue_key = r.queue_key and i.priority = ",
            $class,
            "
                and i.ended_at is null and i.status = 'running'
            order by i.saga_id limit 1000)"
        )
    };
}

/// One page of keys: how many places each key and the saga as a whole have, which instances are next, and the tokens that they take.
const ADMIT: &str = concat!(
    "-- name: admit queued
with recursive clock as materialized (select saga.now() as now, clock_timestamp() as real),
whole as materialized (
    select q.starts, q.per,
        least(
            case when q.at_once is null then 1000 else q.at_once - (
                select count(*) from saga.instance i
                where i.name = $1 and not i.queued and i.queue_key is not null and i.ended_at is null) end,
            ", tokens!("q", "b"), ") as places
    from clock
    left join saga.quota q on q.shard = $2 and q.name = $1 and q.scope = 'saga'
    left join saga.quota_bucket b on b.shard = $2 and b.name = $1 and b.scope = 'saga'
),
key as (
    (select i.queue_key from saga.instance i
    where i.name = $1 and i.queued and i.queue_key is not null and i.ended_at is null
        and ($3::text is null or i.queue_key > $3) and (select w.places > 0 from whole w)
    order by i.queue_key limit 1)
    union all
    select (select i.queue_key from saga.instance i
        where i.name = $1 and i.queued and i.queue_key > key.queue_key and i.ended_at is null
        order by i.queue_key limit 1)
    from key where key.queue_key is not null
),
page as materialized (select k.queue_key from key k where k.queue_key is not null limit 1000),
room as materialized (
    select p.queue_key, q.starts, q.per,
        least(
            case when q.at_once is null then 1000 else q.at_once - (
                select count(*) from saga.instance i
                where i.name = $1 and not i.queued and i.queue_key = p.queue_key and i.ended_at is null) end,
            ", tokens!("q", "b"), ") as places
    from clock, page p
    left join lateral (
        -- That of the key itself comes first.
        select q.* from saga.quota q
        where q.shard = $2 and q.name = $1 and (q.scope = 'each key' or q.scope = 'key' and q.queue_key = p.queue_key)
        order by q.scope desc limit 1) q on true
    left join saga.quota_bucket b on b.shard = $2 and b.name = $1 and b.scope = 'key' and b.queue_key = p.queue_key
),
next as materialized (
    select n.shard, n.saga_id
    from room r, lateral (
        select h.* from (", heads!(0), " union all ", heads!(1), " union all ", heads!(2), ") h
        order by h.turn, h.saga_id limit r.places::bigint) n
    where r.places > 0
    order by n.turn, n.saga_id limit (select w.places::bigint from whole w where w.places > 0)
),
locked as materialized (
    select i.shard, i.saga_id from next n join saga.instance i on i.shard = n.shard and i.saga_id = n.saga_id
    where i.queued and i.status = 'running'
    for no key update of i skip locked
),
admitted as (
    update saga.instance i set queued = false, wake_at = clock.now, updated_at = clock.real
    from locked l, clock where i.shard = l.shard and i.saga_id = l.saga_id
    returning i.queue_key
),
spent as (
    select 'key' as scope, a.queue_key, count(*) * (r.per / r.starts) as time
    from admitted a join room r on r.queue_key = a.queue_key where r.starts is not null
    group by a.queue_key, r.per, r.starts
    union all
    select 'saga', '', count(*) * (w.per / w.starts) from admitted, whole w where w.starts is not null group by w.per, w.starts
),
bucket as (
    insert into saga.quota_bucket as b (shard, name, scope, queue_key, full_at)
    select $2, $1, s.scope, s.queue_key, clock.now + s.time from spent s, clock
    on conflict (shard, name, scope, queue_key) do update
    set full_at = greatest(b.full_at, (select now from clock)) + (excluded.full_at - (select now from clock))
)
select (select count(*) from admitted), (select count(*) from page), (select max(queue_key) from page),
    (select w.places::bigint from whole w)"
);

/// The result of one page of keys: (admitted, keys looked at, the last of them, places of the saga as a whole before).
type Page = (i64, i64, Option<String>, i64);

/// Admits the next instances and returns how many. `after` is the key to continue from, for sagas with more queued keys than a page.
///
/// Round trips: 5. Row operations: 1 an instance; 1 for each key with a rate.
pub(crate) async fn admit(
    connection: &mut PgConnection,
    saga: &str,
    after: &mut Option<String>,
) -> Result<i64, sqlx::Error> {
    let mut tx = connection.begin().await?;
    // A statement of its own: what is counted must be seen after the lock is held.
    let first: bool = sqlx::query_scalar(
        "-- name: take a queue\nselect pg_try_advisory_xact_lock(hashtext('saga.queue'), hashtext($1))",
    )
    .bind(saga)
    .fetch_one(&mut *tx)
    .await?;
    if !first {
        tx.rollback().await?;
        return Ok(0);
    }
    let mut total = 0;
    loop {
        let (admitted, keys, last, places): Page = sqlx::query_as(ADMIT)
            .bind(saga)
            .bind(shard_of(saga))
            .bind(&*after)
            .fetch_one(&mut *tx)
            .await?;
        total += admitted;
        *after = last.filter(|_| keys == PAGE);
        if after.is_none() || admitted >= places {
            break;
        }
    }
    if total > 0 {
        sqlx::query(
            "-- name: forget full buckets
            delete from saga.quota_bucket where shard = $1 and name = $2 and full_at < saga.now() - interval '1 hour'",
        )
        .bind(shard_of(saga))
        .bind(saga)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(total)
}
