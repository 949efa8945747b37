//! Starting instances inside the caller's transaction.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    birth::{Birth, Start, unborn},
    build,
    claim::{ROUND, WAKE_CHANNEL},
    commit,
    database::in_time,
    engine::Engine,
    family,
    held::{Held, Position},
    id::shard_of,
    instance::{Instance, Pending},
    json::JsonText,
    limits::{self, Limit, Refused, Unstorable},
    row::row_type,
    saga::Saga,
    status::{Status, WaitingOn},
    steps::StepError,
    store::{self, Fence},
    upcast::Misfit,
    worker::Shift,
};

/// Why an instance could not be started. The caller's transaction is to be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An instance of that name, subject and start key is open.
    #[error("an instance of {saga} about {subject} is open already")]
    AlreadyOpen {
        /// The saga's name.
        saga: &'static str,
        /// The subject asked for (the first one, of several).
        subject: String,
    },
    /// The saga was not registered with this engine.
    #[error("{0} is not registered with this engine")]
    Unknown(&'static str),
    /// The saga's first transition is not allowed.
    #[error("{0}")]
    Broken(String),
    /// The input, or what the saga made of it, is too large.
    #[error(transparent)]
    OverLimit(#[from] Limit),
    /// The input, or what the saga made of it, cannot be stored; or a name holds NUL.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// A step of the first chain failed.
    #[error("the first chain failed: {0}")]
    Step(#[from] StepError),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => limit.into(),
            Refused::Unstorable(unstorable) => unstorable.into(),
        }
    }
}

/// A row that could not be read, or what was made of it not be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Stored(#[from] Misfit),
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// A started instance. It becomes real with the caller's commit; hand it over then ([`Started::hand_over`]) to have it driven at once.
/// If it is dropped instead, the worker's sweep finds it within about 4 seconds.
#[must_use = "hand it over after the commit"]
pub struct Started {
    /// The instance's id.
    pub id: Uuid,
    /// How far the first chain got.
    pub status: Status,
    shift: Option<Arc<Shift>>,
    held: Option<Held>,
    queued: bool,
}

/// What became of [`Engine::start_once`].
pub enum Once {
    /// It is started.
    Now(Started),
    /// It was started before: its id.
    Before(Uuid),
}

impl Started {
    /// Drives it here and now, if this process runs a worker that had room. Call it after the commit.
    pub fn hand_over(self) {
        match (self.shift, self.held) {
            (Some(shift), Some(held)) => shift.hand(held),
            (Some(shift), None) if self.queued => shift.round.notify_one(),
            _ => {}
        }
    }
}

impl Engine {
    /// Starts one instance. Its first chain runs in `tx`; nothing remains of it if the caller rolls back.
    ///
    /// Round trips: 1 (and those of the first chain's steps). Row operations: 2 (instance, journal), 1 more if its first activity
    /// declares an effect. It is the last row lock to take ([`crate`] has the lock order).
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start<S: Saga>(
        &self,
        tx: &mut PgConnection,
        start: Start<S::Input>,
    ) -> Result<Started, StartError> {
        let mut started = self.start_many::<S>(tx, vec![start]).await?;
        Ok(started.pop().expect("one start, one instance"))
    }

