//! Reading instances for operators and callers: what it is, what it waits on, what was committed of it.
//!
//! It only reads, by statements of its own, and knows neither workers nor the types of any saga. Callers and operators use it.

pub(crate) mod audit;
pub mod figures;
pub(crate) mod filter;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    base::{
        amount::{Amount, readable_amount},
        id::{shard_in, shard_of},
        priority::Priority,
        status::{Status, WaitingOn},
    },
    record::{
        row::readable_time,
        words::{EffectStatus, JournalKind},
    },
    saga::steps::Key,
};

pub use self::{
    audit::{Forgotten, Standing, forgotten, unbalanced},
    filter::Filter,
};

/// An instance as a list shows it.
///
/// ```
/// use stepwise_engine::inspect::{self, Summary};
///
/// # async fn f(pool: &sqlx::PgPool, id: uuid::Uuid) -> Result<(), sqlx::Error> {
/// if let Some(Summary { subject, status, last_error, .. }) = inspect::summary(pool, id).await? {
///     println!("{subject} is {status}: {}", last_error.unwrap_or_default());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, FromRow)]
pub struct Summary {
    /// Its id; an API's operation id.
    pub saga_id: Uuid,
    /// The saga's name.
    pub name: String,
    /// The version that wrote it last.
    pub version: i16,
    /// The subject that it is about.
    pub subject: String,
    /// Its status.
    pub status: Status,
    /// The reason why it waits; none when it has ended.
    pub waiting_on: Option<WaitingOn>,
    /// The step, timer or signal it waits for.
    pub pending: Value,
    /// Why it unwinds or unwound.
    pub reason: Option<Value>,
    /// Failed tries of the pending step.
    pub attempt: i16,
    /// The error of the last one.
    pub last_error: Option<String>,
    /// When it is due next, in business time; none while it waits for a version, since nobody knows how long that takes.
    pub wake_at: Option<DateTime<Utc>>,
    /// Its class among due instances.
    #[sqlx(try_from = "i16")]
    pub priority: Priority,
    /// Names and values by which operators find it.
    #[sqlx(json)]
    pub tags: BTreeMap<String, String>,
    /// The instance that started it.
    #[sqlx(rename = "parent_id")]
    pub parent: Option<Uuid>,
    /// When it is called off, in business time. A time after 9999 is shown as the last day of that year.
    pub deadline_at: Option<DateTime<Utc>>,
    /// It waits or waited its turn among those of this key.
    pub queue_key: Option<String>,
    /// Its turn has not come yet.
    pub queued: bool,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it was last committed.
    pub updated_at: DateTime<Utc>,
}

/// An instance with all that was committed of it.
///
/// ```
/// use stepwise_engine::inspect::{self, Details};
///
/// # async fn f(pool: &sqlx::PgPool, id: uuid::Uuid) -> Result<(), sqlx::Error> {
/// if let Some(Details { journal, effects, .. }) = inspect::details(pool, id).await? {
///     for entry in journal {
///         println!("{:>4} {} {}", entry.seq, entry.kind, entry.event.unwrap_or_default());
///     }
///     for effect in effects {
///         println!("{} is {}, under the key {}", effect.kind, effect.status, effect.key());
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Details {
    /// As in lists.
    pub summary: Summary,
    /// The state that it remembers.
    pub state: Value,
    /// Open undos, oldest first: what unwinding would still take back, last first.
    pub undos: Value,
    /// Its transitions and attempts, oldest first.
    pub journal: Vec<Entry>,
    /// Its ledger.
    pub effects: Vec<EffectEntry>,
    /// The instances that it started, in the order of their ids, at most 1,000; [`Filter::parent`] lists them.
    pub children: Vec<Uuid>,
    /// How many of all of them have not ended.
    pub open_children: i64,
}

/// A row of the journal.
#[derive(Debug, Clone, FromRow)]
pub struct Entry {
    /// Raised by each commit.
    pub seq: i32,
    /// The subject of the row.
    pub kind: JournalKind,
    /// The event that happened.
    pub event: Option<Value>,
    /// The step it happened to.
    pub step_no: Option<i32>,
    /// The number of the attempt.
    pub attempt: Option<i16>,
    /// When the attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// The decision.
    pub next: Option<Value>,
    /// The undo recorded with it.
    pub undo: Option<Value>,
    /// When it was committed.
    pub at: DateTime<Utc>,
}

/// A row of the effect ledger.
#[derive(Debug, Clone, FromRow)]
pub struct EffectEntry {
    /// The instance.
    pub saga_id: Uuid,
    /// The step that made it; with the instance's id the idempotency key.
    pub step_no: i32,
    /// For example `authorization`.
    pub kind: String,
    /// The provider's reference.
    pub reference: Option<String>,
    /// How much it moves, if it moves money.
    pub amount: Option<Amount>,
    /// The provider's reference of its taking back, or what a person gave as evidence.
    pub undo_reference: Option<String>,
    /// The state of the effect as far as it is known.
    pub status: EffectStatus,
    /// When it was intended.
    pub at: DateTime<Utc>,
    /// When its status last changed; none while it is only intended.
    pub settled_at: Option<DateTime<Utc>>,
}

