//! A private, durable Postgres cluster, for `stepwise up` on a machine that has only the server's programs
//! installed.
//!
//! The folder holds `data/` (the cluster), `access.json` (port and password, for the owner only),
//! `log` and `lock`. The server listens on loopback with a password.
//!
//! The server runs in a session of its own, so that killing the whole process group of `up` leaves an intact server and
//! no orphaned backends. The next start finds it. If a server runs in the data directory, the start attaches to it, and
//! waits if it is still starting, recovering or stopping. If the server is dead, the start ends its remaining processes
//! and removes its `postmaster.pid`. A process holds `lock` while it lives, so two processes never start a server at the
//! same time.
//!
//! A start that fails or is told to stop leaves no server running. A server that does not stop in time is killed, and
//! the next start recovers everything that was committed.
//!
//! Postgres refuses to run as root. If this process is root, the server runs as the owner of the data, or as `postgres`
//! or `nobody`. That user needs no access to the folder above: the server gets an open handle of its data directory (see
//! `account`).

mod access;
mod account;
mod binaries;
mod processes;
mod server;

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use access::Access;
use account::Account;
use binaries::Binaries;
use server::{Place, Port, Server};

/// The oldest supported major version.
pub const OLDEST_MAJOR: u32 = 15;

/// A running private cluster. Dropping it leaves the server running for the next start.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    binaries: Binaries,
    account: Account,
    access: Access,
    server: Server,
    attached: bool,
    /// The lock, held for as long as this value exists.
    _lock: File,
}

/// The reason why there is no cluster. Every message is one line that says what to do.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No server programs were found.
    #[error(
        "no PostgreSQL programs found in PATH, pg_config, /usr/lib/postgresql or Homebrew: install \
         them (apt-get install postgresql, brew install postgresql@17) or give --database-url"
    )]
    NoBinaries,
    /// Only programs of an unsuitable version were found.
    #[error(
        "PostgreSQL {needed} is needed, but only {found} was found: install it or give \
         --database-url"
    )]
    OtherVersion {
        /// `15 or later`, or the version of the existing data.
        needed: String,
        /// The versions that were found.
        found: String,
    },
    /// The folder cannot be created or written.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    NotWritable {
        /// The folder or the file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process runs a cluster in this folder.
    #[error("another stepwise is running on the data directory {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// This process runs as root and there is no other user to run the server.
    #[error("PostgreSQL does not run as root: {reason}, or give --database-url")]
    NoAccount {
        /// The remedy, or what is missing.
        reason: &'static str,
    },
    /// A program could not be run or failed.
    #[error("{program} failed: {reason}")]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The line of its output that says why.
        reason: String,
    },
    /// A file in the folder is not as this program wrote it.
    #[error("the data directory is damaged: {} {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault in the file.
        reason: &'static str,
    },
    /// The start was told to stop before the server had started.
    #[error("told to stop while the database was starting")]
    Stopped,
}

impl ClusterError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::NotWritable { path, source }
    }
}

impl Cluster {
    /// Starts the cluster in `folder`, or attaches to it if it runs. Creates it if there is none.
    /// Returns once the server accepts connections.
    pub async fn start(folder: &Path) -> Result<Self, ClusterError> {
        Self::start_unless(&CancellationToken::new(), folder).await
    }

    /// Like [`Self::start`], but gives up when `stop` is cancelled. If it fails, no server is left running.
    pub async fn start_unless(
        stop: &CancellationToken,
        folder: &Path,
    ) -> Result<Self, ClusterError> {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(folder).map_err(ClusterError::at(folder))?;
        let folder = folder.canonicalize().map_err(ClusterError::at(folder))?;
        let lock = take_lock(&folder)?;
        let data = folder.join("data");
        let binaries = Binaries::find(major_of(&data)?).await?;
        let account = Account::choose(&data)?;
        let mut access = Access::load_or_make(&folder, data.exists())?;
        if !data.exists() {
            account.initialize(&binaries, &folder, &access).await?;
        }
        let starting = async {
            let (server, attached) = match Server::running(stop, &data, &access).await? {
                Some(server) => (server, true),
                None => {
                    let place = Place { binaries: &binaries, account, folder: &folder };
                    (Server::start(stop, place, Port::AnyFree, &mut access).await?, false)
                }
            };
            server.ensure_database(&access).await?;
            Ok((server, attached))
        };
        match starting.await {
            Ok((server, attached)) => {
                Ok(Self { folder, binaries, account, access, server, attached, _lock: lock })
            }
            Err(error) => {
                Server::stop_any(&data).await;
                Err(error)
            }
        }
    }

    /// Returns when the server has ended by itself.
    pub async fn died(&mut self) {
        self.server.gone().await;
    }

    /// Starts a dead server again at the same port, but gives up when `stop` is cancelled.
    pub async fn restart_unless(&mut self, stop: &CancellationToken) -> Result<(), ClusterError> {
        let Self { folder, binaries, account, access, .. } = self;
        processes::end(&folder.join("data")).await;
        let place = Place { binaries, account: *account, folder };
        self.server = Server::start(stop, place, Port::TheSame, access).await?;
        Ok(())
    }

    /// The address for clients, with the password.
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// The options with which this process connects.
    pub fn options(&self) -> PgConnectOptions {
        self.access.options()
    }

    /// Whether the server was running already.
    pub fn was_running(&self) -> bool {
        self.attached
    }

    /// The id of the server's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends all sessions and stops the server. Returns when the server has ended. After 8 s it is
    /// killed.
    pub async fn stop(self) -> Result<(), ClusterError> {
        self.server.stop(&self.folder.join("data")).await
    }
}

/// The path of a client program (`psql`, `pgbench`) of the newest installed version.
pub async fn program(name: &str) -> Result<PathBuf, ClusterError> {
    Ok(Binaries::find(None).await?.program(name))
}

fn take_lock(folder: &Path) -> Result<File, ClusterError> {
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(ClusterError::at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ClusterError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ClusterError::NotWritable { path, source }),
    }
}

/// The major version of an existing cluster.
fn major_of(data: &Path) -> Result<Option<u32>, ClusterError> {
    let path = data.join("PG_VERSION");
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(ClusterError::Damaged { path, reason: "does not name a version" }),
        },
        Err(_) if !data.exists() => Ok(None),
        Err(source) => Err(ClusterError::NotWritable { path, source }),
    }
}

#[cfg(test)]
mod tests;
