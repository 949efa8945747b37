//! `stepwise up`: everything on this machine, from one command.
//!
//! In this order: what can be refused without starting anything (settings, folder, port); the
//! database and the broker; schema and demo shop; the gateway; the parts of this process; and, when
//! all of it works, `demo.json` and what to try next. What was started is stopped in the opposite
//! order, also when a later step fails.
//!
//! Killed at any moment, it leaves a database and a gateway that the next start finds again, and
//! instances that its worker, which bears a name of its own per folder, takes back at once.

mod demo;
mod sandbox;

use std::sync::Arc;

use stepwise_adapters::{
    keystore::FileKeyStore,
    postgres::{Cluster, ClusterError},
    rabbitmq::Address,
};
use stepwise_engine::{WorkerConfig, outbox::Relay};
use stepwise_workflows::sagas;
use tokio::net::TcpListener;

use self::{demo::Demo, sandbox::GatewayProcess};
use super::{
    Failure, Shutdown,
    broker::{self, Broker},
    database::Database,
    doctor,
    folder::Folder,
    gateway, keys,
    parts::{self, Parts},
    quarantine, serve,
    settings::Settings,
    shop::{self, GatewayAddress},
};
use crate::readiness::Readiness;

/// What is settled before anything is started.
struct Site<'s> {
    settings: &'s Settings,
    folder: Folder,
    base_url: String,
    shutdown: Shutdown,
}

/// Runs everything until told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let broker = broker::address(settings)?;
    let given = GatewayAddress::given(settings)?;
    let folder = Folder::open(&settings.data_dir)?;
    let _hold = folder.hold()?;
    let (listener, address) = parts::listen(settings).await?;
    let base_url = parts::base_url(address);
    let site = Site { settings, folder, base_url, shutdown: Shutdown::on_signal()? };
    let cluster = start_cluster(&site).await?;
    let done = with_cluster(&site, listener, cluster.as_ref(), broker, given).await;
    if let Some(cluster) = cluster {
        tracing::info!("stopping the database");
        let stopped = cluster.stop().await;
        done.and(stopped.map_err(|error| Failure::failed("the database did not stop", error)))
    } else {
        done
    }
}

/// Our own database, unless there is one of the user's.
async fn start_cluster(site: &Site<'_>) -> Result<Option<Cluster>, Failure> {
    if site.settings.database_url.is_some() {
        return Ok(None);
    }
    Cluster::start(&site.folder.join("postgres")).await.map(Some).map_err(|error| match error {
        ClusterError::NoBinaries
        | ClusterError::OtherVersion { .. }
        | ClusterError::NoAccount { .. } => Failure::dependency(error.to_string()),
        ClusterError::NotWritable { .. }
        | ClusterError::InUse { .. }
        | ClusterError::Failed { .. }
        | ClusterError::Damaged { .. } => {
            Failure::failed("the database of the data directory cannot start", error)
        }
    })
}

async fn with_cluster(
    site: &Site<'_>,
    listener: TcpListener,
    cluster: Option<&Cluster>,
    broker: Option<Address>,
    gateway: Option<GatewayAddress>,
) -> Result<(), Failure> {
    let database = match cluster {
        Some(cluster) => Database::at(cluster.options()).await?,
        None => Database::given(site.settings).await?,
    };
    database.migrate().await?;
    database.verify_sagas().await?;
    let keys = keys::open(&site.folder, &database.pool("stepwise keys", 1)).await?;
    let broker = broker::open(broker, Arc::new(keys.clone())).await?;
    if cluster.is_some() {
        // The cluster is ours alone, so whoever held these leases is dead.
        let pool = database.relay_pool();
        Relay::free_all(&pool).await?;
        pool.close().await;
    }
    let database_url = cluster
        .map_or_else(|| site.settings.database_url.clone().unwrap_or_default(), Cluster::url);
    match gateway {
        Some(gateway) => {
            run_parts(site, listener, &database, keys, broker, gateway, database_url).await
        }
        None => {
            let webhooks = format!("{}{}", site.base_url, gateway::WEBHOOK_PATH);
            let process = GatewayProcess::start(&site.folder, &webhooks).await?;
            let done = match GatewayAddress::parse(&process.url()) {
                Ok(gateway) => {
                    run_parts(site, listener, &database, keys, broker, gateway, database_url).await
                }
                Err(failure) => Err(failure),
            };
            process.stop().await;
            done
        }
    }
}

async fn run_parts(
    site: &Site<'_>,
    listener: TcpListener,
    database: &Database,
    keys: FileKeyStore,
    broker: Broker,
    gateway: GatewayAddress,
    database_url: String,
) -> Result<(), Failure> {
    let Site { settings, folder, base_url, shutdown } = site;
    let shop = shop::open(settings, folder, keys, &gateway, base_url)?;
    let demo = Demo::prepare(site, database, &shop).await?;
    let engine = sagas::engine(&shop, database.engine_pool());
    let mut parts = Parts::new(shutdown.token());
    let config = WorkerConfig {
        name: worker_name(folder)?,
        sole: true,
        quarantine: Some(quarantine::of(settings, &database_url, &gateway)?),
        ..WorkerConfig::default()
    };
    parts.work(engine.clone(), config);
    let relay = parts.relay(database.relay_pool(), Arc::clone(&broker.publisher));
    let (host, port) = gateway.host_and_port();
    let mut readiness =
        Readiness::default().with_worker(engine.clone()).with_relay(relay).with_gateway(host, port);
    if broker.is_rabbit {
        readiness = readiness.with_broker(Arc::clone(&broker.publisher));
    }
    let door =
        serve::open_door(settings, folder, database, &shop, engine, readiness, shutdown).await?;
    parts.api(listener, door, serve::server_settings(settings, 0));
    demo.publish(site, &database_url, &gateway)?;
    demo.invite(site, &broker);
    doctor::tell(settings);
    parts.run().await
}

/// A name that only this folder's worker bears, so that its dead predecessor's instances are free.
fn worker_name(folder: &Folder) -> Result<String, Failure> {
    Ok(format!("up-{}", folder.secrets()?.name))
}