    /// Starts an instance, unless one of the same subject and start key was started before, open or ended: then nothing is done, and that
    /// one is answered. Two callers at the same time wait for each other.
    ///
    /// Round trips: 2, and those of [`Engine::start`] if it starts one.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_once<S: Saga>(
        &self,
        tx: &mut PgConnection,
        start: Start<S::Input>,
    ) -> Result<Once, StartError> {
        sqlx::query("-- name: lock start\nselect pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}/{}/{}", S::NAME, start.subject, start.start_key))
            .execute(&mut *tx)
            .await?;
        let earlier: Option<Uuid> = sqlx::query_scalar(
            "-- name: started before
            select saga_id from saga.instance where shard = $1 and subject = $2 and name = $3 and start_key = $4
            order by saga_id desc limit 1",
        )
        .bind(shard_of(&start.subject))
        .bind(&start.subject)
        .bind(S::NAME)
        .bind(&start.start_key)
        .fetch_optional(&mut *tx)
        .await?;
        match earlier {
            Some(id) => Ok(Once::Before(id)),
            None => Ok(Once::Now(self.start::<S>(tx, start).await?)),
        }
    }

    /// Starts many in one round trip per 1,000; 2 row operations each.
    ///
    /// # Errors
    /// [`StartError`]; none is started then.
    pub async fn start_many<S: Saga>(
        &self,
        tx: &mut PgConnection,
        starts: Vec<Start<S::Input>>,
    ) -> Result<Vec<Started>, StartError> {
        let shift = self.shift();
        let mut instances = Vec::with_capacity(starts.len());
        let mut births = Vec::with_capacity(starts.len());
        let mut places = Vec::with_capacity(starts.len());
        for start in &starts {
            start.check()?;
            let mut instance = self.begin::<S>(tx, start).await?;
            let place = match &shift {
                Some(shift)
                    if !instance.parks()
                        && start.queue_key.is_none()
                        && !shift.is_paused(S::NAME) =>
                {
                    shift.place()
                }
                _ => None,
            };
            if place.is_none() && !instance.parks() {
                instance.release();
            }
            let owner = place.as_ref().and(shift.as_ref()).map(|shift| shift.worker_id);
            let commit = instance.commit();
            limits::check(&commit)?;
            births.push(Birth {
                name: S::NAME,
                commit,
                options: start.options(),
                parent: None,
                owner,
            });
            instances.push(instance);
            places.push(place);
        }
        let notify = shift.is_none()
            && births.iter().any(|birth| {
                birth.commit.wake.delay().is_some() || birth.options.queue_key.is_some()
            });
        insert(tx, &births, notify).await.map_err(|error| already_open::<S>(error, &starts))?;
        Ok(instances
            .into_iter()
            .zip(places)
            .zip(&starts)
            .map(|((mut instance, place), start)| {
                instance.committed();
                let (id, status) = (instance.id, instance.status);
                let held = place.zip(shift.as_ref()).map(|(place, shift)| Held {
                    id,
                    name: S::NAME,
                    position: Position::Born(instance),
                    place,
                    reserved: shift.reserve(id),
                });
                let queued = start.queue_key.is_some() && status == Status::Running;
                Started { id, status, shift: shift.clone(), held, queued }
            })
            .collect())
    }

    async fn begin<S: Saga>(
        &self,
        tx: &mut PgConnection,
        start: &Start<S::Input>,
    ) -> Result<Box<Instance<S>>, StartError> {
        let begins = self.begins::<S>().ok_or(StartError::Unknown(S::NAME))?;
        let mut instance = unborn::<S>(shard_of(&start.subject), start)
            .map_err(|forbidden| StartError::Broken(forbidden.to_string()))?;
        if matches!(instance.pending, Pending::Run { .. }) {
            begins.chain(tx, &mut instance).await?;
        }
        Ok(instance)
    }
}

fn already_open<S: Saga>(error: sqlx::Error, starts: &[Start<S::Input>]) -> StartError {
    if !is_already_open(&error) {
        return error.into();
    }
    let subject = starts.first().map(|start| start.subject.clone()).unwrap_or_default();
    StartError::AlreadyOpen { saga: S::NAME, subject }
}

/// Does the database refuse a second open instance?
pub(crate) fn is_already_open(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.constraint()) == Some("one_open_instance_per_subject")
}

/// So many instances are inserted by one statement at most.
const BATCH: usize = 1_000;

/// Inserts instances, and those that their own first decisions start.
///
/// Round trips: 1 per 1,000 instances (and generation). Row operations: 2 each, 1 more for an effect.
///
/// # Errors
/// The database's; [`is_already_open`] tells one apart.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    births: &[Birth],
    notify: bool,
) -> Result<(), sqlx::Error> {
    for batch in births.chunks(BATCH) {
        insert_batch(tx, batch, notify).await?;
        let families =
            batch.iter().filter_map(|birth| Some((birth, birth.commit.family.as_deref()?)));
        for (birth, family) in families {
            family::expect_children(tx, &[(birth.commit.shard, birth.commit.id)]).await?;
            Box::pin(insert(tx, &family.births, false)).await?;
        }
    }
    Ok(())
}

/// A birth as the statement takes it: the row type `saga.birth`.
#[derive(sqlx::Encode)]
struct Newborn<'a> {
    shard: i16,
    saga_id: Uuid,
    name: &'static str,
    version: i16,
    subject: &'a str,
    start_key: &'a str,
    status: &'static str,
    waiting_on: Option<&'static str>,
    state: JsonText<'a>,
    pending: JsonText<'a>,
    undos: JsonText<'a>,
    reason: Option<JsonText<'a>>,
    past_pivot: bool,
    kept: i16,
    seq: i32,
    owner: Option<Uuid>,
    wake: i16,
    delay_ms: i64,
    parent_id: Option<Uuid>,
    parent_step: Option<i32>,
    held: bool,
    priority: i16,
    tags: Option<&'a str>,
    deadline_ms: Option<i64>,
    queue_key: Option<&'a str>,
    intent_no: Option<i32>,
    intent_kind: Option<&'static str>,
    intent_amount: Option<&'a str>,
    intent_currency: Option<&'a str>,
}

row_type!(Newborn, "saga.birth");

