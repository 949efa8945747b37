//! Starting instances inside the caller's transaction.

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    base::{
        failure::Failure,
        id::shard_of,
        limits::{Limit, Refused, Unstorable},
        status::Status,
    },
    instance::{Instance, Pending, birth::unborn},
    record::commit::Birth,
    saga::{Saga, start::Start, steps::StepError},
    store::birth::{insert, is_already_open},
    worker::{
        engine::Engine,
        held::{Held, Position},
        shift::Shift,
    },
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

impl StartError {
    /// May the same start succeed when the caller runs its transaction again, although nobody changes the code, the schema or the data? An
    /// instance that is open already may be open for long, so it does not count.
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Database(error) => Failure::of(error).is_worth_retrying(),
            Self::Step(error) => error.is_worth_retrying(),
            Self::AlreadyOpen { .. }
            | Self::Unknown(_)
            | Self::Broken(_)
            | Self::OverLimit(_)
            | Self::Unstorable(_) => false,
        }
    }
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OverLimit(limit) => limit.into(),
            Refused::Unstorable(unstorable) => unstorable.into(),
        }
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
        start.check()?;
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
            let owner = place.as_ref().and(shift.as_ref()).map(|shift| shift.lease.worker_id);
            let commit = instance.commit();
            commit.check()?;
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
