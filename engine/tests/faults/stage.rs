//! One fault test's world: a database, the outside, clients, worker processes, and waits that name what is missing.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use stepwise_engine::{Engine, migrations, testing::Database};
use uuid::Uuid;

use crate::{
    books::{Books, Seen, instances},
    client::{Load, Log, Pace},
    letter::OLD,
    outside::Outside,
    provider::{Manners, Provider},
    sagas,
    told::{Role, Sabotage, Told},
};

/// No wait is longer, at the small size.
const PATIENCE: Duration = Duration::from_secs(60);

/// The domain of the purchases; the last item is scarce.
const TABLES: &str = "-- name: test tables
create schema test;
create table test.purchase (subject text primary key, item integer not null, status text not null);
create table test.stock (item integer primary key, on_hand integer not null, reserved integer not null default 0,
    constraint reserved_is_on_hand check (reserved between 0 and on_hand));
insert into test.stock (item, on_hand) select item, 200000 from generate_series(0, 6) item union all select 7, 5;";

/// `STEPWISE_FAULTS=full` asks for the stated size.
pub(crate) fn size<T>(small: T, full: T) -> T {
    if std::env::var("STEPWISE_FAULTS").is_ok_and(|size| size == "full") { full } else { small }
}

pub(crate) struct Stage {
    pub(crate) pool: PgPool,
    pub(crate) engine: Engine,
    pub(crate) provider: Provider,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) random: StdRng,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
    options: PgConnectOptions,
    url: String,
    database: Option<Database>,
}

impl Stage {
    /// On the Postgres of `DATABASE_URL`. Prints its seed; `STEPWISE_SEED` repeats it.
    pub(crate) async fn new(manners: Manners) -> Self {
        let database = Database::fresh(&[migrations::migrations()]).await;
        let (options, url) = (database.options(), database.url());
        Self::on(options, url, Some(database), manners).await
    }

