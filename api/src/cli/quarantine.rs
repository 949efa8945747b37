//! `stepwise quarantine`: drives each saga of a dead worker by one step, in a process that such a step may kill. Workers start it, not
//! people.

use std::path::PathBuf;

use reqwest::Url;
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

/// The command with which a worker of these settings starts a quarantine process. The process gets all settings, since it drives the sagas as the
/// worker would. They stand in variables, because other users of the machine can read a command line.
pub(super) fn of(
    settings: &Settings,
    database_url: &str,
    gateway: &GatewayAddress,
) -> Result<Quarantine, Failure> {
    // On Linux this finds the program even after its file was replaced.
    let itself = PathBuf::from("/proc/self/exe");
    let program = if itself.exists() {
        itself
    } else {
        std::env::current_exe()
            .map_err(|error| Failure::failed("cannot find the executable of this program", error))?
    };
    let paypal = gateway.paypal().map(Url::as_str);
    let environment = settings.environment(database_url, gateway.cards().as_str(), paypal)?;
    Ok(Quarantine::by(move || {
        let mut command = Command::new(&program);
        command.arg("quarantine").envs(environment.clone());
        command
    }))
}

/// Drives the sagas that the parent process names on standard input, and ends.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let database = Database::given(settings).await?;
    let keys = keys::open(&folder, &database.keys_pool()).await?;
    let opened = shop::open(settings, &folder, keys, &gateway, &parts::shop_url(settings))?;
    let shop = opened.shop;
    let engine = sagas::engine(&shop, database.engine_pool());
    quarantined(engine, WorkerConfig::default())
        .await
        .map_err(|error| Failure::failed("cannot drive the sagas of the dead worker", error))
}
