//! `stepwise relay`: the outbox relay alone.

use std::sync::Arc;

use clap::Args as ClapArgs;

use super::{
    Failure, Shutdown, broker,
    database::{Database, Role},
    doctor,
    folder::Folder,
    keys,
    parts::{ENOUGH, Monitoring, Parts},
    settings::Settings,
};
use crate::{monitor::Monitor, readiness::Readiness};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    monitoring: Monitoring,
}

/// Publishes until told to stop.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let address = broker::address(settings)?;
    let folder = Folder::open(&settings.data_dir)?;
    let database = Database::given(settings).await?;
    database.has_room_for(Role::Relay).await?;
    database.verify().await?;
    database.watch();
    let keys = keys::open(&folder, &database.keys_pool()).await?;
    let broker = broker::open(address, Arc::new(keys)).await?;
    let mut parts = Parts::new(shutdown.token());
    let relay = parts.relay(database.relay_pool(), Arc::clone(&broker.publisher));
    let mut readiness = Readiness::default().with_relay(relay);
    if broker.is_rabbit {
        readiness = readiness.with_broker(broker.publisher);
    }
    let monitor = Monitor::new(database.monitor_pool(), readiness);
    parts.monitor(settings, &args.monitoring, monitor).await?;
    doctor::tell(settings);
    parts.run(ENOUGH).await
}
