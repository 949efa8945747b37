//! A private Postgres cluster, as durable as any other: for `stepwise up` on a machine with nothing
//! set up but the server's programs.
//!
//! The folder holds `data/` (the cluster), `access.json` (port and password, for the owner only),
//! `log` and `lock`. The server listens on loopback with a password.
//!
//! It runs in a session of its own, so that killing our whole process group leaves a sound server
//! and not orphaned backends. The next start finds it: a server whose working directory is ours is
//! attached to again; one that is starting, recovering or stopping is waited for; a note left by a
//! dead one is removed, after what that server left running has been ended. `lock` is held while we
//! live, hence there is never a second starter.
//!
//! A start that fails, or that is told to stop, leaves no server behind. A server that does not stop
//! when told to is killed: the next start recovers what it had committed.
//!
//! Postgres refuses to run as root, so root hands it to the owner of the data, or to `postgres` or
//! `nobody`. That user need not be able to reach the folder, which may lie below one that only root
//! may enter: the server gets an open handle of its data directory (see `account`).

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

/// The oldest major version that will do.
pub const OLDEST_MAJOR: u32 = 15;

/// A running cluster of our own. Dropping it leaves the server running for the next start.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    binaries: Binaries,
    account: Account,
    access: Access,
    server: Server,
    attached: bool,
    /// Held for as long as we live.
    _lock: File,
}

/// Why there is no cluster. Every text is one line that says what to do.
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
        /// `15 or later`, or the version the data is of.
        needed: String,
        /// What is there.
        found: String,
    },
    /// The folder cannot be made or written.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    NotWritable {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process runs a cluster there.
    #[error("another stepwise is running on the data directory {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// As root: nobody to hand the server to.
    #[error("PostgreSQL does not run as root: {reason}, or give --database-url")]
    NoAccount {
        /// What is missing.
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
    /// What is there is not what we left.
    #[error("the data directory is damaged: {} {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Told to stop before the server was there.
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
    /// Starts the cluster in `folder`, making it if there is none, or attaches to it if it runs.
    /// Returns once it accepts connections.
    pub async fn start(folder: &Path) -> Result<Self, ClusterError> {
        Self::start_unless(&CancellationToken::new(), folder).await
    }

    /// The same, unless `stop` comes first. When it fails, no server is left running.
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

    /// Returns when the server has ended, which nobody told it to.
    pub async fn died(&mut self) {
        self.server.gone().await;
    }

    /// Starts a server that has died again, at the same port, unless `stop` comes first.
    pub async fn restart_unless(&mut self, stop: &CancellationToken) -> Result<(), ClusterError> {
        let Self { folder, binaries, account, access, .. } = self;
        processes::end(&folder.join("data")).await;
        let place = Place { binaries, account: *account, folder };
        self.server = Server::start(stop, place, Port::TheSame, access).await?;
        Ok(())
    }

    /// Where clients connect, with the password.
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// How clients of this process connect.
    pub fn options(&self) -> PgConnectOptions {
        self.access.options()
    }

    /// Whether the server was running already.
    pub fn was_running(&self) -> bool {
        self.attached
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends all sessions and stops the server; returns when it has. One that has not after 8 s is
    /// killed.
    pub async fn stop(self) -> Result<(), ClusterError> {
        self.server.stop(&self.folder.join("data")).await
    }
}

/// A program beside the server's (`psql`, `pgbench`), of the newest version there is.
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

/// The major version an existing cluster is of.
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
