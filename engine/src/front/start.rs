//! Starting instances inside the caller's transaction.

use std::sync::Arc;

use sqlx::PgConnection;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::{
    base::{
        failure::Failure,
        id::shard_of,
        limits::{Limit, Refused, Unstorable},
        status::Status,
    },
    instance::{Instance, Pending, new_instance::before_first_step},
    record::commit::NewInstance,
    saga::{Saga, start::Start, steps::StepError},
    store::new_instance::{insert, insert_unless_open, is_already_open},
    worker::{
        drives::Begins,
        driving::{Driven, Origin},
        engine::Engine,
        hand_over::{HandOver, Starts},
        state::Worker,
        step_tx::StepsTx,
    },
};

/// Why an instance could not be started. Nothing remains of the start, and the transaction goes on, unless the database says otherwise.
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
    /// The database failed. The transaction is to be rolled back.
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

/// A started instance. It becomes real with the commit.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
/// # async fn f(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = engine.begin().await?;
/// let Started { id, status } = engine.start::<Seat>(&mut tx, Start::new("guest 7", 7)).await?;
/// if status == Status::Unwinding {
///     tx.rollback().await?; // no seat is free: as if nobody had asked
/// } else {
///     tx.commit().await?;
///     println!("follow it by its id, {id}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The instance's id.
    pub id: Uuid,
    /// How far the first chain got.
    pub status: Status,
}

/// The result of [`Engine::start_once`].
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
/// # async fn f(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = engine.begin().await?;
/// let start = Start::new("guest 7", 7).key("request 40f1");
/// let id = match engine.start_once::<Seat>(&mut tx, start).await? {
///     Once::Now(started) => started.id,
///     Once::Before(id) => id, // the same request was sent twice
/// };
/// tx.commit().await?;
/// # let _ = id;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// It is started.
    Now(Started),
    /// It was started before: its id.
    Before(Uuid),
}

/// A savepoint before a start that may fail after it has written something.
const BEFORE: &str = "-- name: before a start\nsavepoint before_a_start";

const UNDO: &str =
    "-- name: undo a start\nrollback to savepoint before_a_start; release savepoint before_a_start";

const KEEP: &str = "-- name: keep a start\nrelease savepoint before_a_start";

impl Engine {
    /// Starts one instance. Its first chain runs in `tx`; nothing remains of it if the caller rolls back.
    ///
    /// Round trips: 1. If the start runs a first chain or begins with children: 2 more, and those of the chain's steps. Row operations: 2 (instance,
    /// journal), 1 more if its first activity declares an effect. It is the last row lock to take ([`crate`] has the lock order).
    ///
    /// # Errors
    /// [`StartError`]; nothing remains of the start, and the transaction goes on. After an error of the database it is aborted, and is to be rolled back.
    pub async fn start<S: Saga>(
        &self,
        tx: &mut impl Starts,
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
    /// [`StartError`]; nothing remains of the start, and the transaction goes on. After an error of the database it is aborted, and is to be rolled back.
    pub async fn start_once<S: Saga>(
        &self,
        tx: &mut impl Starts,
        start: Start<S::Input>,
    ) -> Result<Once, StartError> {
        start.check()?;
        sqlx::query("-- name: lock start\nselect pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}/{}/{}", S::NAME, start.subject, start.start_key))
            .execute(&mut *tx.parts().0)
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
        .fetch_optional(&mut *tx.parts().0)
        .await?;
        match earlier {
            Some(id) => Ok(Once::Before(id)),
            None => Ok(Once::Now(self.start::<S>(tx, start).await?)),
        }
    }

    /// Starts many. Round trips: 1 per 1,000. If a start runs a first chain or begins with children: 2 more, and those of the chains' steps. Row
    /// operations: 2 each.
    ///
    /// # Errors
    /// [`StartError`]; none is started then, and the transaction goes on. After an error of the database it is aborted, and is to be rolled back.
    pub async fn start_many<S: Saga>(
        &self,
        tx: &mut impl Starts,
        starts: Vec<Start<S::Input>>,
    ) -> Result<Vec<Started>, StartError> {
        let begins = self.begins::<S>().ok_or(StartError::Unknown(S::NAME))?;
        let (tx, hand_over) = tx.parts();
        let mut starting = Starting {
            engine: self,
            begins: &**begins,
            worker: self.worker(),
            instances: Vec::new(),
        };
        for start in starts {
            starting.decide(start)?;
        }
        if starting.are_rows() {
            starting.write_rows(tx).await?;
        } else {
            sqlx::raw_sql(BEFORE).execute(&mut *tx).await?;
            // The instances that a chain starts are undone with the chain.
            let mut of_chains = HandOver::default();
            if let Err(error) = starting.write_all(tx, &mut of_chains).await {
                sqlx::raw_sql(UNDO).execute(&mut *tx).await?;
                return Err(error);
            }
            sqlx::raw_sql(KEEP).execute(&mut *tx).await?;
            hand_over.add(of_chains);
        }
        Ok(starting.handed_to(hand_over))
    }
}

