//! A database, an engine that knows all test sagas, workers, and waits that end with what they wait for or with its absence named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{FromRow, PgPool, postgres::PgPoolOptions};
use stepwise_engine::{
    Engine, Saga, Start, WorkerConfig,
    hooks::Hooks,
    inspect, migrations,
    operate::{Instruction, Operated, Verb},
    testing::{Clock, Database, explore},
    work,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    counter::{Counter, CounterSteps},
    job::{Job, JobSteps},
    journey::{Journey, JourneySteps},
    odd::{Odd, OddSteps},
    order::{ORDER_TABLES, Order, OrderSteps},
    plain::{Five, FiveSteps},
    provider::{Behaviour, Provider},
    tasks::{Leaf, Root, TaskSteps},
};

/// No wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) db: Database,
    pub(crate) pool: PgPool,
    pub(crate) provider: Arc<Provider>,
    pub(crate) engine: Engine,
}

/// The data that operators would see of an instance.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Seen {
    pub(crate) status: String,
    pub(crate) waiting_on: Option<String>,
    pub(crate) state: String,
    pub(crate) undos: String,
    pub(crate) reason: Option<String>,
    pub(crate) attempt: i16,
    pub(crate) last_error: Option<String>,
    pub(crate) epoch: i32,
    pub(crate) seq: i32,
    pub(crate) owner: Option<Uuid>,
}

/// A worker of this process.
pub(crate) struct Worker {
    stop: CancellationToken,
    working: tokio::task::JoinHandle<Result<(), sqlx::Error>>,
}

impl Worker {
    /// Stops it as SIGTERM would.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.working.await.expect("a worker does not panic").expect("the database was there");
    }
}

/// A worker with a runtime and connections of its own, as a process has: nothing of it outlives it. It stops dead when its drivers have
/// passed so many sites, and waits to be replaced by another of its name.
pub(crate) struct Mortal {
    runtime: tokio::runtime::Runtime,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    pub(crate) fn new(world: &World, name: &str, dies_after: usize) -> Self {
        let dead = Arc::new(AtomicBool::new(false));
        let (left, dies) = (AtomicUsize::new(dies_after), dead.clone());
        let stops_at = move |_| {
            let last = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err();
            dies.fetch_or(last, Relaxed) || last
        };
        let hooks = Hooks { stops_at: Some(Arc::new(stops_at)), ..Hooks::default() };
        Self { runtime: Self::run(world, WorkerConfig { hooks, ..Self::config(name) }), dead }
    }

    /// One that does not die by itself, and whose lease lasts for so long.
    pub(crate) fn lasting(world: &World, name: &str, lease: Duration) -> Self {
        let runtime = Self::run(world, WorkerConfig { lease, ..Self::config(name) });
        Self { runtime, dead: Arc::default() }
    }

    fn config(name: &str) -> WorkerConfig {
        WorkerConfig { name: name.to_owned(), sole: true, batchers: 1, ..quick() }
    }

