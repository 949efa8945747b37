//! Starting instances inside the caller's transaction.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    claim::WAKE_CHANNEL,
    commit::Commit,
    engine::Engine,
    id::{new_id, shard_of},
    instance::{Entry, Instance, Pending},
    saga::Saga,
    status::Status,
    steps::StepError,
    store,
    worker::{Held, Position, Shift},
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
    /// A step of the first chain failed.
    #[error("the first chain failed: {0}")]
    Step(#[from] StepError),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// A row whose JSON does not fit its types (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("its stored data does not fit: {0}")]
    Json(#[from] serde_json::Error),
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}

/// One instance to start.
#[derive(Debug, Clone)]
pub struct Start<I> {
    /// What it is about.
    pub subject: String,
    /// Tells apart several open instances of one subject; empty where there is only one.
    pub start_key: String,
    /// What [`Saga::start`] gets.
    pub input: I,
}

impl<I> Start<I> {
    /// The only open instance of its subject.
    pub fn new(subject: impl Into<String>, input: I) -> Self {
        Self { subject: subject.into(), start_key: String::new(), input }
    }
}

/// A started instance. It becomes real with the caller's commit; hand it over then ([`Started::hand_over`]) to have it driven at once.
/// If it is dropped instead, the worker's sweep finds it within about 4 seconds.
#[must_use = "hand it over after the commit"]
pub struct Started {
    /// The instance's id.
    pub id: Uuid,
    /// How far the first chain got.
    pub status: Status,
    held: Option<(std::sync::Arc<Shift>, Held)>,
}

impl Started {
    /// Drives it here and now, if this process runs a worker that had room. Call it after the commit.
    pub fn hand_over(self) {
        if let Some((shift, held)) = self.held {
            shift.hand(held);
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

    /// Starts many in one round trip; 2 row operations each.
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
        let mut keys = Vec::with_capacity(starts.len());
        for start in starts {
            instances.push(self.begin::<S>(tx, &start).await?);
            keys.push(start.start_key);
        }
        let places = instances
            .iter()
            .map(|instance| shift.as_ref().filter(|_| !instance.parks())?.place())
            .collect::<Vec<_>>();
        for (instance, place) in instances.iter_mut().zip(&places) {
            if place.is_none() && !instance.parks() {
                instance.release();
            }
        }
        let commits = instances.iter_mut().map(|instance| instance.commit()).collect::<Vec<_>>();
        let owners = places
            .iter()
            .map(|place| Some(shift.as_ref().filter(|_| place.is_some())?.worker_id))
            .collect();
        let subjects =
            instances.iter().map(|instance| instance.subject.as_str()).collect::<Vec<_>>();
        let notify = shift.is_none() && commits.iter().any(|commit| commit.wake.delay().is_some());
        insert(
            tx,
            &Births {
                name: S::NAME,
                version: S::VERSION as i16,
                commits: &commits,
                subjects: &subjects,
                keys: &keys,
                owners,
                notify,
            },
        )
        .await
        .map_err(|error| already_open::<S>(error, &subjects))?;
        Ok(instances
            .into_iter()
            .zip(places)
            .map(|(mut instance, place)| {
                instance.committed();
                let (id, status) = (instance.id, instance.status);
                let held = shift.clone().zip(place).map(|(shift, place)| {
                    (shift, Held { id, name: S::NAME, position: Position::Born(instance), place })
                });
                Started { id, status, held }
            })
            .collect())
    }

    async fn begin<S: Saga>(
        &self,
        tx: &mut PgConnection,
        start: &Start<S::Input>,
    ) -> Result<Box<Instance<S>>, StartError> {
        let begins = self.begins::<S>().ok_or(StartError::Unknown(S::NAME))?;
        let shard = shard_of(&start.subject);
        let mut next = S::start(start.input.clone());
        let Some(state) = next.state.take() else {
            return Err(StartError::Broken(format!("{} starts by unwinding", S::NAME)));
        };
        let mut instance =
            Box::new(Instance::<S>::unborn(shard, new_id(shard), start.subject.clone(), state));
        instance
            .decide(Entry::new("start", &start.input), next)
            .map_err(|forbidden| StartError::Broken(forbidden.to_string()))?;
        if matches!(instance.pending, Pending::Run { .. }) {
            begins.chain(tx, &mut instance).await?;
        }
        Ok(instance)
    }
}

fn already_open<S: Saga>(error: sqlx::Error, subjects: &[&str]) -> StartError {
    match error.as_database_error().and_then(|e| e.constraint()) {
        Some("one_open_instance_per_subject") => StartError::AlreadyOpen {
            saga: S::NAME,
            subject: subjects.first().copied().unwrap_or_default().to_owned(),
        },
        _ => error.into(),
    }
}

struct Births<'a> {
    name: &'static str,
    version: i16,
    commits: &'a [Commit],
    subjects: &'a [&'a str],
    keys: &'a [String],
    owners: Vec<Option<Uuid>>,
    notify: bool,
}

