//! `stepwise relay`: the outbox relay alone.

use std::sync::Arc;

use clap::Args as ClapArgs;

use super::{
    Failure, Shutdown, broker,
    database::Database,
    doctor,
    folder::Folder,
    keys,
    parts::{Monitoring, Parts},
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
    database.verify().await?;
    let keys = keys::open(&folder, &database.pool("stepwise keys", 1)).await?;
    let broker = broker::open(address, Arc::new(keys)).await?;
    let mut parts = Parts::new(shutdown.token());
    let relay = parts.relay(database.relay_pool(), Arc::clone(&broker.publisher));
    let mut readiness = Readiness::default().with_relay(relay);
    if broker.is_rabbit {
        readiness = readiness.with_broker(broker.publisher);
    }
    let monitor = Monitor::new(database.pool("stepwise monitor", 1), readiness);
    parts.monitor(settings, &args.monitoring, monitor).await?;
    doctor::tell(settings);
    parts.run().await
}