    /// On that database, which has the engine's migrations.
    pub(crate) async fn on(
        options: PgConnectOptions,
        url: String,
        database: Option<Database>,
        manners: Manners,
    ) -> Self {
        let seed = std::env::var("STEPWISE_SEED")
            .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
        println!("STEPWISE_SEED={seed}");
        let folder =
            std::env::temp_dir().join(format!("stepwise-faults-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.clone());
        sqlx::raw_sql(TABLES).execute(&pool).await.expect("the tables are new");
        let socket = folder.join("outside");
        let provider = Provider::at(&socket, manners, seed);
        let engine = sagas::engine(pool.clone(), &Outside(socket), None, OLD);
        let random = StdRng::seed_from_u64(seed);
        Self {
            pool,
            engine,
            provider,
            log: Arc::default(),
            random,
            seed,
            folder,
            options,
            url,
            database,
        }
    }

    /// Clients begin to work.
    pub(crate) fn load(&mut self, pace: Pace) -> Load {
        Load::begin(&self.engine, &self.log, self.random.random(), pace)
    }

    /// Settings of a worker that is to be quick about everything.
    pub(crate) fn told(&self, name: &str) -> Told {
        Told {
            name: name.to_owned(),
            database: self.url.clone(),
            outside: self.folder.join("outside"),
            role: Role::Work,
            lease: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            poll: Duration::from_millis(500),
            sole: false,
            abort_at: None,
            sabotage: None,
            release: OLD,
            quarantine: false,
        }
    }

    /// Starts a worker; [`Stage::ready`] waits until it has begun.
    pub(crate) fn worker(&self, name: &str) -> Process {
        Process::start(self, &self.told(name), &[])
    }

    pub(crate) fn saboteur(&self, name: &str, sabotage: Sabotage) -> Process {
        Process::start(self, &Told { sabotage: Some(sabotage), ..self.told(name) }, &[])
    }

    /// Waits until a worker of each of these names holds a lease.
    pub(crate) async fn ready(&self, names: &[&str]) {
        for name in names {
            eventually(&format!("{name} to begin"), async || self.worker_id(name).await.is_some())
                .await;
        }
    }

    /// The newest living worker of that name.
    pub(crate) async fn worker_id(&self, name: &str) -> Option<Uuid> {
        sqlx::query_scalar(
            "-- name: test worker
            select worker_id from saga.worker where name = $1 and lease_until > clock_timestamp() order by started_at desc limit 1",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .expect("the database is there")
    }

    pub(crate) async fn instances(&self) -> Vec<Seen> {
        instances(&self.pool).await.expect("the database is there")
    }

    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.pool).await.expect("the database is there")
    }

    /// Instances that have neither ended nor got stuck.
    pub(crate) async fn open(&self) -> i64 {
        self.count(
            "-- name: test open
            select count(*) from saga.instance where status not in ('completed', 'unwound', 'stuck')",
        )
        .await
    }

    /// Waits until nothing moves any more: all instances have ended or are stuck, the provider is not busy.
    pub(crate) async fn quiet(&self) {
        eventually("all instances to end", async || self.open().await == 0).await;
        eventually("the provider to be quiet", async || self.provider.is_quiet()).await;
    }

    /// The same, where what was sabotaged may never be quiet: false if it is not after that time.
    pub(crate) async fn quiet_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.quiet()).await.is_ok()
    }

    /// The three books, joined. Call it after [`Stage::quiet`].
    pub(crate) async fn books(&self) -> Books {
        let known = self.log.lock().expect("plain data").started.clone();
        Books::join(&self.pool, known, self.provider.book(), self.provider.receipts())
            .await
            .expect("the database is there")
    }

    /// Joins the books, prints the counters and fails with every difference. `least` of the instances must have completed, of 100.
    pub(crate) async fn balances(&self, least: usize) -> Books {
        let books = self.books().await;
        let faults = books.faults();
        let counts = self.log.lock().expect("plain data").counts.clone();
        let (completed, unwound, stuck) =
            (books.count("completed"), books.count("unwound"), books.count("stuck"));
        println!(
            "{completed} completed, {unwound} unwound, {stuck} stuck; {counts:?}; provider: {:?}",
            self.provider.moods()
        );
        assert!(
            faults.is_empty(),
            "seed {}, {} differences, the first: {:#?}\nlogs: {}",
            self.seed,
            faults.len(),
            &faults[..faults.len().min(10)],
            self.folder.display()
        );
        assert_eq!(stuck, 0, "nobody needs a person here");
        let all = completed + unwound;
        assert!(
            completed * 100 >= all * least && all > 0,
            "vacuous: {completed} of {all} completed"
        );
        books
    }

    /// How often a worker of this test logged that text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.lines(text).len()
    }

    /// The text that follows this one in the logs of this test's workers.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).expect("the folder is the test's");
        files
            .filter_map(|file| {
                let path = file.ok()?.path();
                let is_log = path.extension().is_some_and(|extension| extension == "log");
                is_log.then(|| std::fs::read_to_string(&path).ok()).flatten()
            })
            .flat_map(|log| {
                let behind =
                    |line: &str| line.split_once(text).map(|(_, behind)| behind.to_owned());
                log.lines().filter_map(behind).collect::<Vec<_>>()
            })
            .collect()
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Ends the test well; one that fails leaves its folder with the workers' logs.
    pub(crate) async fn close(self) {
        self.pool.close().await;
        if let Some(database) = self.database {
            database.close().await;
        }
        drop(self.provider);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A worker or a relay in a process of its own, which does not outlive the test.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
}

impl Process {
    /// Starts the example that lies beside this test; its log goes to the test's folder.
    pub(crate) fn start(stage: &Stage, told: &Told, environment: &[(&str, &str)]) -> Self {
        let test = std::env::current_exe().expect("a test is a program");
        let target = test.ancestors().nth(2).expect("it lies in target/<profile>/deps");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(stage.folder.join(format!("{}.log", told.name)))
            .expect("the folder is the test's");
        let child = Command::new(target.join("examples/faults_worker"))
            .arg(serde_json::to_string(told).expect("plain data"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the example is built: cargo build -p stepwise-engine --examples");
        Self { name: told.name.clone(), child }
    }

    /// SIGKILL; it is gone afterwards.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is gone");
    }

    /// Sends `-STOP`, `-CONT` or `-TERM`.
    pub(crate) fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill command").success(), "{} is there", self.name);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(&format!("{} to end", self.name), async || {
            status = self.status();
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// Whether it has ended, and how.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone or not: the test is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition; fails with its name after [`PATIENCE`] (an hour at the stated size).
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let (begun, patience) = (Instant::now(), size(PATIENCE, 10 * PATIENCE));
    while !holds().await {
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The ids of instances that a worker owns.
pub(crate) async fn owned(stage: &Stage, worker: Uuid) -> HashSet<Uuid> {
    let owned: Vec<Uuid> = sqlx::query_scalar(
        "-- name: test owned\nselect saga_id from saga.instance where owner = $1",
    )
    .bind(worker)
    .fetch_all(&stage.pool)
    .await
    .expect("the database is there");
    owned.into_iter().collect()
}
