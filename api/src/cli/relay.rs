//! `stepwise relay`: the outbox relay alone.

use std::sync::Arc;

use super::{
    Failure, Shutdown, broker, database::Database, folder::Folder, keys, parts::Parts,
    settings::Settings,
};

/// Publishes until told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let address = broker::address(settings)?;
    let folder = Folder::open(&settings.data_dir)?;
    let database = Database::given(settings).await?;
    database.verify().await?;
    let keys = keys::open(&folder, &database.pool("stepwise keys", 1)).await?;
    let broker = broker::open(address, Arc::new(keys)).await?;
    let mut parts = Parts::new(shutdown.token());
    parts.relay(database.relay_pool(), broker.publisher);
    parts.run().await
}
