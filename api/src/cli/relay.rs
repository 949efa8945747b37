//! `stepwise relay`: the outbox relay alone.

use std::sync::Arc;

use stepwise_adapters::keystore::FileKeyStore;

use super::{
    Failure, Shutdown, broker, database::Database, folder::Folder, parts::Parts, settings::Settings,
};

/// Publishes until told to stop.
pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signal()?;
    let address = broker::address(settings)?;
    let folder = Folder::open(&settings.data_dir)?;
    let keys = FileKeyStore::open(&folder.join("keys")).map_err(|error| {
        Failure::failed("cannot open the customers' keys in the data directory", error)
    })?;
    let database = Database::given(settings).await?;
    database.verify().await?;
    let broker = broker::open(address, Arc::new(keys)).await?;
    let mut parts = Parts::new(shutdown.token());
    parts.relay(database.relay_pool(), broker.publisher);
    parts.run().await
}
