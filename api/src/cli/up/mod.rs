//! `stepwise up`: runs everything on this machine from one command.
//!
//! `up` first checks everything that it can refuse without starting anything (settings, folder, port).
//! It then starts the database and the broker, the schema and the demo shop, the gateway, and the parts
//! of this process. When all of it works, it writes `demo.json` and prints commands to try. It stops
//! everything in the opposite order, also when a later step fails or a signal arrives in between. If the
//! database or the gateway dies, `up` starts it again.
//!
//! `up` may be killed at any moment. The next start finds the database and the gateway again, and its
//! worker, which has the same name for each start in a folder, claims its earlier instances at once.

mod cluster;
mod demo;
mod sandbox;

use std::{sync::Arc, time::Duration};

use stepwise_adapters::{keystore::FileKeyStore, rabbitmq::Address};
use stepwise_engine::{WorkerConfig, outbox::Relay};
use stepwise_workflows::sagas;
use tokio::net::TcpListener;

use self::{cluster::ClusterProcess, demo::Demo, sandbox::GatewayProcess};
use super::{
    Failure, Shutdown,
    broker::{self, Broker},
    database::{Database, Role},
    doctor,
    folder::Folder,
    gateway, keys,
    parts::{self, Parts},
    quarantine, serve,
    settings::Settings,
    shop::{self, GatewayAddress, Opened},
};

/// The settings, folder, address and shutdown signal, which are known before anything is started.
struct Site<'s> {
    settings: &'s Settings,
    folder: Folder,
    /// The address at which a client on this machine reaches the shop.
    base_url: String,
    shutdown: Shutdown,
}

impl Site<'_> {
    /// The address at which clients reach the shop.
    fn public_url(&self) -> &str {
        self.settings.network.public_url.as_deref().unwrap_or(&self.base_url)
    }
}

/// How long the worker's running attempts may take once the worker is told to stop. The database is stopped after them, all within 30 s.
const DRAIN: Duration = Duration::from_secs(17);
/// How long all parts of the process may take to stop.
const ENOUGH: Duration = Duration::from_secs(19);

/// Runs everything until the process is told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let broker = broker::address(settings)?;
    let given = GatewayAddress::given(settings)?;
    let folder = Folder::open(&settings.data_dir)?;
    let _hold = folder.hold()?;
    let (listener, address) = parts::listen(settings).await?;
    let base_url = parts::base_url(address);
    let site = Site { settings, folder, base_url, shutdown: Shutdown::on_signal()? };
    let stop = site.shutdown.token();
    let cluster = match settings.database_url {
        Some(_) => None,
        None => match ClusterProcess::start(&site.folder, &stop).await {
            Ok(cluster) => Some(cluster),
            Err(_) if stop.is_cancelled() => return Ok(()),
            Err(failure) => return Err(failure),
        },
    };
    let done = with_cluster(&site, listener, cluster.as_ref(), broker, given).await;
    let Some(cluster) = cluster else { return done };
    tracing::info!("stopping the database");
    done.and(cluster.stop().await)
}

async fn with_cluster(
    site: &Site<'_>,
    listener: TcpListener,
    cluster: Option<&ClusterProcess>,
    broker: Option<Address>,
    gateway: Option<GatewayAddress>,
) -> Result<(), Failure> {
    let stop = site.shutdown.token();
    let Some(ground) = stop.run_until_cancelled(Ground::open(site, cluster, broker)).await else {
        return Ok(());
    };
    let ground = ground?;
    // Until the database is told to stop.
    let _watched = ground.database.watch();
    match gateway {
        Some(gateway) => run_parts(site, listener, ground, gateway).await,
        None => {
            let webhooks = format!("{}{}", site.base_url, gateway::WEBHOOK_PATH);
            let process = GatewayProcess::start(&site.folder, &webhooks).await?;
            let done = match GatewayAddress::sandbox(site.settings, &process.url()) {
                Ok(gateway) => run_parts(site, listener, ground, gateway).await,
                Err(failure) => Err(failure),
            };
            process.stop().await;
            done
        }
    }
}