    fn run(world: &World, config: WorkerConfig) -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a machine that runs tests has threads");
        let (options, provider) = (world.db.options(), world.provider.clone());
        runtime.spawn(async move {
            let pool = PgPoolOptions::new().max_connections(6).connect_lazy_with(options);
            work(engine(pool, &provider), config, std::future::pending()).await
        });
        runtime
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

pub(crate) fn engine(pool: PgPool, provider: &Arc<Provider>) -> Engine {
    // It is odd: its pivot may be done after a signal has decided that it unwinds.
    assert_eq!(explore::<Odd>().faults.len(), 1);
    Engine::builder(pool)
        .explored::<Five, _>(FiveSteps(provider.clone()))
        .explored::<Job, _>(JobSteps(provider.clone()))
        .explored::<Order, _>(OrderSteps(provider.clone()))
        .explored::<Counter, _>(CounterSteps)
        .explored::<Leaf, _>(TaskSteps(provider.clone()))
        .explored::<Root, _>(TaskSteps(provider.clone()))
        .explored::<Journey, _>(JourneySteps(provider.clone()))
        .saga::<Odd, _>(OddSteps(provider.clone()))
        .build()
}

/// Quick leases and polls.
pub(crate) fn quick() -> WorkerConfig {
    WorkerConfig {
        lease: Duration::from_secs(1),
        poll: Duration::from_millis(100),
        drain: Duration::from_secs(5),
        ..WorkerConfig::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let db = Database::fresh(&[migrations::migrations()]).await;
        let pool = db.pool().clone();
        sqlx::raw_sql(ORDER_TABLES).execute(&pool).await.expect("the tables are new");
        let provider = Provider::in_memory();
        let engine = engine(pool.clone(), &provider);
        Self { db, pool, provider, engine }
    }

    /// Starts a worker; returns once it has begun.
    pub(crate) async fn worker(&self, config: WorkerConfig) -> Worker {
        work_on(&self.engine, config).await
    }

    /// Starts an instance in a transaction of its own and hands it over.
    pub(crate) async fn start<S: Saga>(&self, subject: &str, input: S::Input) -> Uuid {
        self.start_with::<S>(Start::new(subject, input)).await
    }

    /// The same with options.
    pub(crate) async fn start_with<S: Saga>(&self, start: Start<S::Input>) -> Uuid {
        let mut tx = self.engine.begin().await.expect("the database is there");
        let started = self.engine.start::<S>(&mut tx, start).await.expect("it can be started");
        tx.commit().await.expect("the database is there");
        started.id
    }

    /// Gives a signal in a transaction of its own.
    pub(crate) async fn signal<S: Saga>(
        &self,
        id: Uuid,
        signal_id: &str,
        signal: S::Signal,
    ) -> stepwise_engine::Answer {
        let mut tx = self.pool.begin().await.expect("the database is there");
        let answer = self.engine.signal::<S>(&mut tx, id, signal_id, signal).await;
        tx.commit().await.expect("the database is there");
        answer.expect("it can be signalled")
    }

    /// Gives an instruction in a transaction of its own.
    pub(crate) async fn operate(&self, id: Uuid, order: &Instruction) -> Operated {
        let mut tx = self.pool.begin().await.expect("the database is there");
        let operated = self.engine.operate(&mut tx, id, order).await;
        tx.commit().await.expect("the database is there");
        operated.expect("the database is there")
    }

    pub(crate) async fn see(&self, id: Uuid) -> Seen {
        see(&self.pool, id).await
    }

    /// Waits until the instance has ended or needs a person.
    pub(crate) async fn ended(&self, id: Uuid) -> Seen {
        self.until(id, "an end", |seen| {
            matches!(seen.status.as_str(), "completed" | "unwound" | "stuck" | "abandoned")
        })
        .await
    }

    /// Nobody answers this operation until somebody forgets the script.
    pub(crate) fn silence(&self, op: &str) {
        self.provider.script(op, vec![Behaviour::SilentBefore; 100_000]);
    }

    /// The deadline of the test sagas' steps passes while that operation is [silent](World::silence), and the instance ends.
    pub(crate) async fn given_up(&self, id: Uuid, op: &str) -> Seen {
        self.asked(op, 3).await;
        Clock::of(&self.pool).advance(crate::deadlines::HOUR).await;
        let seen = self.ended(id).await;
        self.provider.forget_script();
        seen
    }

    pub(crate) async fn until(&self, id: Uuid, what: &str, holds: impl Fn(&Seen) -> bool) -> Seen {
        let mut last = None;
        eventually(what, async || {
            let seen = self.see(id).await;
            let is = holds(&seen);
            last = Some(seen);
            is
        })
        .await;
        last.expect("it was seen at least once")
    }

    /// Waits for the nth request of that operation to arrive at the provider.
    pub(crate) async fn asked(&self, op: &str, times: usize) {
        eventually(&format!("{times} x {op}"), async || self.provider.requests(op).len() >= times)
            .await;
    }

    /// The requests for that operation that the provider got on behalf of this instance.
    pub(crate) fn requests_of(&self, op: &str, id: Uuid) -> usize {
        let requests = self.provider.requests(op);
        requests.iter().filter(|request| request.key.contains(&id.to_string())).count()
    }

    /// The journal as (kind, step, event).
    pub(crate) async fn journal(&self, id: Uuid) -> Vec<(String, Option<i32>, Option<String>)> {
        sqlx::query_as(
            "-- name: test journal
            select kind, step_no, event::text from saga.journal where saga_id = $1 order by seq, at",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .expect("the database is there")
    }

    /// The ledger as (step, status, reference).
    pub(crate) async fn effects(&self, id: Uuid) -> Vec<(i32, String, Option<String>)> {
        sqlx::query_as(
            "-- name: test effects
            select step_no, status, reference from saga.effect where saga_id = $1 order by step_no",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .expect("the database is there")
    }

    /// Nothing may be left that nobody would ever look at again. Ends the world.
    pub(crate) async fn close(self) {
        let forgotten = inspect::forgotten(&self.pool).await.expect("the database is there");
        assert!(forgotten.is_empty(), "nobody will ever look at {forgotten:?} again");
        drop(self.engine);
        self.db.close().await;
    }
}

/// An instruction of Ann, with a reason.
pub(crate) fn ann(verb: Verb) -> Instruction {
    Instruction {
        id: Uuid::now_v7().to_string(),
        by: "ann".to_owned(),
        reason: "it is mended".to_owned(),
        verb,
        undo: None,
        seq: None,
    }
}

/// The instruction was followed.
pub(crate) fn applied(operated: &Operated) {
    assert!(matches!(operated, Operated::Applied(_)), "{operated:?}");
}

pub(crate) async fn work_on(engine: &Engine, config: WorkerConfig) -> Worker {
    let stop = CancellationToken::new();
    let working = tokio::spawn(work(engine.clone(), config, stop.clone().cancelled_owned()));
    eventually("a worker", async || engine.room() > 0).await;
    Worker { stop, working }
}

pub(crate) async fn see(pool: &PgPool, id: Uuid) -> Seen {
    sqlx::query_as(
        "-- name: test see
        select status, waiting_on, state::text, undos::text, reason::text, attempt, last_error, epoch, seq, owner
        from saga.instance where saga_id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await
    .expect("the instance is there")
}

/// Waits for a condition; fails with its name after [`PATIENCE`].
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
