//! `stepwise serve`: the front door alone.

use std::sync::Arc;

use stepwise_engine::Engine;
use stepwise_workflows::{Shop, sagas};

use super::{
    Failure, Shutdown,
    database::Database,
    folder::Folder,
    keys,
    parts::{self, Parts},
    settings::Settings,
    shop::{self, GatewayAddress},
};
use crate::{
    door::{Door, DoorSettings, limits::Rates},
    readiness::Readiness,
};

/// Serves until told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let (listener, address) = parts::listen(settings).await?;
    let base_url = parts::base_url(address);
    let database = Database::given(settings).await?;
    database.verify().await?;
    let keys = keys::open(&folder, &database.pool("stepwise keys", 1)).await?;
    let shop = shop::open(settings, &folder, keys, &gateway, &base_url)?;
    let engine = sagas::engine(&shop, database.engine_pool());
    let (host, port) = gateway.host_and_port();
    let readiness = Readiness::default().with_gateway(host, port);
    let door = open_door(settings, &folder, &database, &shop, engine, readiness, &shutdown).await?;
    let mut parts = Parts::new(shutdown.token());
    parts.api(listener, door);
    tracing::info!(%base_url, "the front door is open");
    parts.run().await
}

/// Opens the front door over these.
pub(super) async fn open_door(
    settings: &Settings,
    folder: &Folder,
    database: &Database,
    shop: &Arc<Shop>,
    engine: Engine,
    readiness: Readiness,
    shutdown: &Shutdown,
) -> Result<Arc<Door>, Failure> {
    let rates = if settings.rate_limit == 0 {
        Rates::OFF
    } else {
        Rates { per_caller_s: settings.rate_limit, ..Rates::default() }
    };
    let secret = match &settings.webhook_secret {
        Some(secret) => secret.clone(),
        None => folder.secrets()?.webhook_secret.into(),
    };
    let environment = settings.environment.clone();
    let door_settings = DoorSettings { environment, rates, webhook_secrets: vec![secret] };
    let (db, stop) = (database.api_pool(), shutdown.token());
    Ok(Arc::new(Door::open(db, Arc::clone(shop), engine, door_settings, readiness, stop).await?))
}
