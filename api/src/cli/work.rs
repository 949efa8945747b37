//! `stepwise work`: runs the engine's worker alone.

use clap::Args as ClapArgs;
use stepwise_engine::WorkerConfig;
use stepwise_workflows::sagas;

use super::{
    Failure, Shutdown,
    database::{Database, Role},
    doctor,
    folder::Folder,
    keys,
    parts::{self, ENOUGH, Monitoring, Parts},
    quarantine,
    settings::Settings,
    shop::{self, GatewayAddress, Opened},
};

use crate::monitor::Monitor;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Name of this worker, which operators see: one line of at most 100 characters [default: worker]
    #[arg(long, value_name = "NAME", value_parser = super::token::one_line)]
    name: Option<String>,
    /// Number of sagas that this worker drives at the same time [default: 4000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    room: Option<u32>,
    #[command(flatten)]
    monitoring: Monitoring,
}

/// Runs a worker until the process is told to stop.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let folder = Folder::open(&settings.data_dir)?;
    let gateway = GatewayAddress::given_or_noted(settings, &folder)?;
    let database = Database::given(settings).await?;
    database.has_room_for(Role::Worker).await?;
    database.verify().await?;
    let _watched = database.watch();
    let keys_pool = database.keys_pool();
    shop::check_currency(settings, &keys_pool).await?;
    let keys = keys::open(&folder, &keys_pool).await?;
    let shop_url = parts::shop_url(settings);
    let opened = shop::open(settings, &folder, keys, &gateway, &shop_url)?;
    let readiness = opened.readiness(&gateway);
    let Opened { shop, breaker, paypal, .. } = opened;
    let usual = WorkerConfig::default();
    let config = WorkerConfig {
        name: args.name.unwrap_or(usual.name),
        room: args.room.map_or(usual.room, |room| room as usize),
        quarantine: Some(quarantine::of(
            settings,
            settings.database_url.as_deref().unwrap_or_default(),
            &gateway,
        )?),
        retention: settings.keep.engine,
        ..WorkerConfig::default()
    };
    let mut parts = Parts::new(shutdown.token());
    let engine = sagas::engine(&shop, database.engine_pool());
    let readiness = readiness.with_worker(engine.clone());
    let monitor = Monitor::new(database.monitor_pool(), readiness);
    parts.monitor(settings, &args.monitoring, monitor).await?;
    parts.schedules(engine.clone(), settings);
    parts.tidy(engine.clone(), shop, &folder, settings);
    parts.go_on_with_gateway(engine.clone(), &breaker);
    if let Some((_, breaker)) = &paypal {
        parts.go_on_with_gateway(engine.clone(), breaker);
    }
    parts.work(engine, config);
    doctor::log_faults(settings);
    parts.run(ENOUGH).await
}
