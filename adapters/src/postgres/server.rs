//! The server's process: finds, starts and stops it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::process::Child;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ClusterError;
use super::access::{Access, NAME};
use super::account::{Account, failed};
use super::binaries::Binaries;
use super::processes;

/// The interval between two checks of a server that is starting or stopping.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server may take to start, recovery included.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the orphaned processes of a killed server may take to end.
const ORPHANS: Duration = Duration::from_secs(10);
/// How long a server may take to stop. After that it is killed.
const STOP: Duration = Duration::from_secs(8);
/// The size of a log, in bytes, above which the next start begins a new one.
const LOG_BYTES: u64 = 10_000_000;

/// Settings that override the configuration files: the server is durable and of modest size.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "cluster_name=stepwise",
    "max_connections=200",
    "shared_buffers=256MB",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    // Redo after a crash stays under 10 s.
    "max_wal_size=1GB",
    "checkpoint_timeout=10min",
    "checkpoint_completion_target=0.9",
    // In hot tables rows are deleted as fast as they are inserted.
    "autovacuum_naptime=10s",
    "autovacuum_vacuum_scale_factor=0.05",
    "autovacuum_analyze_scale_factor=0.05",
    "autovacuum_vacuum_cost_delay=0",
    "random_page_cost=1.1",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=%m [%p] ",
    // Statements may carry personal data, and so do the details of errors ("Key (email)=(...) already exists").
    "log_error_verbosity=terse",
    "log_min_error_statement=panic",
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
    "tcp_keepalives_idle=10",
    "tcp_keepalives_interval=5",
    "tcp_keepalives_count=3",
    "tcp_user_timeout=15000",
];

/// The programs, user and folder of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) account: Account,
    pub(super) folder: &'a Path,
}

/// The ports on which a server may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The port of the last start, or any free port if that is in use.
    AnyFree,
    /// Only the port of the last start, because clients know it.
    TheSame,
}

