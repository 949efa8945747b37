//! A worker: one process that holds a lease, owns instances and drives many of them at once, on apalis.
//!
//! Roles: the **lease** (one row, renewed on a connection of its own), the **claimer** (finds what is due, as much as there is room
//! for), the **sweep** (takes over from dead workers, and drives what this worker owns and does not drive), the **upkeep** (schedules,
//! deadlines, queues, pauses, bulks), the **batchers** (group commit) and apalis' `Monitor`, which runs the [`crate::worker::backend::Leases`] and drains them at shutdown.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    base::{
        id::{SHARDS, shard_in},
        status::Status,
    },
    database::{in_time, trouble::Trouble},
    instance::{Instance, upcast},
    record::{commit::Wake, kinds::Kinds, row::Row},
    saga::Saga,
    store::{self, instance::Fence},
    worker::{
        batcher::Batcher,
        config::WorkerConfig,
        driving::{Driven, Driving, Origin, Reserved, Suspect},
        engine::Engine,
        hooks::Hooks,
        lease::Lease,
        together::Gatherings,
    },
};

/// The state that the drivers of one worker share. It lasts as long as its lease row.
pub(crate) struct Worker {
    pub(crate) pool: PgPool,
    pub(crate) lease: Lease,
    pub(crate) engine: Engine,
    pub(crate) hooks: Hooks,
    batchers: Vec<Batcher>,
    room: Arc<Semaphore>,
    incoming: mpsc::UnboundedSender<Driven>,
    /// The channel to the quarantine. `None`: suspects are driven in this process.
    suspects: Option<mpsc::UnboundedSender<Suspect>>,
    /// This worker drives one step of each instance only.
    pub(crate) one_step: bool,
    /// Set where no other living process works under this name.
    pub(crate) sole_name: Option<String>,
    /// The instances that wait for a step that they do together.
    pub(crate) gatherings: Gatherings,
    drivers: TaskTracker,
    driving: Arc<Driving>,
    pub(crate) hint: Notify,
    /// Asks for a pass over the upkeep tasks at once.
    pub(crate) upkeep: Notify,
    paused: RwLock<Vec<String>>,
    /// A child has ended in this process since the claim loop last looked for parents to wake.
    pub(crate) child_ended: AtomicBool,
    pub(crate) stop: CancellationToken,
    /// Of all drivers that read their rows again.
    pub(crate) reading: Trouble,
    /// Running bulks that this build cannot read.
    pub(crate) bulks_of_newer: Trouble,
}

/// The parts with which a worker begins, beside its [`WorkerConfig`].
pub(crate) struct Opening {
    pub(crate) lease: Lease,
    /// Sagas that are paused.
    pub(crate) paused: Vec<String>,
    pub(crate) batchers: Vec<Batcher>,
    pub(crate) incoming: mpsc::UnboundedSender<Driven>,
    /// The channel to the quarantine, if the worker has one.
    pub(crate) suspects: mpsc::UnboundedSender<Suspect>,
    pub(crate) one_step: bool,
    pub(crate) stop: CancellationToken,
}

impl Worker {
    /// A worker that has its lease row and drives nothing yet.
    pub(crate) fn open(engine: &Engine, config: &WorkerConfig, with: Opening) -> Arc<Self> {
        Arc::new(Self {
            pool: engine.pool().clone(),
            lease: with.lease,
            engine: engine.clone(),
            hooks: config.hooks.clone(),
            batchers: with.batchers,
            room: Arc::new(Semaphore::new(config.room)),
            incoming: with.incoming,
            suspects: config.quarantine.as_ref().map(|_| with.suspects),
            one_step: with.one_step,
            sole_name: config.sole.then(|| config.name.clone()),
            gatherings: Gatherings::default(),
            drivers: TaskTracker::new(),
            driving: Arc::default(),
            hint: Notify::new(),
            upkeep: Notify::new(),
            paused: RwLock::new(with.paused),
            child_ended: AtomicBool::new(false),
            stop: with.stop,
            reading: Trouble::new("instances cannot be read; trying again"),
            bulks_of_newer: Trouble::new("bulks are left to workers of a newer build"),
        })
    }

