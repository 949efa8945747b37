//! The port and password of the private cluster, in a file that only its owner can read.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::ClusterError;

/// The name of the cluster's superuser and of its database.
pub(super) const NAME: &str = "stepwise";

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) port: u16,
    pub(super) password: String,
    #[serde(skip)]
    path: PathBuf,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the saved port and password, or chooses new ones if there is no cluster yet.
    pub(super) fn load_or_make(folder: &Path, exists: bool) -> Result<Self, ClusterError> {
        let path = folder.join("access.json");
        let damaged = |reason| ClusterError::Damaged { path: path.clone(), reason };
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Self>(&text) {
                Ok(access) => Ok(Self { path, ..access }),
                Err(_) => Err(damaged("is not the JSON that was written there")),
            },
            Err(_) if exists => Err(damaged("is missing")),
            Err(_) => {
                let password = hex::encode(rand::random::<[u8; 24]>());
                let access =
                    Self { port: free_port().map_err(ClusterError::at(&path))?, password, path };
                access.save()?;
                Ok(access)
            }
        }
    }

    pub(super) fn is_not_the_clusters(&self) -> ClusterError {
        let path = self.path.clone();
        ClusterError::Damaged { path, reason: "does not hold the password of the running server" }
    }

    /// Chooses another port and saves it.
    pub(super) fn move_away(&mut self) -> Result<(), ClusterError> {
        self.port = free_port().map_err(ClusterError::at(&self.path))?;
        self.save()
    }

    /// Saves the file. It is written under another name and renamed, so that a kill leaves either the old file or the new one.
    fn save(&self) -> Result<(), ClusterError> {
        let written = self.path.with_extension("new");
        let text = serde_json::to_vec(self).expect("a number and a text are valid JSON");
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&written)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&written, &self.path)
        };
        write().map_err(ClusterError::at(&self.path))
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        self.maintenance().database(NAME)
    }

    /// Options for the database `postgres`, which always exists.
    pub(super) fn maintenance(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(NAME)
            .password(&self.password)
            .ssl_mode(PgSslMode::Disable)
            .database("postgres")
    }

    /// It says that there is no TLS, because a variable such as `PGSSLMODE` would ask for it.
    pub(super) fn url(&self) -> String {
        let Self { port, password, .. } = self;
        format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{NAME}?sslmode=disable")
    }
}

fn free_port() -> std::io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}
