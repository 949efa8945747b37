//! `stepwise work`: the engine's worker alone.

use clap::Args as ClapArgs;
use stepwise_engine::WorkerConfig;
use stepwise_workflows::sagas;

use super::{
    Failure, Shutdown,
    database::Database,
    folder::Folder,
    keys,
    parts::{self, Parts},
    quarantine,
    settings::Settings,
    shop::{self, GatewayAddress},
};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// What operators see as its name [default: worker]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Sagas it drives at the same time [default: 4000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    room: Option<u32>,
}

/// Drives until told to stop.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let database = Database::given(settings).await?;
    database.verify().await?;
    let keys = keys::open(&folder, &database.pool("stepwise keys", 1)).await?;
    let shop = shop::open(settings, &folder, keys, &gateway, &parts::shop_url(settings))?;
    let usual = WorkerConfig::default();
    let config = WorkerConfig {
        name: args.name.unwrap_or(usual.name),
        room: args.room.map_or(usual.room, |room| room as usize),
        quarantine: Some(quarantine::of(
            settings,
            settings.database_url.as_deref().unwrap_or_default(),
            &gateway,
        )?),
        ..WorkerConfig::default()
    };
    let mut parts = Parts::new(shutdown.token());
    parts.work(sagas::engine(&shop, database.engine_pool()), config);
    parts.run().await
}