// The data of one instance must not keep a whole list from being read: a tag that is no text is shown as JSON.
macro_rules! summary_columns {
    () => {
        concat!(
            "i.saga_id, i.name, i.version, i.subject, i.status, i.waiting_on, i.pending, i.reason, i.attempt, i.last_error, \
             case when isfinite(i.wake_at) then ",
            readable_time!("i.wake_at"),
            " end as wake_at, i.priority, \
             case when jsonb_typeof(i.tags) = 'object' then (select coalesce(jsonb_object_agg(t.key, t.value), '{}') \
             from jsonb_each_text(i.tags) t where t.value is not null) else '{}' end as tags, i.parent_id, ",
            readable_time!("i.deadline_at"),
            " as deadline_at, i.queue_key, i.queued, ",
            readable_time!("i.created_at"),
            " as created_at, ",
            readable_time!("i.updated_at"),
            " as updated_at"
        )
    };
}

/// One instance, as lists show it. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn summary(pool: &PgPool, id: Uuid) -> Result<Option<Summary>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: inspect summary\nselect ",
        summary_columns!(),
        " from saga.instance i where i.shard = $1 and i.saga_id = $2"
    ))
    .bind(shard_in(id))
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// The newest instance of a saga about a subject, open or ended; a child, which lives on its parent's shard, is not looked for. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn latest_about(
    tx: &mut PgConnection,
    name: &str,
    subject: &str,
) -> Result<Option<Summary>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: inspect latest about\nselect ",
        summary_columns!(),
        " from saga.instance i where i.shard = $1 and i.subject = $2 and i.name = $3 \
         order by i.saga_id desc limit 1"
    ))
    .bind(shard_of(subject))
    .bind(subject)
    .bind(name)
    .fetch_optional(tx)
    .await
}

/// All instances of a saga about a subject that have not ended, of whatever start key; children, which live on their parents' shards, are not looked
/// for. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn open_about(
    tx: &mut PgConnection,
    name: &str,
    subject: &str,
) -> Result<Vec<Summary>, sqlx::Error> {
    let about: Vec<Summary> = sqlx::query_as(concat!(
        "-- name: inspect open about\nselect ",
        summary_columns!(),
        " from saga.instance i where i.shard = $1 and i.subject = $2 and i.name = $3"
    ))
    .bind(shard_of(subject))
    .bind(subject)
    .bind(name)
    .fetch_all(tx)
    .await?;
    Ok(about.into_iter().filter(|found| !found.is_final()).collect())
}

/// All instances of any saga about any of these subjects that have not ended, in the order of their ids; children, which live on their parents' shards,
/// are not looked for. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn open_about_any(
    tx: &mut PgConnection,
    subjects: &[String],
) -> Result<Vec<Summary>, sqlx::Error> {
    let shards: Vec<i16> = subjects.iter().map(|subject| shard_of(subject)).collect();
    let about: Vec<Summary> = sqlx::query_as(concat!(
        "-- name: inspect open about any\nselect ",
        summary_columns!(),
        " from unnest($1::smallint[], $2::text[]) as s (shard, subject) \
         join saga.instance i using (shard, subject) \
         where i.status not in ('completed', 'unwound', 'abandoned') order by i.saga_id"
    ))
    .bind(shards)
    .bind(subjects)
    .fetch_all(tx)
    .await?;
    Ok(about)
}

/// A page of instances, newest first. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, filter: &Filter) -> Result<Vec<Summary>, sqlx::Error> {
    let mut query = filter.select(concat!("select ", summary_columns!()));
    // Planned each time, for just these values.
    query.build_query_as().persistent(false).fetch_all(pool).await
}

/// Everything of one instance. Round trips: 5.
///
/// # Errors
/// The database's.
pub async fn details(pool: &PgPool, id: Uuid) -> Result<Option<Details>, sqlx::Error> {
    let Some(summary) = summary(pool, id).await? else { return Ok(None) };
    let shard = shard_in(id);
    let (state, undos) = sqlx::query_as(
        "-- name: inspect position\nselect state, undos from saga.instance where shard = $1 and saga_id = $2",
    )
    .bind(shard)
    .bind(id)
    .fetch_one(pool)
    .await?;
    let journal = sqlx::query_as(concat!(
        "-- name: inspect journal
            select seq, kind, event, step_no, attempt, ",
        readable_time!("started_at"),
        " as started_at, next, undo, ",
        readable_time!("at"),
        " as at
            from saga.journal where shard = $1 and saga_id = $2 order by seq"
    ))
    .bind(shard)
    .bind(id)
    .fetch_all(pool)
    .await?;
    let effects = effects(&mut *pool.acquire().await?, id).await?;
    let (children, open_children) = sqlx::query_as(
        "-- name: inspect children
        select coalesce((array_agg(saga_id order by saga_id))[1:1000], '{}'), count(*) filter (where ended_at is null)
        from saga.instance where shard = $1 and parent_id = $2",
    )
    .bind(shard)
    .bind(id)
    .fetch_one(pool)
    .await?;
    Ok(Some(Details { summary, state, undos, journal, effects, children, open_children }))
}