    pub(crate) fn batcher(&self, shard: i16) -> &Batcher {
        &self.batchers[shard as usize * self.batchers.len() / SHARDS as usize]
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn holds_lease(&self) -> bool {
        self.lease.is_held()
    }

    /// Is no instance of that saga to be driven for now?
    pub(crate) fn is_paused(&self, name: &str) -> bool {
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        paused.iter().any(|one| one == name)
    }

    /// These sagas are paused, others are not.
    pub(crate) fn pause(&self, names: Vec<String>) {
        let mut paused = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        if *paused != names {
            tracing::info!(?names, "paused sagas");
            *paused = names;
            self.hint.notify_one();
        }
    }

    /// The sagas that are driven here now.
    pub(crate) fn driven(&self) -> Kinds {
        self.engine.kinds().into_iter().filter(|kind| !self.is_paused(kind.name)).collect()
    }

    /// The lease row is gone: other workers have taken everything over.
    pub(crate) fn lost(&self) {
        self.lease.lose();
        self.stop.cancel();
    }

    /// After a commit: wake the claimer in time, tell those who wait for the end.
    pub(crate) fn committed(&self, id: Uuid, status: Status, wake: &Wake) {
        if wake.delay().is_some_and(|delay| delay < Duration::from_secs(2)) {
            self.hint.notify_one();
        }
        if status.is_final() || status.needs_operator() {
            self.engine.wake_waiters(id);
        }
        if matches!(status, Status::Unwound | Status::Abandoned) {
            // This end is rare, and another instance may wait for it (`crate::upkeep::ends`). An end as `completed` is seen in the next pass.
            self.upkeep.notify_one();
        }
    }

    /// After the end of a queued instance was committed: another one may be admitted.
    pub(crate) fn left_queue(&self) {
        self.upkeep.notify_one();
    }

    /// After a child's end was committed: its parent may be waiting for it.
    pub(crate) fn child_ended(&self) {
        if !self.child_ended.swap(true, Ordering::Relaxed) {
            self.hint.notify_one();
        }
    }

    /// Reads a row, and its kept signals, into an instance.
    pub(crate) async fn load<S: Saga>(
        &self,
        row: Row,
    ) -> Result<Box<Instance<S>>, crate::instance::upcast::Unreadable> {
        let (kept, build) = (row.progress.kept > 0, row.build);
        let mut instance = Box::new(Instance::<S>::from_row(row)?);
        if kept {
            let asking = store::kept_signals(&self.pool, instance.shard, instance.id);
            let kept_signals = in_time(asking).await?;
            for (id, signal, version) in kept_signals {
                let signal = upcast::signal::<S>(version, &signal);
                instance.kept.push_back((id, signal.map_err(|misfit| misfit.of_build(build))?));
            }
        }
        Ok(instance)
    }

    /// A permit to drive one more instance, if there is room.
    pub(crate) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.is_stopping() || !self.holds_lease() {
            return None;
        }
        self.room.clone().try_acquire_owned().ok()
    }

    pub(crate) fn free_permits(&self) -> usize {
        if self.is_stopping() || !self.holds_lease() { 0 } else { self.room.available_permits() }
    }

