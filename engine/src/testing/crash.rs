//! Every crash point of a saga, tried on a real Postgres.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{runtime::Runtime, sync::Notify};
use uuid::Uuid;

use super::Database;
use crate::{
    engine::Engine,
    hooks::{Hooks, Site},
    id::shard_in,
    migrations::migrations,
    status::Status,
    store,
    worker::{WorkerConfig, work},
};

/// After a crash an instance must end within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A saga with its outside world, run once per crash point. The outside (a scripted provider, its book) must live in the trial: it
/// survives the crash, as the real one does.
pub trait Trial: Sync {
    /// The migrations of the trial's database. Default: the engine's.
    fn migrations(&self) -> Vec<Migrator> {
        vec![migrations()]
    }

    /// Fills the database, once.
    fn prepare(&self, _pool: &PgPool) -> impl Future<Output = ()> {
        async {}
    }

    /// An engine that knows the saga. Called for every process that is born.
    fn engine(&self, pool: PgPool) -> Engine;

    /// Starts run number `run`: in a transaction of its own, about a subject of its own, handed over.
    fn start(&self, engine: &Engine, run: usize) -> impl Future<Output = Uuid>;

    /// What the outside does to the instance meanwhile (signals, a clock that moves). After the crash it is done again, so give
    /// signals fixed ids.
    fn play(&self, _engine: &Engine, _id: Uuid) -> impl Future<Output = ()> {
        async {}
    }

    /// The instance has ended or got stuck: do all books balance?
    ///
    /// # Errors
    /// What does not, in words.
    fn balances(
        &self,
        engine: &Engine,
        id: Uuid,
        status: Status,
    ) -> impl Future<Output = Result<(), String>>;
}

/// What was survived.
#[derive(Debug)]
pub struct Survived {
    /// How many crash points of each kind there were.
    pub at: BTreeMap<Site, usize>,
}

/// Runs the trial once per crash point: the worker stops dead before or after a claim, a call, or a commit (so: before an effect, after
/// an effect that nobody heard of, before and after writing it down), its process is gone with all its connections, another one
/// takes over, and the books must balance. The last run has no crash.
///
/// Call it from a plain `#[test]`: processes are runtimes of their own here. A run takes about 100 ms.
///
/// # Panics
/// When a run does not end within 20 seconds or its books do not balance; the message names the crash point.
pub fn survives_every_crash<T: Trial>(trial: &T) -> Survived {
    let home = runtime();
    let database = home.block_on(async {
        let database = Database::fresh(&trial.migrations()).await;
        trial.prepare(database.pool()).await;
        database
    });
    let mut at = BTreeMap::new();
    for run in 1.. {
        let crash = Crash::at(run);
        let process = Process { trial, options: database.options(), run };
        let id = process.live(&crash);
        let site = crash.site();
        let point = site.map_or("no crash".to_owned(), |site| format!("crash {run}, {site:?}"));
        println!("{point}");
        if site.is_some() {
            process.live_again(id, &point);
        }
        let Some(site) = site else { break };
        *at.entry(site).or_insert(0) += 1;
    }
    home.block_on(database.close());
    Survived { at }
}

/// A process: it has a runtime and connections of its own, and nothing of it outlives it.
struct Process<'a, T> {
    trial: &'a T,
    options: PgConnectOptions,
    run: usize,
}

impl<T: Trial> Process<'_, T> {
    /// Starts the instance; ends with the crash or with the instance, whose books are looked at then.
    fn live(&self, crash: &Arc<Crash>) -> Uuid {
        let stops_at = crash.clone();
        let hooks = Hooks {
            stops_at: Some(Arc::new(move |site| stops_at.is_at(site))),
            ..Hooks::default()
        };
        let runtime = runtime();
        let id = runtime.block_on(async {
            let engine = self.work(hooks).await;
            let id = self.trial.start(&engine, self.run).await;
            tokio::select! {
                () = crash.happened() => {}
                status = async {
                    self.trial.play(&engine, id).await;
                    ended(&engine, id, "no crash").await
                } => self.look(&engine, id, status, "no crash").await,
            }
            id
        });
        // Whatever stands at an await is gone; its transactions with it.
        runtime.shutdown_timeout(Duration::from_secs(1));
        id
    }

    fn live_again(&self, id: Uuid, point: &str) {
        let runtime = runtime();
        runtime.block_on(async {
            let engine = self.work(Hooks::default()).await;
            self.trial.play(&engine, id).await;
            let status = ended(&engine, id, point).await;
            self.look(&engine, id, status, point).await;
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
    }

    /// A worker that takes over at once what its predecessor of the same name held.
    async fn work(&self, hooks: Hooks) -> Engine {
        let pool = PgPoolOptions::new().max_connections(6).connect_lazy_with(self.options.clone());
        let engine = self.trial.engine(pool);
        let config = WorkerConfig {
            name: "trial".to_owned(),
            sole: true,
            poll: Duration::from_millis(20),
            lanes: 1,
            room: 64,
            hooks,
            ..WorkerConfig::default()
        };
        tokio::spawn(work(engine.clone(), config, std::future::pending()));
        while engine.room() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        engine
    }

    async fn look(&self, engine: &Engine, id: Uuid, status: Status, point: &str) {
        if let Err(why) = self.trial.balances(engine, id, status).await {
            panic!("{point}: {why} (the instance is {})", status.as_str());
        }
    }
}

async fn ended(engine: &Engine, id: Uuid, point: &str) -> Status {
    let begun = Instant::now();
    loop {
        let row = store::instance(engine.pool(), shard_in(id), id)
            .await
            .expect("a trial's database answers")
            .expect("a started instance is there");
        if row.status.is_final() || row.status.needs_operator() {
            return row.status;
        }
        assert!(begun.elapsed() < PATIENCE, "{point}: no end within {PATIENCE:?}: {row:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Strikes at the nth site; from then on everything stands still.
struct Crash {
    nth: usize,
    sites: AtomicUsize,
    struck: AtomicBool,
    site: std::sync::OnceLock<Site>,
    told: Notify,
}

impl Crash {
    fn at(nth: usize) -> Arc<Self> {
        Arc::new(Self {
            nth,
            sites: AtomicUsize::new(0),
            struck: AtomicBool::new(false),
            site: std::sync::OnceLock::new(),
            told: Notify::new(),
        })
    }

    fn is_at(&self, site: Site) -> bool {
        if self.sites.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            let _ = self.site.set(site);
            self.struck.store(true, Ordering::SeqCst);
            self.told.notify_one();
        }
        self.struck.load(Ordering::SeqCst)
    }

    async fn happened(&self) {
        self.told.notified().await;
    }

    fn site(&self) -> Option<Site> {
        self.site.get().copied()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a machine that runs tests has threads")
}
