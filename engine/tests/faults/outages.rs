//! F5 and F6: the database crashes under everybody; sessions are terminated in the middle of something.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPool},
};

use crate::{
    client::Pace,
    provider::Manners,
    stage::{Stage, eventually, size},
};

/// A Postgres of the test's own, gone with it.
struct Cluster {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    fn make() -> Self {
        let name = format!("stepwise-cluster-{}", uuid::Uuid::now_v7().simple());
        let folder = std::env::temp_dir().join(name);
        // Free at this moment, and taken when the server starts.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let cluster = Self { folder, port, server: None };
        assert!(
            cluster.script("make").status().expect("there is a shell").success(),
            "a cluster can be made"
        );
        cluster
    }

    fn script(&self, what: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/cluster.sh");
        let mut command = Command::new(script);
        command.arg(what).arg(&self.folder).stdin(Stdio::null());
        command
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database("postgres")
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server; it is ready afterwards.
    async fn start(&mut self) {
        let log = std::fs::File::create(self.folder.with_extension("log"))
            .expect("the temporary folder can be written");
        let server =
            self.script("run").arg(self.port.to_string()).stdout(Stdio::null()).stderr(log).spawn();
        self.server = Some(server.expect("there is a shell"));
        eventually("the server to be ready", async || {
            PgConnection::connect_with(&self.options()).await.is_ok()
        })
        .await;
    }

    /// As if the machine had lost its power: nothing is written, nobody is told.
    fn crash(&mut self) {
        assert!(
            self.script("crash").status().expect("there is a shell").success(),
            "it is running"
        );
        let ended = self.server.take().map(|mut server| server.wait());
        assert!(ended.is_some_and(|status| status.is_ok()), "it is gone");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() && !std::thread::panicking() {
            self.crash();
        }
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_file(self.folder.with_extension("log"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_go_on_when_the_database_is_back_from_a_crash() {
    let mut cluster = Cluster::make();
    cluster.start().await;
    let pool = PgPool::connect_with(cluster.options()).await.expect("it is ready");
    stepwise_engine::migrate(&pool).await.expect("it is empty");
    pool.close().await;
    let mut stage = Stage::on(cluster.options(), cluster.url(), None, Manners::bad()).await;
    let workers = ["one", "two"].map(|name| stage.worker(name));
    stage.ready(&["one", "two"]).await;
    let load = stage.load(Pace::default());
    let (crashes, mut longest) = (size(3, 60), Duration::ZERO);
    for _ in 0..crashes {
        let up = stage.random.random_range(size(800..2_000, 5_000..40_000));
        tokio::time::sleep(Duration::from_millis(up)).await;
        cluster.crash();
        let down = stage.random.random_range(size(0..700, 0..2_000));
        tokio::time::sleep(Duration::from_millis(down)).await;
        cluster.start().await;
        let back = Instant::now();
        let mut looker = PgConnection::connect_with(&cluster.options()).await.expect("it is ready");
        let began: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("select pg_postmaster_start_time()")
                .fetch_one(&mut looker)
                .await
                .expect("it is ready");
        eventually("both workers to go on", async || {
            let working: i64 = sqlx::query_scalar(
                "-- name: test working
                select count(distinct w.name) from saga.worker w join saga.instance i on i.owner = w.worker_id and i.updated_at > $1
                where w.lease_until > clock_timestamp()",
            )
            .bind(began)
            .fetch_one(&mut looker)
            .await
            .expect("it is ready");
            working == 2
        })
        .await;
        longest = longest.max(back.elapsed());
    }
    load.end().await;
    stage.quiet().await;
    println!("{crashes} crashes, both workers went on within {longest:?} of readiness");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let books = stage.balances(60).await;
    assert!(books.count("completed") > 20, "vacuous");
    assert!(
        stage.log.lock().expect("plain data").counts.lost_commits > 0,
        "vacuous: no client noticed"
    );
    drop(workers);
    stage.close().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_sessions_lose_nothing_and_repeat_nothing() {
    let mut stage = Stage::new(Manners::bad()).await;
    let workers = ["one", "two"].map(|name| stage.worker(name));
    stage.ready(&["one", "two"]).await;
    let mut admin =
        PgConnection::connect_with(&stage.options()).await.expect("the database is there");
    let load = stage.load(Pace::default());
    let (begun, lasts, mut terminated) = (Instant::now(), Duration::from_secs(size(5, 60)), 0);
    // A short run goes on until a client has lost a commit, which is chance.
    let lost = || stage.log.lock().expect("plain data").counts.lost_commits > 0;
    while begun.elapsed() < lasts || !lost() && begun.elapsed() < lasts + Duration::from_secs(60) {
        terminated += sqlx::query_scalar::<_, i64>(
            "-- name: test terminate
            select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() order by random() limit 1) one",
        )
        .fetch_one(&mut admin)
        .await
        .expect("this session is spared");
        tokio::time::sleep(Duration::from_millis(size(100, 200))).await;
    }
    load.end().await;
    stage.quiet().await;
    println!("{terminated} sessions terminated");
    assert!(terminated >= size(25, 250), "vacuous: {terminated} sessions terminated");
    assert!(lost(), "vacuous: no client noticed");
    stage.balances(60).await;
    assert_eq!(stage.logged("taken over from a dead worker"), 0, "nobody was dead");
    drop(workers);
    stage.close().await;
}
