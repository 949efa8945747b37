//! Every crash point of a saga, tried on a real Postgres.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Database,
    trial::{Trial, ended, engine, must_balance, runtime},
};
use crate::{
    base::status::Status,
    run::work::work,
    worker::{
        config::WorkerConfig,
        engine::Engine,
        hooks::{Hooks, Site},
        perform::Services,
    },
};

/// The crashes that were survived.
#[derive(Debug)]
pub struct Survived {
    /// How many crash points of each kind there were.
    pub at: BTreeMap<Site, usize>,
    /// How many commits the database refused, each once.
    pub refused: usize,
    /// How the runs ended, each way once.
    pub ends: Vec<Status>,
}

/// Runs the trial once per crash point: the worker stops dead before or after a claim, a call, or a commit (so: before an effect, after
/// an effect that nobody heard of, before and after writing it down), its process is gone with all its connections, another one
/// takes over, and the books must balance. The last of these runs has no crash. Then once per transaction that a transition has for
/// itself: the database refuses it the first time, as in a deadlock, and the same worker goes on.
///
/// Call it from a plain `#[test]`: processes are runtimes of their own here. A run takes about 100 ms.
///
/// # Panics
/// When the saga is not sound, a run does not end within 20 seconds or its books do not balance; the message names the crash point.
pub fn survives_every_crash<T: Trial>(trial: &T) -> Survived {
    let home = runtime();
    let database = home.block_on(async {
        let database = Database::fresh(&trial.migrations()).await;
        trial.prepare(database.pool()).await;
        database
    });
    let (mut at, mut ends) = (BTreeMap::new(), Vec::new());
    for run in 1.. {
        let crash = Crash::at(run);
        let process = Process { trial, options: database.options(), run };
        let (id, ended) = process.live(&crash);
        let site = crash.site();
        let point = site.map_or("no crash".to_owned(), |site| format!("crash {run}, {site:?}"));
        println!("{point}");
        let end = ended.unwrap_or_else(|| process.live_again(id, &point));
        if !ends.contains(&end) {
            ends.push(end);
        }
        let Some(site) = site else { break };
        *at.entry(site).or_insert(0) += 1;
    }
    let mut refused = 0;
    for nth in 1.. {
        let (commits, run) = (Arc::new(AtomicUsize::new(0)), 1_000 + nth);
        let counted = commits.clone();
        let refuses = move || counted.fetch_add(1, Ordering::SeqCst) + 1 == nth;
        let hooks = Hooks { refuses_commit: Some(Arc::new(refuses)), ..Hooks::default() };
        let process = Process { trial, options: database.options(), run };
        let point = format!("commit {nth} refused");
        let end = process.live_on(hooks, &point);
        if commits.load(Ordering::SeqCst) < nth {
            break;
        }
        println!("{point}");
        refused += 1;
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    home.block_on(database.close());
    Survived { at, refused, ends }
}

/// A process: it has a runtime and connections of its own, and nothing of it outlives it.
struct Process<'a, T> {
    trial: &'a T,
    options: PgConnectOptions,
    run: usize,
}

impl<T: Trial> Process<'_, T> {
    /// Starts the instance; ends with the crash or with the instance, whose books are looked at then.
    fn live(&self, crash: &Arc<Crash>) -> (Uuid, Option<Status>) {
        let stops_at = crash.clone();
        let hooks = Hooks {
            stops_at: Some(Arc::new(move |site| stops_at.is_at(site))),
            ..Hooks::default()
        };
        let runtime = runtime();
        let lived = runtime.block_on(async {
            let engine = self.work(hooks).await;
            let id = self.trial.start(&engine, self.run).await;
            tokio::select! {
                () = crash.happened() => (id, None),
                end = self.end(&engine, id, "no crash") => (id, Some(end)),
            }
        });
        // Whatever stands at an await is gone; its transactions with it.
        runtime.shutdown_timeout(Duration::from_secs(1));
        lived
    }

    /// Starts the instance and lives to its end.
    fn live_on(&self, hooks: Hooks, point: &str) -> Status {
        let runtime = runtime();
        let end = runtime.block_on(async {
            let engine = self.work(hooks).await;
            let id = self.trial.start(&engine, self.run).await;
            self.end(&engine, id, point).await
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        end
    }

    fn live_again(&self, id: Uuid, point: &str) -> Status {
        let runtime = runtime();
        let end = runtime.block_on(async {
            let engine = self.work(Hooks::default()).await;
            self.end(&engine, id, point).await
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        end
    }

    /// A worker that takes over at once what its predecessor of the same name held.
    async fn work(&self, hooks: Hooks) -> Engine {
        let pool = PgPoolOptions::new().max_connections(6).connect_lazy_with(self.options.clone());
        let engine =
            engine(self.trial, pool.clone(), Services(Arc::new(self.trial.services(pool))));
        let config = WorkerConfig {
            name: "trial".to_owned(),
            sole: true,
            poll: Duration::from_millis(20),
            batchers: 1,
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

    async fn end(&self, engine: &Engine, id: Uuid, point: &str) -> Status {
        self.trial.play(engine, id).await;
        let end = ended(engine.pool(), id, point, || std::future::ready(())).await;
        must_balance(self.trial, engine, id, end.status, point).await;
        end.status
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
