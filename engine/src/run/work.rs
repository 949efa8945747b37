//! Running a worker: from one lease row to its end, with everything that runs beside its drivers.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    database::{Failure, in_time, trouble::Trouble},
    saga::terms::Retry,
    upkeep::{partitions, pass, pause, retain},
    worker::{
        batcher::Batcher,
        claim,
        config::{Assignment, Retention, WorkerConfig},
        driving::Suspect,
        engine::Engine,
        lease, quarantine,
        state::{Opening, Worker},
    },
};

/// How long to wait before the next worker after one that could not begin.
const AGAIN: Retry = Retry { base: Duration::from_millis(200), cap: Duration::from_secs(2) };

/// Runs a worker until `shutdown` resolves, then drains it: attempts in flight finish, and all other instances are released.
///
/// # Errors
/// When the database refuses the first worker for good, for example because it has no tables. If the database is away, the worker waits for it, at the
/// start as later.
pub async fn work(
    engine: Engine,
    config: WorkerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), sqlx::Error> {
    let stop = CancellationToken::new();
    let ended = stop.clone();
    let waiter = tokio::spawn(async move {
        shutdown.await;
        ended.cancel();
    });
    let trouble = Trouble::new("the worker cannot begin; trying again");
    let (mut is_first, mut failed) = (true, 0);
    let ended = loop {
        // A lease that was lost (a pause longer than it) ends the worker; a new one begins with a lease row of its own.
        match run_one(&engine, &config, stop.child_token(), None, &trouble).await {
            Ok(()) => (is_first, failed) = (false, 0),
            Err(refusal @ sqlx::Error::Database(_))
                if is_first && !Failure::of(&refusal).is_worth_retrying() =>
            {
                break Err(refusal);
            }
            Err(error) => {
                trouble.begin_with(&error);
                failed += 1;
                stop.run_until_cancelled(tokio::time::sleep(AGAIN.delay(failed))).await;
            }
        }
        if stop.is_cancelled() {
            break Ok(());
        }
    };
    waiter.abort();
    ended
}

/// Runs one worker, from its lease row to the end of that row. A quarantined worker drives only the instances of its `assignment`.
pub(crate) async fn run_one(
    engine: &Engine,
    config: &WorkerConfig,
    stop: CancellationToken,
    assignment: Option<Assignment>,
    trouble: &Trouble,
) -> Result<(), sqlx::Error> {
    let tasks = TaskTracker::new();
    let (incoming, handed) = mpsc::unbounded_channel();
    let handed = Arc::new(Mutex::new(handed));
    let (for_quarantine, suspects) = mpsc::unbounded_channel();
    let lease = lease::register(engine.pool(), &engine.kinds(), config).await?;
    let worker_id = lease.worker_id;
    let paused =
        in_time(pause::paused(engine.pool())).await?.into_iter().map(|one| one.name).collect();
    let mode = config.hooks.mode();
    // The batchers outlive the drain: the last commits go through them.
    let drained = CancellationToken::new();
    let batchers = (0..config.batchers.max(1))
        .map(|_| Batcher::start(engine.pool().clone(), mode, &tasks, drained.clone()))
        .collect();
    let one_step = assignment.is_some();
    let opening = Opening {
        lease,
        paused,
        batchers,
        incoming,
        suspects: for_quarantine,
        one_step,
        stop: stop.clone(),
    };
    let worker = Worker::open(engine, config, opening);
    engine.begin_worker(&worker);
    trouble.end();
    tracing::info!(%worker_id, name = config.name, room = config.room, "the worker has begun");
    let loops = Loops::start(&worker, config, assignment, suspects);
    let running = async {
        crate::worker::backend::run(worker.clone(), handed.clone(), config.drain).await;
        stop.cancel();
    };
    let stopping = async {
        stop.cancelled().await;
        tokio::time::Instant::now() + config.drain
    };
    let ((), until) = tokio::join!(running, stopping);
    engine.end_worker(&worker);
    loops.end(&worker, &handed, until).await;
    drained.cancel();
    lease::sign_off(&worker.lease, &worker.pool).await;
    tracing::info!(%worker_id, "the worker has ended");
    Ok(())
}

/// The tasks that run beside the drivers as long as a worker lasts.
struct Loops {
    renewing: JoinHandle<()>,
    listening: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    claiming: JoinHandle<()>,
    upkeep: Option<JoinHandle<()>>,
    quarantine: Option<JoinHandle<()>>,
}

/// Renews the lease until it is lost.
async fn renewing(worker: Arc<Worker>) {
    lease::renew(&worker.lease, &worker.pool).await;
    worker.lost();
}

async fn housekeeping(worker: Arc<Worker>, retention: Retention) {
    tokio::join!(partitions::run(worker.clone()), retain::run(worker, retention));
}

impl Loops {
    fn start(
        worker: &Arc<Worker>,
        config: &WorkerConfig,
        assignment: Option<Assignment>,
        suspects: mpsc::UnboundedReceiver<Suspect>,
    ) -> Self {
        let each = || worker.clone();
        Self {
            renewing: tokio::spawn(renewing(each())),
            listening: tokio::spawn(claim::listen(each())),
            housekeeping: tokio::spawn(housekeeping(each(), config.retention)),
            upkeep: assignment.is_none().then(|| tokio::spawn(pass::run(each(), config.poll))),
            claiming: match assignment {
                Some(assignment) => tokio::spawn(claim::suspects(each(), assignment)),
                None => tokio::spawn(claim::run(each(), config.poll)),
            },
            quarantine: config
                .quarantine
                .clone()
                .map(|quarantine| tokio::spawn(quarantine::run(each(), quarantine, suspects))),
        }
    }

    /// Stops the worker. The lease is renewed until its drivers, here and in quarantine, are done.
    async fn end(
        self,
        worker: &Arc<Worker>,
        handed: &crate::worker::driving::Handed,
        until: tokio::time::Instant,
    ) {
        self.listening.abort();
        self.housekeeping.abort();
        // The claim loop hands out nothing after `stop`; instances that it claimed at that moment are released.
        let _ = self.claiming.await;
        if let Some(upkeep) = self.upkeep {
            let _ = upkeep.await;
        }
        worker.drained(handed, until).await;
        if let Some(mut quarantine) = self.quarantine
            && tokio::time::timeout_at(until, &mut quarantine).await.is_err()
        {
            // Its child process is killed with it; the child's instances wait until its lease runs out.
            quarantine.abort();
        }
        self.renewing.abort();
    }
}