/// The ledger of one instance, in the order of its steps. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn effects(tx: &mut PgConnection, id: Uuid) -> Result<Vec<EffectEntry>, sqlx::Error> {
    sqlx::query_as(concat!(
        "-- name: inspect effects
        select e.saga_id, e.step_no, e.kind, e.reference, e.undo_reference, ",
        readable_amount!("e"),
        ", e.status, e.at, e.settled_at
        from saga.effect e where e.shard = $1 and e.saga_id = $2 order by e.step_no"
    ))
    .bind(shard_in(id))
    .bind(id)
    .fetch_all(tx)
    .await
}

/// Those of the subjects whose money is in doubt: an effect with an amount was tried, and what became of it is still to be found
/// out. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn in_doubt(
    tx: &mut PgConnection,
    subjects: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- name: inspect in doubt
        select distinct i.subject
        from unnest($1::smallint[], $2::text[]) as asked(shard, subject)
        join saga.instance i using (shard, subject)
        join saga.effect e using (shard, saga_id)
        where i.waiting_on is not null and (i.unsettled or i.status <> 'running')
            and e.status = 'intent' and e.amount is not null",
    )
    .bind(subjects.iter().map(|subject| shard_of(subject)).collect::<Vec<_>>())
    .bind(subjects)
    .fetch_all(tx)
    .await
}

impl EffectEntry {
    /// The key under which the provider was called.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of_step(self.saga_id, self.step_no)
    }

    /// The key under which the effect is taken back, unless an operator decided the undo anew.
    #[must_use]
    pub fn undo_key(&self) -> Key {
        Key::of_undo(self.saga_id, self.step_no, None)
    }
}

impl Summary {
    /// Will nothing happen to it any more?
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.waiting_on.is_none()
    }

    /// The thing that it waits on as JSON, with its details: the activity and since when, or until when, or why.
    #[must_use]
    pub fn waiting_on(&self) -> Option<Value> {
        let kind = self.waiting_on?;
        let mut waiting = json!({ "on": kind });
        match kind {
            WaitingOn::Activity | WaitingOn::Worker => waiting["since"] = json!(self.updated_at),
            WaitingOn::Retry | WaitingOn::Timer => waiting["until"] = json!(self.wake_at),
            WaitingOn::Signal if self.wake_at.is_some() => waiting["until"] = json!(self.wake_at),
            WaitingOn::Operator => waiting["why"] = json!(self.last_error),
            WaitingOn::Signal | WaitingOn::Children | WaitingOn::Parent | WaitingOn::Version => {}
        }
        if matches!(kind, WaitingOn::Activity | WaitingOn::Retry)
            && let Some(activity) =
                self.pending.pointer("/call/activity").or_else(|| self.pending.pointer("/run/step"))
        {
            waiting["step"] = json!(name_of(activity));
            waiting["attempt"] = json!(self.attempt + 1);
        }
        Some(waiting)
    }
}

/// A step's name: the variant of its enum.
#[must_use]
pub fn name_of(step: &Value) -> Option<&str> {
    step.as_str().or_else(|| step.as_object()?.keys().next().map(String::as_str))
}

/// A worker process.
#[derive(Debug, Clone, FromRow)]
pub struct WorkerRow {
    /// New at every start.
    pub worker_id: Uuid,
    /// As configured.
    pub name: String,
    /// [[name, version], ..] it can drive.
    pub kinds: Value,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Until when it holds its instances.
    pub lease_until: DateTime<Utc>,
    /// Is its lease still running?
    pub alive: bool,
    /// How many instances it holds.
    pub holds: i64,
}

/// Every worker process that holds or held a lease lately. Round trips: 1.
///
/// # Errors
/// The database's.
pub async fn workers(pool: &PgPool) -> Result<Vec<WorkerRow>, sqlx::Error> {
    sqlx::query_as(
        "-- name: inspect workers
        select w.worker_id, w.name, w.kinds, w.started_at, w.lease_until, w.lease_until > clock_timestamp() as alive,
            (select count(*) from saga.instance i where i.owner = w.worker_id) as holds
        from saga.worker w order by w.started_at",
    )
    .fetch_all(pool)
    .await
}