async fn insert(tx: &mut PgConnection, births: &Births<'_>) -> Result<(), sqlx::Error> {
    let commits = births.commits;
    let (modes, delays): (Vec<i16>, Vec<i64>) = commits.iter().map(|c| c.wake.encode()).unzip();
    let rows =
        commits.iter().flat_map(|c| c.journal.iter().map(move |row| (c, row))).collect::<Vec<_>>();
    let intents = commits.iter().filter_map(|c| Some((c, c.intent.as_ref()?))).collect::<Vec<_>>();
    sqlx::query(INSERT)
        .bind(births.name)
        .bind(births.version)
        .bind(commits.iter().map(|c| c.shard).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.id).collect::<Vec<_>>())
        .bind(births.subjects)
        .bind(births.keys)
        .bind(commits.iter().map(|c| c.status.as_str()).collect::<Vec<_>>())
        .bind(
            commits
                .iter()
                .map(|c| c.waiting_on.map(crate::status::WaitingOn::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(commits.iter().map(|c| c.state.as_str()).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.pending.as_str()).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.undos.as_str()).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.reason.as_deref()).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.past_pivot).collect::<Vec<_>>())
        .bind(commits.iter().map(|c| c.new_seq).collect::<Vec<_>>())
        .bind(&births.owners)
        .bind(modes)
        .bind(delays)
        .bind(rows.iter().map(|(c, _)| c.shard).collect::<Vec<_>>())
        .bind(rows.iter().map(|(c, _)| c.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.kind).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.event.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.step_no).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.next.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, row)| row.undo.as_deref()).collect::<Vec<_>>())
        .bind(intents.iter().map(|(c, _)| c.shard).collect::<Vec<_>>())
        .bind(intents.iter().map(|(c, _)| c.id).collect::<Vec<_>>())
        .bind(intents.iter().map(|(_, i)| i.step_no).collect::<Vec<_>>())
        .bind(intents.iter().map(|(_, i)| i.kind).collect::<Vec<_>>())
        .bind(intents.iter().map(|(_, i)| Some(i.amount.as_ref()?.0.as_str())).collect::<Vec<_>>())
        .bind(intents.iter().map(|(_, i)| Some(i.amount.as_ref()?.1.as_str())).collect::<Vec<_>>())
        .bind(births.notify.then_some(WAKE_CHANNEL))
        .execute(tx)
        .await
        .map(|_| ())
}

const INSERT: &str = "-- name: start instances
with clock as materialized (select saga.now() as now, clock_timestamp() as real),
born as (
    insert into saga.instance (shard, saga_id, name, version, subject, start_key, status, waiting_on, state, pending, undos,
        reason, past_pivot, epoch, seq, owner, wake_at, timer_at, created_at, updated_at)
    select b.shard, b.saga_id, $1, $2, b.subject, b.start_key, b.status, b.waiting_on, b.state::jsonb, b.pending::jsonb,
        b.undos::jsonb, b.reason::jsonb, b.past_pivot, 1, b.seq, b.owner,
        case when b.wake > 1 then c.now + b.delay_ms * interval '1 ms' end,
        case when b.wake = 3 then c.now + b.delay_ms * interval '1 ms' end, c.real, c.real
    from clock c, unnest($3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::text[], $13::boolean[], $14::integer[], $15::uuid[], $16::smallint[], $17::bigint[])
        as b(shard, saga_id, subject, start_key, status, waiting_on, state, pending, undos, reason, past_pivot, seq, owner,
            wake, delay_ms)
),
journalled as (
    insert into saga.journal (shard, saga_id, seq, at, kind, event, step_no, next, undo, epoch)
    select j.shard, j.saga_id, j.seq, c.real, j.kind, j.event::jsonb, j.step_no, j.next::jsonb, j.undo::jsonb, 1
    from clock c, unnest($18::smallint[], $19::uuid[], $20::integer[], $21::text[], $22::text[], $23::integer[], $24::text[],
        $25::text[]) as j(shard, saga_id, seq, kind, event, step_no, next, undo)
),
intended as (
    insert into saga.effect (shard, saga_id, step_no, kind, amount, currency, status, at)
    select i.shard, i.saga_id, i.step_no, i.kind, i.amount::numeric, i.currency, 'intent', c.real
    from clock c, unnest($26::smallint[], $27::uuid[], $28::integer[], $29::text[], $30::text[], $31::text[])
        as i(shard, saga_id, step_no, kind, amount, currency)
)
select pg_notify($32, '') where $32 is not null";

/// A claimed row that this binary cannot read waits for a person, with the reason, instead of being claimed again and again.
pub(crate) async fn stick_unreadable(shift: &Shift, shard: i16, id: Uuid, error: &Unreadable) {
    tracing::error!(saga_id = %id, %error, "an instance cannot be read");
    if matches!(error, Unreadable::Json(_))
        && let Err(error) =
            store::stick(&shift.pool, shard, id, shift.worker_id, &error.to_string()).await
    {
        tracing::error!(saga_id = %id, %error, "and cannot be marked stuck");
    }
}
