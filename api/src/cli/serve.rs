//! `stepwise serve`: runs the front door alone.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stepwise_adapters::paypal::PayPal;
use stepwise_engine::Engine;
use stepwise_workflows::{Shop, sagas};

use super::{
    Failure, Shutdown,
    database::{Database, Role},
    doctor,
    folder::Folder,
    keys,
    parts::{self, ENOUGH, Parts},
    settings::Settings,
    shop::{self, GatewayAddress, Opened},
};
use crate::{
    door::{Door, DoorSettings, limits::Rates},
    readiness::Readiness,
    server::{ConnectionLimits, ServerSettings},
};

/// Seconds that load balancers have to notice that the process is about to end.
const STOP_DELAY_S: u32 = 2;
/// File descriptors reserved for other things than clients' connections: database, broker and files.
const OTHER_DESCRIPTORS: u64 = 200;

/// Serves requests until the process is told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let (listener, address) = parts::listen(settings).await?;
    let local_url = parts::base_url(address);
    let base_url = settings.network.public_url.clone().unwrap_or(local_url);
    let database = Database::given(settings).await?;
    database.has_room_for(Role::FrontDoor).await?;
    database.verify().await?;
    let _watched = database.watch();
    let keys_pool = database.keys_pool();
    shop::check_currency(settings, &keys_pool).await?;
    let keys = keys::open(&folder, &keys_pool).await?;
    let opened = shop::open(settings, &folder, keys, &gateway, &base_url)?;
    let readiness = opened.readiness(&gateway);
    let Opened { shop, paypal, .. } = opened;
    let engine = sagas::engine(&shop, database.engine_pool());
    let paypal = paypal.map(|(paypal, _)| paypal);
    let door_settings = door_settings(settings, &folder, paypal)?;
    let door = open_door(door_settings, &database, &shop, engine, readiness, &shutdown).await?;
    let mut parts = Parts::new(shutdown.token());
    parts.api(listener, door, server_settings(settings, STOP_DELAY_S));
    tracing::info!(%base_url, "the front door is open");
    doctor::log_faults(settings);
    parts.run(ENOUGH).await
}

/// The server's settings. `stop_delay_s` applies if the settings have no stop delay.
pub(super) fn server_settings(settings: &Settings, stop_delay_s: u32) -> ServerSettings {
    let mut connections = ConnectionLimits::default();
    if let Some(most) = settings.connections_per_address {
        connections.per_address = most as usize;
    }
    let descriptors = raise_descriptor_limit().map(|limit| limit.saturating_sub(OTHER_DESCRIPTORS));
    if let Some(most) = descriptors.and_then(|most| usize::try_from(most).ok()) {
        connections.total = connections.total.min(most.max(1));
    }
    let stop_delay = Duration::from_secs(settings.stop_delay_s.unwrap_or(stop_delay_s).into());
    ServerSettings { connections, stop_delay, ..ServerSettings::default() }
}

/// Raises this process's limit of open files as far as allowed, and returns it. `None` means no limit.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The settings of the front door.
pub(super) fn door_settings(
    settings: &Settings,
    folder: &Folder,
    paypal: Option<PayPal>,
) -> Result<DoorSettings, Failure> {
    let rates = if settings.rate_limit == 0 {
        Rates::OFF
    } else {
        let usual = Rates::default();
        let per_address_s = settings.address_rate_limit.unwrap_or(usual.per_address_s);
        Rates { per_caller_s: settings.rate_limit, per_address_s, ..usual }
    };
    let secret = match &settings.webhook_secret {
        Some(secret) => secret.clone(),
        None => folder.secrets()?.webhook_secret.into(),
    };
    let environment = settings.environment.clone();
    let network = settings.network.clone();
    Ok(DoorSettings {
        environment,
        rates,
        webhook_secrets: vec![secret],
        paypal,
        public_url: network.public_url,
        allowed_origins: network.allowed_origins,
        proxies: network.proxies,
    })
}

/// Opens the front door of this shop and engine.
pub(super) async fn open_door(
    settings: DoorSettings,
    database: &Database,
    shop: &Arc<Shop>,
    engine: Engine,
    readiness: Readiness,
    shutdown: &Shutdown,
) -> Result<Arc<Door>, Failure> {
    let (db, stop) = (database.api_pool(), shutdown.token());
    Ok(Arc::new(Door::open(db, Arc::clone(shop), engine, settings, readiness, stop).await?))
}
