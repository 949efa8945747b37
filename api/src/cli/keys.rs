//! Opens the customers' keys. The key store in the data folder must be the one that belongs to the database.

use std::path::Path;

use sqlx::PgPool;
use stepwise_adapters::keystore::FileKeyStore;
use stepwise_workflows::privacy::{
    KeyStoreError,
    belonging::{self, Stranger},
};

use super::{Failure, folder::Folder};

/// The store's folder in the data folder.
pub(super) const FOLDER: &str = "keys";

/// Opens the key store of this folder for this database. Creates it only if the database has never been used with a key store.
pub(super) async fn open(folder: &Folder, db: &PgPool) -> Result<FileKeyStore, Failure> {
    let place = folder.join(FOLDER);
    let keys = match belonging::recorded(db).await? {
        Some(_) => FileKeyStore::find(&place)
            .map_err(|error| cannot_open(&error))?
            .ok_or_else(|| stranger(&place, "there are no customers' keys"))?,
        None => FileKeyStore::open(&place).map_err(|error| cannot_open(&error))?,
    };
    match belonging::claim(db, keys.fingerprint(), &keys).await {
        Ok(()) => Ok(keys),
        Err(Stranger::OtherStore) => Err(stranger(&place, "the keys belong to another database")),
        Err(Stranger::LacksKey(customer)) => {
            Err(stranger(&place, &format!("the key of customer {customer} is missing")))
        }
        Err(Stranger::Keys(error)) => Err(cannot_open(&error)),
        Err(Stranger::Database(error)) => Err(error.into()),
    }
}

fn stranger(place: &Path, what: &str) -> Failure {
    Failure::dependency(format!(
        "{what} in {}; start with the --data-dir that has the keys of this database's customers, or restore them \
         from their backup",
        place.display()
    ))
}

fn cannot_open(error: &KeyStoreError) -> Failure {
    Failure::failed("cannot open the customers' keys in the data directory", error)
}