    /// Up to `most` permits.
    pub(crate) fn permits(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| self.permit()).take(most).collect()
    }

    pub(crate) fn hand(&self, driven: Driven) {
        // The receiver lives as long as the worker. Afterwards the row waits until the lease runs out.
        let _ = self.incoming.send(driven);
    }

    /// The fence of an instance that this worker owns in this epoch, at this seq if one is given.
    pub(crate) fn fence(&self, id: Uuid, epoch: i32, seq: Option<i32>) -> Fence {
        Fence { shard: shard_in(id), id, owner: self.lease.worker_id, epoch, seq }
    }

    pub(crate) fn drives(&self, id: Uuid) -> bool {
        self.driving.contains(id)
    }

    /// Counts an instance as driven here until the returned value is dropped.
    pub(crate) fn reserve(&self, id: Uuid) -> Reserved {
        self.driving.reserve(id)
    }

    pub(crate) fn claimed(&self, row: Row, permit: OwnedSemaphorePermit) {
        if let Some(suspects) = self.suspects.as_ref().filter(|_| row.suspect) {
            // The channel is closed if this worker is ending. The row then waits until the lease runs out.
            let _ = suspects.send(Suspect { reserved: self.reserve(row.saga_id), _permit: permit });
            return;
        }
        match self.engine.kind(&row.saga.name) {
            Some(kind) => self.hand(Driven {
                id: row.saga_id,
                name: kind.name(),
                reserved: self.reserve(row.saga_id),
                origin: Origin::Row(Box::new(row)),
                permit,
            }),
            None => tracing::error!(saga = row.saga.name, "claimed an instance of an unknown saga"),
        }
    }

    /// Starts a task that drives an instance. The end of the worker waits for it.
    pub(crate) fn begin(self: &Arc<Self>, driven: Driven) -> JoinHandle<()> {
        self.drivers.spawn(self.clone().drive(driven))
    }

    /// Starts another task. The end of the worker waits for it.
    pub(crate) fn beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.drivers.spawn(task);
    }

    /// Drives one instance until it parks.
    async fn drive(self: Arc<Self>, driven: Driven) {
        let Driven { id, name, origin, permit, reserved } = driven;
        let epoch = origin.epoch();
        if let Some(kind) = self.engine.kind(name) {
            let outcome = AssertUnwindSafe(kind.drive(self.clone(), origin)).catch_unwind().await;
            if outcome.is_err() {
                self.panicked(id, epoch).await;
            }
        }
        drop(reserved);
        drop(permit);
        if self.room.available_permits() == 1 {
            self.hint.notify_one();
        }
    }

    /// The row of an instance that was started here; `None` if it is not there (its transaction was rolled back, or has not ended yet) or not ours.
    pub(crate) async fn row_of_started(&self, id: Uuid) -> Option<Box<Row>> {
        let epoch = Origin::Unread(id).epoch();
        let is_ours = |row: &Row| row.epoch == epoch && row.owner == Some(self.lease.worker_id);
        match in_time(store::instance(&self.pool, shard_in(id), id)).await {
            Ok(row) => row.filter(is_ours).map(Box::new),
            Err(error) => {
                tracing::warn!(saga_id = %id, %error, "left to the sweep");
                None
            }
        }
    }
}

impl Worker {
    /// Called when the Monitor has stopped. Begins the instances that were handed over and not begun, which gives them back at once, because the
    /// worker stops. Then waits for all drivers, but not longer than `until`.
    pub(crate) async fn drained(
        self: &Arc<Self>,
        handed: &crate::worker::driving::Handed,
        until: tokio::time::Instant,
    ) {
        while let Ok(driven) = handed.lock().unwrap_or_else(PoisonError::into_inner).try_recv() {
            drop(self.begin(driven));
        }
        self.drivers.close();
        if tokio::time::timeout_at(until, self.drivers.wait()).await.is_err() {
            tracing::warn!(
                left = self.drivers.len(),
                "the worker did not drain in time; instances in flight wait until its lease runs out"
            );
        }
    }

    /// Pure code of a saga (its terms, its reason for being called off) panicked: the instance gets stuck, and the worker continues.
    async fn panicked(&self, id: Uuid, epoch: i32) {
        let why = "the saga panicked";
        tracing::error!(saga_id = %id, why);
        // If the database is away, the sweep finds the instance again.
        match in_time(store::stick(&self.pool, &self.fence(id, epoch, None), why)).await {
            Ok(()) => self.engine.wake_waiters(id),
            Err(error) => {
                tracing::error!(saga_id = %id, %error, "an instance could not be marked stuck")
            }
        }
    }
}
