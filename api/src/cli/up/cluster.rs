//! The database that `up` runs: `up` starts it or finds it running, and starts it again when it dies.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use stepwise_adapters::postgres::{Cluster, ClusterError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::{Failure, folder::Folder};

/// The delay between two attempts to start a database again.
const AGAIN: Duration = Duration::from_secs(1);

/// A running database, which is started again when it dies.
pub(super) struct ClusterProcess {
    url: String,
    options: PgConnectOptions,
    watched: JoinHandle<Cluster>,
    stop: CancellationToken,
}

impl ClusterProcess {
    /// Finds the running database of this folder or starts it, unless `stop` is cancelled first. Leaves no database running if it fails.
    pub(super) async fn start(folder: &Folder, stop: &CancellationToken) -> Result<Self, Failure> {
        let started = Cluster::start_unless(stop, &folder.join("postgres")).await;
        let cluster = started.map_err(|error| match error {
            ClusterError::NoBinaries
            | ClusterError::OtherVersion { .. }
            | ClusterError::NoAccount { .. } => Failure::dependency(error.to_string()),
            ClusterError::NotWritable { .. }
            | ClusterError::InUse { .. }
            | ClusterError::Failed { .. }
            | ClusterError::Damaged { .. }
            | ClusterError::Stopped => {
                Failure::failed("the database of the data directory cannot start", error)
            }
        })?;
        let (url, options) = (cluster.url(), cluster.options());
        let stop = CancellationToken::new();
        let watched = tokio::spawn(watch(cluster, stop.clone()));
        Ok(Self { url, options, watched, stop })
    }

    /// The database's address, with the password.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// The options for connecting to the database.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Stops the database and returns when it has ended.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        let stopping = async {
            match self.watched.await {
                Ok(cluster) => cluster.stop().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        stopping.await.map_err(|error| Failure::failed("cannot stop the database", error))
    }
}

/// Starts the database again, at the same port, each time it dies, until told to stop.
async fn watch(mut cluster: Cluster, stop: CancellationToken) -> Cluster {
    while stop.run_until_cancelled(cluster.died()).await.is_some() {
        tracing::warn!("the database died; starting it again");
        let died = Instant::now();
        let mut logged = false;
        while !stop.is_cancelled() {
            match cluster.restart_unless(&stop).await {
                Ok(()) => {
                    let seconds = died.elapsed().as_secs_f64();
                    tracing::info!(seconds, "the database was started again");
                    break;
                }
                Err(error) => {
                    if !logged && !stop.is_cancelled() {
                        tracing::error!(%error, "cannot start the database again; trying until it starts");
                        logged = true;
                    }
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
            }
        }
    }
    cluster
}