/// The database, keys and broker, which all parts use.
struct Ground {
    database: Database,
    database_url: String,
    keys: FileKeyStore,
    broker: Broker,
}

impl Ground {
    /// Opens the database, migrates it to this version, and opens the customers' keys and the broker.
    async fn open(
        site: &Site<'_>,
        cluster: Option<&ClusterProcess>,
        broker: Option<Address>,
    ) -> Result<Self, Failure> {
        let database = match cluster {
            Some(cluster) => Database::at(cluster.options()).await?,
            None => Database::given(site.settings).await?,
        };
        database.has_room_for(Role::Everything).await?;
        database.migrate().await?;
        database.verify_sagas().await?;
        let keys_pool = database.keys_pool();
        let keys = keys::open(&site.folder, &keys_pool).await?;
        shop::check_currency(site.settings, &keys_pool).await?;
        let (pool, url) = (database.broker_pool(), site.public_url());
        let broker = broker::open(broker, Arc::new(keys.clone()), pool, url).await?;
        if cluster.is_some() {
            // Only this `up` uses the cluster, so the holders of these leases are dead.
            let pool = database.relay_pool();
            Relay::free_all(&pool).await?;
            pool.close().await;
        }
        let url = cluster.map(ClusterProcess::url).or_else(|| site.settings.database_url.clone());
        Ok(Self { database, database_url: url.unwrap_or_default(), keys, broker })
    }
}

async fn run_parts(
    site: &Site<'_>,
    listener: TcpListener,
    ground: Ground,
    gateway: GatewayAddress,
) -> Result<(), Failure> {
    let stop = site.shutdown.token();
    match stop.run_until_cancelled(open_parts(site, listener, ground, gateway)).await {
        Some(parts) => parts?.run(ENOUGH).await,
        None => Ok(()),
    }
}

async fn open_parts(
    site: &Site<'_>,
    listener: TcpListener,
    ground: Ground,
    gateway: GatewayAddress,
) -> Result<Parts, Failure> {
    let Site { settings, folder, shutdown, .. } = site;
    let Ground { database, database_url, keys, broker } = ground;
    let opened = shop::open(settings, folder, keys, &gateway, site.public_url())?;
    let readiness = opened.readiness(&gateway);
    let Opened { shop, breaker, paypal, .. } = opened;
    let demo = Demo::prepare(site, &database, &shop).await?;
    let engine = sagas::engine(&shop, database.engine_pool());
    let mut parts = Parts::new(shutdown.token());
    let config = WorkerConfig {
        name: worker_name(folder)?,
        sole: true,
        drain: DRAIN,
        quarantine: Some(quarantine::of(settings, &database_url, &gateway)?),
        retention: settings.keep.engine,
        ..WorkerConfig::default()
    };
    parts.schedules(engine.clone(), settings);
    parts.tidy(engine.clone(), Arc::clone(&shop), folder, settings);
    parts.go_on_with_gateway(engine.clone(), &breaker);
    if let Some((_, breaker)) = &paypal {
        parts.go_on_with_gateway(engine.clone(), breaker);
    }
    parts.work(engine.clone(), config);
    let relay = parts.relay(database.relay_pool(), Arc::clone(&broker.publisher), settings);
    let mut readiness = readiness.with_worker(engine.clone()).with_relay(relay);
    if broker.is_rabbit {
        readiness = readiness.with_broker(Arc::clone(&broker.publisher));
    }
    let paypal = paypal.map(|(paypal, _)| paypal);
    let door_settings = serve::door_settings(settings, folder, paypal)?;
    let door =
        serve::open_door(door_settings, &database, &shop, engine, readiness, shutdown).await?;
    parts.api(listener, door, serve::server_settings(settings, 0));
    demo.publish(site, &database_url, &gateway)?;
    demo.print_welcome(site, &broker);
    doctor::log_faults(settings);
    Ok(parts)
}

/// The worker's name, which is unique to this folder. A new worker of that name may claim the instances of its dead predecessor.
fn worker_name(folder: &Folder) -> Result<String, Failure> {
    Ok(format!("up-{}", folder.secrets()?.name))
}