impl<'a> Newborn<'a> {
    fn of(birth: &'a Birth) -> Self {
        let Birth { name, commit, options, parent, owner } = birth;
        let (wake, delay_ms) = commit.wake.encode();
        let intent = commit.intent.as_ref();
        let amount = intent.and_then(|intent| intent.amount.as_ref());
        let ms = |delay: Duration| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
        Self {
            shard: commit.shard,
            saga_id: commit.id,
            name,
            version: commit.version,
            subject: &options.subject,
            start_key: &options.start_key,
            status: commit.status.as_str(),
            waiting_on: commit.waiting_on.map(WaitingOn::as_str),
            state: JsonText(&commit.state),
            pending: JsonText(&commit.pending),
            undos: JsonText(&commit.undos),
            reason: commit.reason.as_ref().map(JsonText),
            past_pivot: commit.past_pivot,
            kept: commit.kept,
            seq: commit.new_seq,
            owner: *owner,
            wake,
            delay_ms,
            parent_id: parent.map(|parent| parent.id),
            parent_step: parent.map(|parent| parent.step_no),
            held: parent.is_some_and(|parent| parent.holds),
            priority: options.priority.as_i16(),
            tags: options.tags.as_deref(),
            deadline_ms: options.deadline.map(ms),
            queue_key: options.queue_key.as_deref(),
            intent_no: intent.map(|intent| intent.step_no),
            intent_kind: intent.map(|intent| intent.kind),
            intent_amount: amount.map(|(amount, _)| amount.as_str()),
            intent_currency: amount.map(|(_, currency)| currency.as_str()),
        }
    }
}

async fn insert_batch(
    tx: &mut PgConnection,
    births: &[Birth],
    notify: bool,
) -> Result<(), sqlx::Error> {
    let queued = births.iter().any(|birth| birth.options.queue_key.is_some());
    sqlx::query(INSERT)
        .bind(births.iter().map(Newborn::of).collect::<Vec<_>>())
        .bind(commit::entries(births.iter().map(|birth| &birth.commit), 0))
        .bind(notify.then_some(WAKE_CHANNEL))
        .bind(if queued { ROUND } else { "" })
        .bind(build::made_at())
        .execute(tx)
        .await
        .map(|_| ())
}

const INSERT: &str = "-- name: start instances
with clock as materialized (select now() + offset_by as now, clock_timestamp() as real from saga.clock),
newborn as materialized (select * from unnest($1::saga.birth[])),
born as (
    insert into saga.instance (shard, saga_id, name, version, subject, start_key, status, waiting_on, state, pending, undos,
        reason, past_pivot, epoch, seq, owner, wake_at, timer_at, created_at, updated_at, ended_at, parent_id, parent_step, held,
        priority, tags, deadline_at, queue_key, queued, kept, build)
    select b.shard, b.saga_id, b.name, b.version, b.subject, b.start_key, b.status,
        case when q.queued then 'worker' else b.waiting_on end, b.state, b.pending, b.undos,
        b.reason, b.past_pivot, 1, b.seq, b.owner,
        case when b.wake > 1 and not q.queued then c.now + b.delay_ms * interval '1 ms' end,
        case when b.wake = 3 then c.now + b.delay_ms * interval '1 ms' end, c.real, c.real,
        case when b.waiting_on is null or b.waiting_on = 'parent' then c.real end, b.parent_id, b.parent_step, b.held,
        b.priority, b.tags::jsonb, c.now + b.deadline_ms * interval '1 ms', b.queue_key, q.queued, b.kept, $5
    from newborn b, clock c, lateral (select b.queue_key is not null and b.status = 'running' as queued) q
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, event, step_no, next, undo, epoch)
    select j.shard, j.saga_id, j.seq, c.real, j.kind, j.event, j.step_no, j.next, j.undo, j.epoch
    from unnest($2::saga.entry[]) j, clock c
),
intended as (
    insert into saga.effect (shard, saga_id, step_no, kind, amount, currency, status, at)
    select b.shard, b.saga_id, b.intent_no, b.intent_kind, b.intent_amount::numeric, b.intent_currency, 'intent', c.real
    from newborn b, clock c where b.intent_no is not null
)
select pg_notify($3, $4) where $3 is not null";

/// A held row that this binary cannot read is left to a newer one, if a newer version of the saga or a newer build has written it; otherwise it waits for a person, with the
/// reason, instead of being claimed again and again. While the database is away the sweep brings it back.
pub(crate) async fn give_up_unreadable(shift: &Shift, fence: &Fence, error: &Unreadable) {
    let (pool, id) = (&shift.pool, fence.id);
    let given_up = match error {
        Unreadable::Stored(misfit @ (Misfit::Unknown { .. } | Misfit::OfNewerBuild(_))) => {
            tracing::info!(saga_id = %id, %error, "left to a worker that knows it");
            let unread_by = matches!(misfit, Misfit::OfNewerBuild(_)).then(build::made_at);
            in_time(store::leave(pool, fence, unread_by)).await
        }
        Unreadable::Stored(misfit) => {
            tracing::error!(saga_id = %id, %error, "an instance cannot be read");
            in_time(store::stick(pool, fence, &misfit.to_string())).await
        }
        Unreadable::Database(_) | Unreadable::Unstorable(_) => {
            return tracing::warn!(saga_id = %id, %error, "left to the sweep");
        }
    };
    match given_up {
        Ok(()) => shift.engine.ended(id),
        Err(error) => tracing::error!(saga_id = %id, %error, "and could not be given up"),
    }
}
