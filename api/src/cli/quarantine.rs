//! `stepwise quarantine`: drives each saga of a dead worker by one step, in a process that such a step may kill. Workers start it, not
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

/// The command with which a worker of these settings starts a quarantine process.
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
    let mut environment = vec![
        ("STEPWISE_DATABASE_URL", database_url.into()),
        ("STEPWISE_GATEWAY_URL", gateway.cards().as_str().into()),
        ("STEPWISE_DATA_DIR", settings.data_dir.clone().into_os_string()),
        ("STEPWISE_LOG", settings.log.clone().into()),
        ("STEPWISE_PAYPAL_APPROVAL", settings.paypal_approval.as_secs().to_string().into()),
        (
            "STEPWISE_VERIFICATION_REMINDER",
            settings.verification_reminder.as_secs().to_string().into(),
        ),
        (
            "STEPWISE_TAX_RETENTION_YEARS",
            (settings.tax_retention.as_secs() / 31_557_600).to_string().into(),
        ),
    ];
    let prices = settings.prices.environment();
    environment.extend(prices.into_iter().map(|(name, value)| (name, value.into())));
    if let Some(url) = &settings.network.public_url {
        environment.push(("STEPWISE_PUBLIC_URL", url.into()));
    }
    if let Some(url) = gateway.paypal() {
        environment.push(("STEPWISE_PAYPAL_URL", url.as_str().into()));
    }
    for (name, secret) in [
        ("STEPWISE_GATEWAY_KEY", &settings.gateway_key),
        ("STEPWISE_PAYPAL_SECRET", &settings.paypal_secret),
    ] {
        if let Some(secret) = secret {
            environment.push((name, secret.expose_secret().into()));
        }
    }
    for (name, id) in [
        ("STEPWISE_PAYPAL_CLIENT_ID", &settings.paypal_client_id),
        ("STEPWISE_PAYPAL_WEBHOOK_ID", &settings.paypal_webhook_id),
    ] {
        if let Some(id) = id {
            environment.push((name, id.into()));
        }
    }
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