#[derive(Debug)]
pub(super) struct Server {
    pid: u32,
    /// The child process. `None` if an earlier process started the server.
    child: Option<Child>,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Finds the server that runs on this data, and returns once it accepts connections. `None` if no server runs or if it ends
    /// meanwhile. Removes `postmaster.pid` of a dead server whose process id now belongs to another process.
    pub(super) async fn running(
        stop: &CancellationToken,
        data: &Path,
        access: &Access,
    ) -> Result<Option<Self>, ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        let note = data.join("postmaster.pid");
        let mut waits = false;
        while let Some(pid) = noted_pid(&note) {
            if !runs_in(pid, data).await {
                processes::end(data).await;
                drop(std::fs::remove_file(note));
                return Ok(None);
            }
            if stop.is_cancelled() {
                return Err(ClusterError::Stopped);
            }
            match connect(access).await {
                Ok(_) => return Ok(Some(Self { pid, child: None })),
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("28P01") => {
                    return Err(access.is_not_the_clusters());
                }
                Err(_) if Instant::now() > deadline => {
                    return Err(failed("postgres", "the server runs but accepts no connections"));
                }
                Err(_) => {
                    if !waits {
                        tracing::info!(
                            pid,
                            "a database is running on this data and accepts no connections yet; waiting for it"
                        );
                    }
                    waits = true;
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        Ok(None)
    }

    /// Starts a server. If its port is in use and `port` allows it, takes another port.
    pub(super) async fn start(
        stop: &CancellationToken,
        place: Place<'_>,
        port: Port,
        access: &mut Access,
    ) -> Result<Self, ClusterError> {
        let folder = place.folder;
        let begun = Instant::now();
        let log = folder.join("log");
        if std::fs::metadata(&log).is_ok_and(|file| file.len() > LOG_BYTES) {
            drop(std::fs::remove_file(&log));
        }
        loop {
            let before = std::fs::metadata(&log).map_or(0, |file| file.len());
            let mut child = spawn(place, access)?;
            let Some(pid) = child.id() else {
                return Err(failed("postgres", "the server ended at once"));
            };
            let status = loop {
                if let Ok(Some(status)) = child.try_wait() {
                    break status;
                }
                if connect(access).await.is_ok() {
                    return Ok(Self { pid, child: Some(child) });
                }
                if begun.elapsed() > PATIENCE {
                    return Err(failed(
                        "postgres",
                        "the server accepted no connections within 10 minutes",
                    ));
                }
                if stop.is_cancelled() {
                    Self { pid, child: Some(child) }.stop(&folder.join("data")).await?;
                    return Err(ClusterError::Stopped);
                }
                tokio::time::sleep(LOOK).await;
            };
            let said = written_since(&log, before);
            let orphans = said.contains("shared memory block") || said.contains("lock file");
            let in_use = said.contains("Address already in use");
            if in_use && port == Port::AnyFree && begun.elapsed() < ORPHANS {
                access.move_away()?;
            } else if (in_use || orphans) && begun.elapsed() < ORPHANS {
                processes::end(&folder.join("data")).await;
                tokio::time::sleep(LOOK).await;
            } else if said.trim().is_empty() {
                return Err(failed("postgres", &status.to_string()));
            } else {
                return Err(failed("postgres", &said));
            }
        }
    }

    /// Creates the application's database if it does not exist.
    pub(super) async fn ensure_database(&self, access: &Access) -> Result<(), ClusterError> {
        let making = async {
            let mut admin = connect(access).await?;
            let exists: bool = sqlx::query_scalar(
                "-- cluster: is the database there
                 select exists (select from pg_database where datname = $1)",
            )
            .bind(NAME)
            .fetch_one(&mut admin)
            .await?;
            if !exists {
                sqlx::query(AssertSqlSafe(format!("create database {NAME}")))
                    .execute(&mut admin)
                    .await?;
            }
            admin.close().await
        };
        making.await.map_err(|error: sqlx::Error| failed("postgres", &error.to_string()))
    }

    /// Returns when the server has ended.
    pub(super) async fn gone(&mut self) {
        match &mut self.child {
            Some(child) => drop(child.wait().await),
            None => {
                while processes::is_alive(self.pid).await {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Stops the server that runs on this data, if one does.
    pub(super) async fn stop_any(data: &Path) {
        if let Some(pid) = noted_pid(&data.join("postmaster.pid"))
            && runs_in(pid, data).await
            && let Err(error) = (Self { pid, child: None }).stop(data).await
        {
            tracing::warn!(%error, "cannot stop the database; it was left running");
        }
        processes::end(data).await;
    }

    /// Stops the server with a fast shutdown, which ends sessions and writes everything, so that the next start needs no
    /// recovery. A server that does not stop in time is killed and recovers at its next start.
    pub(super) async fn stop(mut self, data: &Path) -> Result<(), ClusterError> {
        processes::signal("INT", &[self.pid]).await;
        if tokio::time::timeout(STOP, self.gone()).await.is_err() {
            tracing::warn!(
                "the database does not stop; it is killed, and recovers at its next start"
            );
            processes::signal("KILL", &[self.pid]).await;
        }
        processes::end(data).await;
        tokio::time::timeout(STOP, self.gone())
            .await
            .map_err(|_| failed("postgres", "the server could not be killed"))
    }
}

fn spawn(place: Place<'_>, access: &Access) -> Result<Child, ClusterError> {
    let Place { binaries, account, folder } = place;
    let (data, log) = (folder.join("data"), folder.join("log"));
    let output =
        OpenOptions::new().append(true).create(true).open(&log).map_err(ClusterError::at(&log))?;
    let errors = output.try_clone().map_err(ClusterError::at(&log))?;
    let mut command = account.command(&binaries.postgres(), &data, None, true);
    command.arg("-D").arg(account.name_of(&data)).arg("-p").arg(access.port.to_string());
    for setting in SETTINGS {
        command.arg("-c").arg(setting);
    }
    command
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors))
        .spawn()
        .map_err(|error| failed("postgres", &error.to_string()))
}

async fn connect(access: &Access) -> Result<PgConnection, sqlx::Error> {
    let options = access.maintenance().disable_statement_logging();
    tokio::time::timeout(Duration::from_secs(2), PgConnection::connect_with(&options))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Whether this process is the server on this data: then the data directory is its working directory.
async fn runs_in(pid: u32, data: &Path) -> bool {
    match std::fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(place) => place == data,
        Err(_) if Path::new("/proc/self").exists() => false,
        // Without /proc, the lock and `postmaster.pid` together have to be enough evidence.
        Err(_) => processes::is_alive(pid).await,
    }
}

/// The process that serves this data according to `postmaster.pid`. `None` if the file is empty or missing.
fn noted_pid(note: &Path) -> Option<u32> {
    std::fs::read_to_string(note).ok()?.lines().next()?.trim().parse().ok()
}

fn written_since(log: &Path, before: u64) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = usize::try_from(before).unwrap_or(0).min(text.len());
    String::from_utf8_lossy(&text[from..]).into_owned()
}