/// Instances of one saga that are being started.
struct Starting<'a, S: Saga> {
    engine: &'a Engine,
    begins: &'a dyn Begins<S>,
    /// The worker of this process, if it runs one.
    worker: Option<Arc<Worker>>,
    instances: Vec<ToStart<S>>,
}

struct ToStart<S: Saga> {
    start: Start<S::Input>,
    instance: Box<Instance<S>>,
    /// The permit of the worker of this process, if that has room.
    permit: Option<OwnedSemaphorePermit>,
}

impl<S: Saga> Starting<'_, S> {
    /// The first decision. Pure.
    fn decide(&mut self, start: Start<S::Input>) -> Result<(), StartError> {
        start.check()?;
        let instance = before_first_step::<S>(shard_of(&start.subject), &start)
            .map_err(|forbidden| StartError::Broken(forbidden.to_string()))?;
        self.instances.push(ToStart { start, instance, permit: None });
        Ok(())
    }

    /// Are they mere rows, which one statement writes with all that belongs to them?
    fn are_rows(&self) -> bool {
        self.instances.iter().all(|ToStart { instance, .. }| {
            !matches!(instance.pending, Pending::Run { .. }) && !instance.family.is_needed()
        })
    }

    async fn write_rows(&mut self, tx: &mut PgConnection) -> Result<(), StartError> {
        let new_instances = self.new_instances()?;
        if insert_unless_open(tx, &new_instances, self.notifies(&new_instances)).await? {
            return Ok(());
        }
        Err(self.already_open())
    }

    async fn write_all(
        &mut self,
        tx: &mut PgConnection,
        started: &mut HandOver,
    ) -> Result<(), StartError> {
        for ToStart { instance, .. } in &mut self.instances {
            if matches!(instance.pending, Pending::Run { .. }) {
                let steps_tx =
                    StepsTx { connection: &mut *tx, started: &mut *started, engine: self.engine };
                self.begins.chain(steps_tx, instance).await?;
            }
        }
        let new_instances = self.new_instances()?;
        insert(tx, &new_instances, self.notifies(&new_instances)).await.map_err(|error| {
            if is_already_open(&error) { self.already_open() } else { error.into() }
        })
    }

    fn new_instances(&mut self) -> Result<Vec<NewInstance>, StartError> {
        let Self { worker, instances, .. } = self;
        instances.iter_mut().map(|one| one.new_instance(worker.as_deref())).collect()
    }

    /// Are workers of other processes to be woken?
    fn notifies(&self, new_instances: &[NewInstance]) -> bool {
        let waits = |new: &NewInstance| {
            new.commit.wake.delay().is_some() || new.options.queue_key.is_some()
        };
        self.worker.is_none() && new_instances.iter().any(waits)
    }

    fn already_open(&self) -> StartError {
        let subject =
            self.instances.first().map(|one| one.start.subject.clone()).unwrap_or_default();
        StartError::AlreadyOpen { saga: S::NAME, subject }
    }

    /// They are written.
    fn handed_to(self, hand_over: &mut HandOver) -> Vec<Started> {
        let Self { worker, instances, .. } = self;
        let each = instances.into_iter().map(|ToStart { start, mut instance, permit }| {
            instance.committed();
            let (id, status) = (instance.id, instance.status);
            if let Some(worker) = &worker {
                if let Some(permit) = permit {
                    let (name, reserved) = (S::NAME, worker.reserve(id));
                    let origin = Origin::Started(instance);
                    hand_over.add_started(worker, Driven { id, name, origin, permit, reserved });
                } else if start.queue_key.is_some() && status == Status::Running {
                    hand_over.queue(worker);
                }
            }
            Started { id, status }
        });
        each.collect()
    }
}

impl<S: Saga> ToStart<S> {
    /// The rows to write. The worker of this process owns the instance if it has a permit; else the instance is due for any worker.
    fn new_instance(&mut self, worker: Option<&Worker>) -> Result<NewInstance, StartError> {
        let Self { start, instance, permit } = self;
        let is_driven = !instance.parks() && start.queue_key.is_none();
        let worker = worker.filter(|worker| is_driven && !worker.is_paused(S::NAME));
        *permit = worker.and_then(Worker::permit);
        if permit.is_none() && !instance.parks() {
            instance.make_due();
        }
        let commit = instance.commit();
        commit.check()?;
        let owner = permit.as_ref().and(worker).map(|worker| worker.lease.worker_id);
        Ok(NewInstance { name: S::NAME, commit, options: start.options(), parent: None, owner })
    }
}
