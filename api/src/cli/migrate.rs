//! `stepwise migrate` and `stepwise check`.

use super::{Failure, database::Database, settings::Settings};

/// Applies what is missing.
pub(super) async fn migrate(settings: &Settings) -> Result<(), Failure> {
    Database::given(settings).await?.migrate().await?;
    println!("the database is up to date");
    Ok(())
}

/// Tells whether this binary may work on this database.
pub(super) async fn check(settings: &Settings) -> Result<(), Failure> {
    let database = Database::given(settings).await?;
    database.verify().await?;
    database.verify_sagas().await?;
    println!("this version fits the database");
    Ok(())
}
