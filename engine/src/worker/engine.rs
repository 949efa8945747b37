//! The engine as a process sees it: the sagas it knows, the database, and the worker that may run beside it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use sqlx::PgPool;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    instance::upcast::{Misfit, Unreadable},
    record::{
        kinds::{Kinds, SagaVersion},
        row::Row,
    },
    saga::{CalledOff, Saga},
    worker::{
        drives::{Begins, CalledOffRow, Drives},
        state::Worker,
    },
};

/// Starts and signals instances, inside the caller's transactions; [`crate::work`] drives them. Cheap to clone.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
/// # async fn f(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::builder(pool).saga::<Seat, _>(Workshop).build();
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// let working = tokio::spawn(work(engine.clone(), WorkerConfig::default(), stop));
///
/// let mut tx = engine.begin().await?;
/// let seat = engine.start::<Seat>(&mut tx, Start::new("guest 7", 7)).await?;
/// tx.commit().await?; // durable: it ends, whatever dies
///
/// let mut tx = engine.begin().await?;
/// engine.signal::<Seat>(&mut tx, seat.id, "host-1", Signal::Confirms).await?;
/// tx.commit().await?;
/// working.await??;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    kinds: HashMap<&'static str, Arc<dyn Drives>>,
    begins: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    worker: RwLock<Weak<Worker>>,
    /// The callers in this process that wait for the end of an instance.
    waiting: Mutex<HashMap<Uuid, watch::Sender<()>>>,
}

/// Collects the sagas of an engine.
///
/// ```
/// # mod seat { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/seat.rs")); }
/// # use seat::*;
/// # use stepwise_engine::*;
///
/// /// The sagas of this program, each with the value that does its steps.
/// fn sagas(builder: EngineBuilder) -> EngineBuilder {
///     builder.saga::<Seat, _>(Workshop)
/// }
///
/// # async fn f(pool: sqlx::PgPool) {
/// let engine = sagas(Engine::builder(pool)).build();
/// assert_eq!(engine.kinds(), [SagaVersion { name: "seat", version: 1 }]);
/// # }
/// ```
pub struct EngineBuilder {
    pool: PgPool,
    kinds: HashMap<&'static str, Arc<dyn Drives>>,
    begins: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl EngineBuilder {
    /// The pool of the engine to be.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Adds a saga that is ready to be driven.
    ///
    /// # Panics
    /// When its name is taken.
    #[must_use]
    pub(crate) fn add<S: Saga>(
        mut self,
        kind: Arc<dyn Drives>,
        begins: Box<dyn Any + Send + Sync>,
    ) -> Self {
        self.begins.insert(TypeId::of::<S>(), begins);
        let earlier = self.kinds.insert(S::NAME, kind);
        assert!(earlier.is_none(), "two sagas are named {}", S::NAME);
        self
    }

    /// The engine.
    #[must_use]
    pub fn build(self) -> Engine {
        let Self { pool, kinds, begins } = self;
        let inner =
            Inner { pool, kinds, begins, worker: RwLock::default(), waiting: Mutex::default() };
        Engine { inner: Arc::new(inner) }
    }
}

impl Engine {
    /// An engine on a migrated database ([`crate::migrate`]).
    #[must_use]
    pub fn builder(pool: PgPool) -> EngineBuilder {
        EngineBuilder { pool, kinds: HashMap::new(), begins: HashMap::new() }
    }

    /// Its database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// The names and versions of its sagas.
    #[must_use]
    pub fn kinds(&self) -> Vec<SagaVersion<&'static str>> {
        let kinds = self.inner.kinds.values();
        kinds.map(|kind| SagaVersion { name: kind.name(), version: kind.version() }).collect()
    }

    /// The same as statements take them.
    pub(crate) fn known(&self) -> Kinds {
        self.kinds().into_iter().collect()
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Arc<dyn Drives>> {
        self.inner.kinds.get(name)
    }

    /// Unwinds the instance of a locked row from outside.
    pub(crate) fn call_off(
        &self,
        row: Row,
        why: CalledOff<Infallible>,
    ) -> Result<CalledOffRow, Unreadable> {
        match self.kind(&row.saga.name) {
            Some(kind) if kind.version() >= row.saga.version => kind.call_off(row, why),
            _ => Err(Misfit::Unknown(row.saga).into()),
        }
    }

    pub(crate) fn begins<S: Saga>(&self) -> Option<&Arc<dyn Begins<S>>> {
        self.inner.begins.get(&TypeId::of::<S>())?.downcast_ref()
    }

    /// The worker of this process, if it runs one.
    pub(crate) fn worker(&self) -> Option<Arc<Worker>> {
        self.inner.worker.read().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    pub(crate) fn begin_worker(&self, worker: &Arc<Worker>) {
        *self.inner.worker.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(worker);
    }

    pub(crate) fn end_worker(&self, worker: &Arc<Worker>) {
        let mut current = self.inner.worker.write().unwrap_or_else(PoisonError::into_inner);
        if current.upgrade().is_some_and(|open| Arc::ptr_eq(&open, worker)) {
            *current = Weak::new();
        }
    }

    /// How many more instances the worker of this process would drive at once; 0 without one, or when it stops.
    #[must_use]
    pub fn room(&self) -> usize {
        self.worker().map_or(0, |worker| worker.free_permits())
    }

    /// Whether this process runs a worker that holds its lease.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.worker().is_some_and(|worker| !worker.is_stopping() && worker.holds_lease())
    }

    /// Wakes the callers in this process that wait for this instance to end or to need a person.
    pub(crate) fn wake_waiters(&self, id: Uuid) {
        if let Some(waiting) =
            self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&id)
        {
            waiting.send_replace(());
        }
    }

    /// A receiver that changes when an instance ends or gets stuck in this process. A hint: look at the row, and look again now and
    /// then, since another process may have ended it.
    #[must_use]
    pub fn watch(&self, id: Uuid) -> watch::Receiver<()> {
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.entry(id).or_insert_with(|| watch::channel(()).0).subscribe()
    }
}
