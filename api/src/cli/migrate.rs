//! `stepwise migrate` and `stepwise check`.

use super::{Failure, database, settings::Settings};

/// Applies what is missing.
pub(super) async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let db = database::connect(settings, 2).await?;
    stepwise_engine::migrations::migrate(&db).await?;
    stepwise_workflows::migrations::migrate(&db).await?;
    println!("the database is up to date");
    Ok(())
}

/// Tells whether this binary may work on this database.
pub(super) async fn check(settings: &Settings) -> Result<(), Failure> {
    let db = database::connect(settings, 2).await?;
    stepwise_engine::migrations::verify(&db).await?;
    stepwise_workflows::migrations::verify(&db).await?;
    println!("this version fits the database");
    Ok(())
}
