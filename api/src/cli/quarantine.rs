//! `stepwise quarantine`: one step of each saga that a dead worker held, in a process that may die of it. Started by workers, not by
//! people.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use stepwise_engine::{
    WorkerConfig,
    quarantine::{Quarantine, quarantined},
};
use stepwise_workflows::sagas;
use tokio::process::Command;

use super::{
    Failure,
    database::Database,
    folder::Folder,
    keys, parts,
    settings::Settings,
    shop::{self, GatewayAddress},
};

/// How a worker with these settings starts such a process.
pub(super) fn of(
    settings: &Settings,
    database_url: &str,
    gateway: &GatewayAddress,
) -> Result<Quarantine, Failure> {
    // On Linux this finds the program also after its file was replaced.
    let itself = PathBuf::from("/proc/self/exe");
    let program = if itself.exists() {
        itself
    } else {
        std::env::current_exe()
            .map_err(|error| Failure::failed("the program does not find itself", error))?
    };
    let mut environment = vec![
        ("STEPWISE_DATABASE_URL", database_url.into()),
        ("STEPWISE_GATEWAY_URL", gateway.as_str().into()),
        ("STEPWISE_DATA_DIR", settings.data_dir.clone().into_os_string()),
        ("STEPWISE_LOG", settings.log.clone().into()),
    ];
    if let Some(key) = &settings.gateway_key {
        environment.push(("STEPWISE_GATEWAY_KEY", key.expose_secret().into()));
    }
    Ok(Quarantine::by(move || {
        let mut command = Command::new(&program);
        command.arg("quarantine").envs(environment.clone());
        command
    }))
}

/// Drives what its parent names on standard input, and ends.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let database = Database::given(settings).await?;
    let keys = keys::open(&folder, &database.keys_pool()).await?;
    let (shop, _) = shop::open(settings, &folder, keys, &gateway, &parts::shop_url(settings))?;
    let engine = sagas::engine(&shop, database.engine_pool());
    quarantined(engine, WorkerConfig::default())
        .await
        .map_err(|error| Failure::failed("suspects were not driven", error))
}
